"""A host against a machine that boots by UEFI: the registers of its vTPM state what booted, as on Azure.

The host has the parts of other boots, and writes what it likes next to them. It has no key of the vTPM.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.appraisal import appraise
from kluis.appraisal.draft import draft
from kluis.errors import AuthenticityError, KluisError, PolicyError
from kluis.evidence import Claims, Verified, verify
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.attest import Selection
from kluis.hashes import sha256
from tests.evidence.azure.forge import AzureForge
from tests.evidence.forge import NONCE, NOW
from tests.evidence.machine import MachineForge
from tests.evidence.tpm import forge as tpm
from tests.formats.eventlog.logs import event, log

AZURE, OTHER_VM = AzureForge(), AzureForge()
FORGE = MachineForge()
DOCUMENT = FORGE.configuration().runtime_data()
ANCHORS = AZURE.amd.anchors
BOOTED = (0, 4, 7, 9, 11, 12)
CERTIFICATES = b"".join(
    each.public_bytes(Encoding.PEM) for each in (AZURE.amd.vek, AZURE.amd.ask, AZURE.amd.ark)
)


def _values(**changed: bytes) -> dict[HashId, dict[int, bytes]]:
    """The registers of the expected boot, or with some of another."""
    held = {index: bytes([index]) * 32 for index in range(24)}
    return {HashId.SHA256: held | {int(name.removeprefix("pcr")): each for name, each in changed.items()}}


def _quoted(
    values: dict[HashId, dict[int, bytes]] | None = None,
    indices: tuple[int, ...] = BOOTED,
    *,
    vm: AzureForge = AZURE,
    nonce: bytes = sha256(DOCUMENT),
) -> dict[str, bytes]:
    """A quote of the vTPM over values that it really has."""
    held = values or _values()
    message = tpm.quote(held, (Selection.of(HashId.SHA256, *indices),), nonce=nonce).encode()
    stated = {HashId.SHA256: {index: held[HashId.SHA256][index] for index in indices}}
    return {
        "quote": message,
        "signature": tpm.sign(vm.ak, message).encode(),
        "pcrs": tpm.pcrs.dumps(stated),
    }


def _verified(**parts: bytes) -> Verified[Claims]:
    """The evidence of an enclave in the machine, with parts replaced by the host."""
    good = {"hcl": AZURE.snp(), "certificates": CERTIFICATES, **_quoted(), **parts}
    endorsement = FORGE.endorsement(kind="azure-snp", without=("report", "crl"), **good)
    return verify(FORGE.inside.quote(), anchors=ANCHORS, collateral=FORGE.collateral(endorsement), now=NOW)


POLICY = dataclasses.replace(
    draft(_verified(), runtime_data=FORGE.inside.runtime, launch_configuration=FORGE.inside.launch),
    denylists=False,  # the forged chip is of a broken line
)


def _judge(**parts: bytes) -> None:
    appraise(
        _verified(**parts),
        POLICY,
        nonce=NONCE,
        runtime_data=FORGE.inside.runtime,
        launch_configuration=FORGE.inside.launch,
        now=NOW,
    ).require()


def _lying(**changed: bytes) -> dict[str, bytes]:
    """The quote of another boot, next to the values that the policy wants."""
    return {**_quoted(_values(**changed)), "pcrs": _quoted()["pcrs"]}


def _log(data: bytes) -> bytes:
    return log(event(4, EventType.EFI_BOOT_SERVICES_APPLICATION, data)).encode()


KERNEL = b"\xee" * 32
Attack = tuple[type[KluisError], str, Callable[[], Any]]
ATTACKS: dict[str, Attack] = {
    "another image": (PolicyError, "machine_pcrs", lambda: _quoted(_values(pcr4=KERNEL))),
    "another RAM disk": (PolicyError, "machine_pcrs", lambda: _quoted(_values(pcr9=KERNEL))),
    "another command line": (PolicyError, "machine_pcrs", lambda: _quoted(_values(pcr12=KERNEL))),
    "a quote without the image's register": (
        PolicyError,
        "machine_pcrs",
        lambda: _quoted(indices=(0, 7, 9, 11, 12)),
    ),
    "the values of a quote next to another": (AuthenticityError, "pcr_digest", lambda: _lying(pcr4=KERNEL)),
    "values that no quote has": (
        AuthenticityError,
        "pcr_digest",
        lambda: {"pcrs": _quoted(_values(pcr4=KERNEL))["pcrs"]},
    ),
    "the event log of another boot": (AuthenticityError, "event_log", lambda: {"event_log": _log(b"other")}),
    "the quote of another VM": (AuthenticityError, "sig_tpm", lambda: _quoted(vm=OTHER_VM)),
    "the report of another VM": (AuthenticityError, "sig_tpm", lambda: {"hcl": _other_report()}),
    "a quote of the boot before": (
        AuthenticityError,
        "endorsement_binding",
        lambda: _quoted(nonce=sha256(b"an earlier root")),
    ),
    "a report that a guest requested": (AuthenticityError, "vmpl", lambda: {"hcl": AZURE.snp(vmpl=2)}),
}  # fmt: skip


def _other_report() -> bytes:
    """A report of the same chip about another VM's vTPM."""
    return AZURE.snp(OTHER_VM.runtime)


def test_the_machine_itself() -> None:
    """Without an attack, the evidence is accepted."""
    _judge()


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name: str) -> None:
    """Each attempt of the host is refused, and the error names the part."""
    error, code, make = ATTACKS[name]
    with pytest.raises(error) as caught:
        _judge(**make())
    assert caught.value.code == code
