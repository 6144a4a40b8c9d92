"""What ``kluis demo --vm`` shows that an emulated processor does not keep out: each is run, and works."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from kluis import evidence
from kluis.authority.amd import Processor
from kluis.cli.demo.attempt import Attempt
from kluis.cli.demo.machine_stage import Stage
from kluis.errors import EnclaveDied
from kluis.evidence import SnpEndorsements, TrustAnchors
from kluis.formats import x509
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.command import OWNER
from kluis.formats.tpm.nv import NvAttribute, NvPublic
from kluis.host.proxy import EnclaveProxy
from kluis.tee.doctor import attempts as ways
from kluis.tee.tpm.tpm import Tpm
from kluis.tee.tpm.transport import Transport
from kluis.tee.vm import processor
from kluis.tee.vm.machine import kept, tpm
from kluis.tee.vm.processor import measured

INDEX: Final = 0x01800001
ACCESS: Final = NvAttribute.OWNER_WRITE | NvAttribute.OWNER_READ


def try_limits(stage: Stage) -> Iterator[Attempt]:
    """Run each; one of them was run when the last machine ended."""
    yield _forge_report(stage)
    yield _read_vtpm(stage)
    yield stage.ended


def _forge_report(stage: Stage) -> Attempt:
    """Sign a report for the good machine with the keys in this user's files."""
    chip, data = emulated_processor(), secrets.token_bytes(64)
    report = chip.report(measured.describe_launch(stage.measurement), data)
    vek, ask, ark = x509.split_pem(chip.certificates(), "certificates", most=3)
    claims = evidence.verify(
        report,
        anchors=TrustAnchors.from_pem(stage.root),
        collateral=SnpEndorsements(vek=vek, ask=ask, ark=ark, crl=chip.crl(datetime.now(UTC))),
        now=datetime.now(UTC),
    ).value
    worked = (claims.measurement.value, claims.report_data) == (stage.measurement, data)
    return Attempt(
        "this user",
        "signs a report with the emulated processor's keys, which are its files",
        f"level {claims.level}, the good machine's digest, and no machine ran",
        not worked,
    )


def _read_vtpm(stage: Stage) -> Attempt:
    """Read what a guest left in its vTPM from the memory of swtpm."""
    tried = "reads what a guest keeps in its vTPM from swtpm's memory"
    if os.geteuid() != 0 or shutil.which("swtpm") is None:
        return Attempt("root", tried, "needs root, and swtpm: apt-get install swtpm", None)
    word = secrets.token_bytes(32)
    area = NvPublic(index=INDEX, name_hash=HashId.SHA256, attributes=ACCESS, policy=b"", size=len(word))
    with (
        tpm.power(stage.folder / "tpm", secrets.token_bytes(tpm.KEY_BYTES)) as vtpm,
        Tpm(Transport(vtpm.commands)) as commands,
    ):
        commands.nv_define(area)
        commands.nv_write(INDEX, word, by=OWNER)
        times = ways.by_memory_file(vtpm.pid, word).copies
    return Attempt("root", tried, f"{times} copies of a word of 32 bytes", times == 0)


def end_machine(stage: Stage, enclave: EnclaveProxy) -> Attempt:
    """End a machine under its enclave."""
    kept.stop(stage.name)
    try:
        enclave.greet("Ada")
    except EnclaveDied:
        return Attempt("host", "ends the machine", "its enclave ends with it", False)
    return Attempt("host", "ends the machine", "its enclave still answers", True)


def emulated_processor() -> Processor:
    """The emulated processor, whose keys are this user's files."""
    return processor.load_or_create(kept.lasting() / "processor", datetime.now(UTC))
