"""``kluis demo --vm``: one image outside and in a machine, and attacks by the machine's host."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import kluis
from kluis import evidence
from kluis.appraisal.draft import draft
from kluis.authority.amd import Processor
from kluis.cli import render
from kluis.cli.demo import text
from kluis.cli.demo.attempt import Attempt, expect_refusal
from kluis.cli.demo.machine_stage import MEMORY_MB, Shown, Stage
from kluis.errors import EnclaveDied, InternalError, UnavailableError
from kluis.evidence import Collateral, SnpEndorsements, TrustAnchors
from kluis.formats import x509
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.command import OWNER
from kluis.formats.tpm.nv import NvAttribute, NvPublic
from kluis.host import load
from kluis.tee.backend import Backend
from kluis.tee.drivers.tpm.tpm import Tpm
from kluis.tee.drivers.tpm.transport import Transport
from kluis.tee.image.build import builder
from kluis.tee.measure import image as measure
from kluis.tee.platform.client import Platform
from kluis.tee.vm import processor
from kluis.tee.vm.guest import Guest, building
from kluis.tee.vm.machine import kept, tpm
from kluis.tee.vm.machine.kept import Settings
from kluis.tee.vm.processor import measured

INDEX: Final = 0x01800001
ACCESS: Final = NvAttribute.OWNER_WRITE | NvAttribute.OWNER_READ
OPENING: Final = """\
A confidential virtual machine isolates a whole machine from its host. Kluis runs its platform inside, so \
an image is the same file outside and inside, with the same image id. The machine's processor signs a \
measurement of what booted, and names the key of the platform inside.

This computer has no such processor: one is emulated, and its root is trusted only by naming its file. What \
you see is how evidence is judged; the last section shows whom an emulated processor does not keep out."""
CLOSING: Final = """\
On confidential hardware the processor's vendor holds the keys, and the host cannot sign for it. The image, \
the guest, the policy and the commands are the same."""


def play() -> None:
    """Run the demo and print each step.

    Raises:
        InternalError: an attack succeeded that must not.
        UnavailableError: a program that machines need is missing; with the command that installs it.
    """
    began, found = time.monotonic(), dict[str, Any]()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended so, it cleans up all the same
    _say(text.paragraph(OPENING))
    with tempfile.TemporaryDirectory(prefix="kluis-demo-") as name, Platform.connect().held():
        stage = Stage(Path(name))
        _outside(stage, found)
        tried = list(_shown(_inside(stage, found)))
        _say(text.heading(5, "What an emulated processor does NOT keep out"))
        limits = list(_shown(_limits(stage), limit=True))
    signal.signal(signal.SIGTERM, before)
    _say("\n" + text.paragraph(CLOSING))
    found |= {"attempts": [vars(each) for each in tried], "limits": [vars(each) for each in limits]}
    found["seconds"] = round(time.monotonic() - began, 1)
    if render.wants_json():
        render.out(found, "")
    else:
        _say(f"\n{found['seconds']} seconds; nothing was left behind")
    if worked := [each.tried for each in tried if each.refused is False]:
        raise InternalError(f"demo: want these refused, and they worked: {'; '.join(worked)}")


def _outside(stage: Stage, found: dict[str, Any]) -> None:
    _say(text.heading(1, "An image, outside of any machine"))
    example = Path(kluis.__file__).resolve().parents[2] / "examples" / "hello"
    if not (example / "app.py").is_file():
        raise UnavailableError(f"demo: want {example}, found none", hint="run it in a checkout: make demo-vm")
    shutil.copytree(example, stage.folder / "hello")
    builder.build(stage.folder / "hello", stage.image, stage.folder / "author.pem")
    missing = frozenset({*Platform.connect().status()["missing"], "secret-memory"})
    with load(stage.image, insecure_allow_missing=missing) as enclave:
        _say(text.fact("answers", enclave.greet("Ada")))
        _say(text.fact("image id", enclave.image_id.hex()))
        _say(text.fact("level", f"{enclave.level}: Linux isolates this enclave"))
        found["outside"] = {"image_id": enclave.image_id.hex(), "level": enclave.level}


def _inside(stage: Stage, found: dict[str, Any]) -> Iterator[Attempt]:
    """The machine, and then each attack on it; one machine at a time."""
    _say(text.heading(2, "The guest, measured before anything boots"))
    guest = building.build(stage.guest)
    _say(text.fact("guest", f"kernel {guest.description.kernel}, no shell, no login"))
    _say(text.fact("root hash", guest.description.root_hash))
    _say(text.heading(3, "The same image in a machine"))
    with stage.machine(stage.guest) as platform:
        about = kept.show(stage.name)
        stage.root = _processor().root_pem()
        stage.first = stage.evidence(platform)
        _read(stage, about, found)
        _say(text.heading(4, "What the host tries"))
        yield from _while_it_runs(stage, platform, int(about["pid"]))
    yield from _other_guests(stage)
    with stage.machine(stage.guest) as platform:
        again = stage.evidence(platform)
        stage.judge(again)
        yield expect_refusal(
            "host",
            "the endorsement of the boot before",
            "it endorses a root that no longer exists",
            lambda: stage.judge(dataclasses.replace(again, collateral=_endorsed(again, stage.first))),
        )
        stage.ended = _ended(stage, platform)


def _read(stage: Stage, about: dict[str, Any], found: dict[str, Any]) -> None:
    """Read the evidence whole, and draft the policy that all later evidence is judged by."""
    verified = stage.verify(stage.first)
    claims, machine = verified.value, verified.value.machine
    if machine is None:
        raise InternalError("demo: want claims of a machine, got none")
    stage.policy = draft(
        verified,
        runtime_data=stage.first.runtime_data,
        launch_configuration=stage.first.launch_configuration,
    )
    stage.measurement = machine.claims.measurement.value
    stage.judge(stage.first)
    same = claims.measurement.value == measure.measure(stage.image).image_id
    _say(text.fact("image id", claims.measurement.value.hex() + (", the same" if same else ", ANOTHER")))
    _say(text.fact("level", f"{claims.level}, by {machine.claims.anchor}"))
    _say(text.fact("machine", f"{machine.kind}: launch digest {stage.measurement.hex()[:32]}.."))
    equal = "equals" if about["measurement"] == stage.measurement.hex() else "DIFFERS FROM"
    _say(text.fact("computed", f"{equal} the digest that was computed before the boot"))
    found["inside"] = {
        "image_id": claims.measurement.value.hex(),
        "level": str(claims.level),
        "measurement": stage.measurement.hex(),
    }
    if not same or about["measurement"] != stage.measurement.hex():
        raise InternalError("demo: want the image and the machine that were measured, got others")


def _while_it_runs(stage: Stage, platform: Backend, pid: int) -> Iterator[Attempt]:
    """Exchange the disk of the running machine, and read its memory."""
    disk = stage.guest / "root.erofs"
    whole = disk.read_bytes()
    disk.write_bytes(bytes(len(whole)))
    try:
        stage.judge(stage.evidence(platform))
        yield Attempt(
            "host",
            "overwrites the file of the root disk while the machine runs",
            "the machine reads the sealed copy that was measured; its evidence is as before",
            True,
        )
        yield expect_refusal(
            "host",
            "starts a machine from the exchanged root disk",
            "a file of the guest is compared as it is sealed",
            lambda: kept.start(
                Settings(name=f"demo-{os.getpid()}-other", guest=str(stage.guest), memory_mb=MEMORY_MB)
            ),
        )
    finally:
        disk.write_bytes(whole)
    if os.geteuid() != 0:
        yield Attempt("root", "writes into the sealed disk; reads the memory", "needs root", None)
        return
    yield _write_disk(pid)
    yield _read_memory(pid)


def _write_disk(pid: int) -> Attempt:
    tried = "writes into QEMU's sealed copy of the root disk"
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if not os.readlink(path).startswith("/memfd:kluis-root"):
                continue
            disk = os.open(path, os.O_RDWR)
            try:
                os.write(disk, b"x")
            except PermissionError as error:
                return Attempt("root", tried, f"refused by the kernel: {error.strerror}", True)
            finally:
                os.close(disk)
            return Attempt("root", tried, "it worked", False)
    return Attempt("root", tried, "QEMU has no such file", None)


def _read_memory(pid: int) -> Attempt:
    """Read every mapping that is as large as the guest's memory."""
    tried, size, got = "reads the guest's memory through /proc/PID/mem", 0, 0
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
            if end - start < MEMORY_MB << 20 or line.split()[1].startswith("---"):
                continue
            size += end - start
            for at in range(start, end, 16 << 20):
                with contextlib.suppress(OSError):
                    memory.seek(at)
                    got += len(memory.read(4096))
    pages = size // (16 << 20)
    return Attempt("root", tried, f"{got // 4096} of {pages} pages that it tried", got == 0 if size else None)


def _other_guests(stage: Stage) -> Iterator[Attempt]:
    """Guests that boot, and are not the one that the policy names."""
    initrd = (stage.guest / "initrd").read_bytes() + bytes(512)
    yield expect_refusal(
        "host",
        "an initial RAM disk with other bytes",
        "the description of the guest names another",
        lambda: kept.start(
            Settings(name=f"demo-{os.getpid()}-other", guest=str(_torn(stage, initrd)), memory_mb=MEMORY_MB)
        ),
    )
    digests = json.loads((stage.guest / "guest.json").read_text())["digests"]
    other = stage.changed("initrd", digests={**digests, "initrd": hashlib.sha256(initrd).hexdigest()})
    (other / "initrd").write_bytes(initrd)
    with stage.machine(other) as platform:
        shown = stage.evidence(platform)
        yield expect_refusal(
            "host",
            "the same, and a description that agrees: it boots",
            "the processor measured what booted",
            lambda: stage.judge(shown),
        )
        yield expect_refusal(
            "host",
            "the good machine's endorsement, for this machine's enclave",
            "an endorsement names one platform's root",
            lambda: stage.judge(dataclasses.replace(shown, collateral=_endorsed(shown, stage.first))),
        )
    line = Guest.open(stage.guest).command_line + " kluis.demo"
    with stage.machine(stage.changed("line", command_line=line)) as platform:
        shown = stage.evidence(platform)
        yield expect_refusal(
            "host",
            "another command line of the kernel",
            "the processor measured it",
            lambda: stage.judge(shown),
        )


def _torn(stage: Stage, initrd: bytes) -> Path:
    torn = stage.changed("torn")
    (torn / "initrd").write_bytes(initrd)
    return torn


def _endorsed(shown: Shown, by: Shown) -> bytes:
    """One machine's collateral with the endorsement of another."""
    other = Collateral.from_json(by.collateral)
    return dataclasses.replace(
        Collateral.from_json(shown.collateral), endorsement=other.endorsement
    ).to_json()


def _limits(stage: Stage) -> Iterator[Attempt]:
    """What works: each is run."""
    yield _forged(stage)
    yield _read_vtpm(stage)
    yield stage.ended


def _forged(stage: Stage) -> Attempt:
    """Sign a report for the good machine with the keys in this user's files."""
    chip, data = _processor(), secrets.token_bytes(64)
    report = chip.report(measured.launched(stage.measurement), data)
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
        tpm.powered(stage.folder / "tpm", secrets.token_bytes(tpm.KEY_BYTES)) as vtpm,
        Tpm(Transport(vtpm.commands)) as commands,
    ):
        commands.nv_define(area)
        commands.nv_write(INDEX, word, by=OWNER)
        found = _count(vtpm.pid, word)
    return Attempt("root", tried, f"{found} copies of a word of 32 bytes", found == 0)


def _count(pid: int, word: bytes) -> int:
    found = 0
    with contextlib.suppress(PermissionError), Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
            with contextlib.suppress(OSError, ValueError, OverflowError):
                memory.seek(start)
                found += memory.read(end - start).count(word)
    return found


def _ended(stage: Stage, platform: Backend) -> Attempt:
    """End a machine under its enclave."""
    with load(stage.image, platform=platform) as enclave:
        kept.stop(stage.name)
        try:
            enclave.greet("Ada")
        except EnclaveDied:
            return Attempt("host", "ends the machine", "its enclave ends with it", False)
    return Attempt("host", "ends the machine", "its enclave still answers", True)


def _processor() -> Processor:
    return processor.load_or_create(kept.lasting() / "processor", datetime.now(UTC))


def _shown(attempts: Iterable[Attempt], *, limit: bool = False) -> Iterator[Attempt]:
    for each in attempts:
        _say(text.attempt(each, limit=limit))
        yield each


def _say(line: str) -> None:
    if not render.wants_json():
        print(line, flush=True)
