"""A host against a policy for a processor and a GPU: what it has are other GPUs, and earlier reports.

Anyone can request a genuine GPU's report over any nonce. What binds one to a machine is the document that the
machine's measured software wrote, and that the processor's evidence covers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from kluis.appraisal import (
    ANY,
    AttestationResult,
    ByTable,
    Policy,
    ReportDataBinding,
    Verdict,
    appraise,
)
from kluis.appraisal.draft import draft
from kluis.cli import codes
from kluis.errors import FormatError, PolicyError, UsageError
from kluis.evidence import Claims, TrustAnchors, Verified, verify
from kluis.evidence.endorsements import _of_amd
from kluis.formats.kluis import runtime_data
from kluis.formats.kluis.devices import MAX_DEVICES, Devices, NamedReport
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from tests.authority.amd.chips import chip, launch
from tests.evidence.forge import NOW
from tests.evidence.nvidia.forge import Forge

CHIP = chip()
GPUS = Forge()
NONCE = bytes(range(64, 96))
FIRST = NamedReport(b"\1" * 32, b"\xa1" * 32)
SECOND = NamedReport(b"\2" * 32, b"\xa2" * 32)
ELSEWHERE = NamedReport(FIRST.nonce, b"\xee" * 32)
"""The report of a GPU in another machine, which the host requested over the same nonce."""


def _cpu(document: bytes) -> Verified[Claims]:
    """The evidence of the machine's processor over a document."""
    report = CHIP.report(launch(), runtime_data.report_data(document))
    given = _of_amd({"certificates": CHIP.certificates(), "crl": CHIP.crl(NOW)})
    return verify(report, anchors=TrustAnchors.from_pem(CHIP.root_pem()), collateral=given, now=NOW)


def _gpu(named: NamedReport) -> Verified[Claims]:
    """A genuine report with these nonces."""
    report = GPUS.report(nonce=named.nonce, device_nonce=named.device_nonce)
    return verify(GPUS.evidence(report), anchors=GPUS.anchors, collateral=None, now=NOW)


def _document(*named: NamedReport, nonce: bytes = NONCE) -> bytes:
    return Devices(named).runtime_data(nonce)


def _policy() -> Policy:
    """One policy for both, as their drafts require."""
    cpu, gpu = draft(_cpu(_document(FIRST))), draft(_gpu(FIRST))
    assert isinstance(cpu.identity, ByTable)
    assert isinstance(gpu.identity, ByTable)
    return dataclasses.replace(
        cpu,
        protection=cpu.protection | gpu.protection,
        tcb_statuses=cpu.tcb_statuses | gpu.tcb_statuses,
        max_collateral_age=ANY,
        identity=ByTable(tables={**cpu.identity.tables, **gpu.identity.tables}),
        binding=ReportDataBinding(report_data=ANY),
    )


POLICY = _policy()


def _judge(
    document: bytes | None, devices: Sequence[NamedReport], cpu: bytes | None = None
) -> AttestationResult:
    """What a relying party does: the processor's evidence, the document, and each device's report."""
    evidence = _cpu((document or b"{}") if cpu is None else cpu)
    return appraise(
        evidence,
        POLICY,
        nonce=NONCE,
        runtime_data=document,
        launch_configuration=None,
        devices=list(map(_gpu, devices)),
        now=NOW,
    )


def test_devices_of_this_machine() -> None:
    """Reports that the machine's software named are affirmed, in any order, with one verdict for all."""
    result = _judge(_document(FIRST, SECOND), [SECOND, FIRST])
    assert (result.failed, result.warnings, result.verdict) == ((), (), Verdict.AFFIRMING)
    names = {rule.name for rule in result.rules}
    assert names >= {"devices", "device1_bound", "device2_bound", "device1_measurement", "device2_protection"}


Attack = Callable[[], AttestationResult]
OTHER_PURPOSE = RuntimeData(
    purpose=Purpose.CLI, image_id=bytes(32), nonce=NONCE, payload=Devices((FIRST,)).encode()
).encode()
OTHER_PAYLOAD = RuntimeData(purpose=Purpose.DEVICES, image_id=bytes(32), nonce=NONCE, payload=b"{}").encode()
ATTACKS: dict[str, tuple[Attack, set[str]]] = {
    "a GPU of another machine, over the same nonce": (
        lambda: _judge(_document(FIRST), [ELSEWHERE]),
        {"device1_bound"},
    ),
    "a GPU of another machine, next to this machine's": (
        lambda: _judge(_document(FIRST), [FIRST, ELSEWHERE]),
        {"devices", "device2_bound"},
    ),
    "one GPU in the place of two": (
        lambda: _judge(_document(FIRST, SECOND), [FIRST, FIRST]),
        {"device2_bound"},
    ),
    "a GPU that is not shown": (lambda: _judge(_document(FIRST, SECOND), [FIRST]), {"devices"}),
    "a document that the host wrote": (
        lambda: _judge(_document(ELSEWHERE), [ELSEWHERE], _document(FIRST)),
        {"devices", "device1_bound"},
    ),
    "a document of an earlier request": (
        lambda: _judge(_document(FIRST, nonce=b"earlier"), [FIRST]),
        {"devices", "device1_bound"},
    ),
    "a document for another purpose": (
        lambda: _judge(OTHER_PURPOSE, [FIRST]),
        {"devices", "device1_bound"},
    ),
    "a payload of another form": (lambda: _judge(OTHER_PAYLOAD, [FIRST]), {"devices", "device1_bound"}),
    "no document": (lambda: _judge(None, [FIRST]), {"devices", "device1_bound"}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name: str) -> None:
    """Each attempt of the host is refused, and the rule names the device."""
    attempt, rules = ATTACKS[name]
    result = attempt()
    assert {rule.name for rule in result.failed} == rules
    with pytest.raises(PolicyError) as caught:
        result.require()
    assert codes.find(caught.value.code).fix


def test_a_processor_as_a_device() -> None:
    """The evidence of a processor does not count as a device's."""
    result = appraise(
        _cpu(_document(FIRST)), POLICY, nonce=NONCE, runtime_data=_document(FIRST), launch_configuration=None,
        devices=[_cpu(b"{}")], now=NOW,
    )  # fmt: skip
    assert [rule.name for rule in result.failed] == ["device1_bound"]


def test_bare_claims_of_a_device() -> None:
    """Claims that no verifier returned are refused."""
    with pytest.raises(UsageError, match=r"want Verified\[Claims\], got Claims"):
        appraise(
            _cpu(b"{}"), POLICY, nonce=NONCE, runtime_data=None, launch_configuration=None,
            devices=[_gpu(FIRST).value], now=NOW,  # type: ignore[list-item]
        )  # fmt: skip


def test_a_device_by_itself() -> None:
    """A device's report without a processor's evidence is never affirmed without a warning."""
    result = appraise(_gpu(FIRST), POLICY, nonce=NONCE, runtime_data=None, launch_configuration=None, now=NOW)
    assert (result.failed, result.verdict) == ((), Verdict.WARNING)
    assert "nothing binds it to the processor of a machine" in result.warnings[0]


def test_documents_in_one_form() -> None:
    """A document is read in its one form, and bounded."""
    whole = Devices((FIRST, SECOND))
    assert Devices.parse(whole.encode()) == whole
    for changed in (
        whole.encode().replace(b'"version":1', b'"version":2'),
        whole.encode().replace(b"nonce", b"Nonce", 1),
        whole.encode() + b" ",
        b'{"devices":[],"version":1}',
    ):
        with pytest.raises(FormatError):
            Devices.parse(changed)
    with pytest.raises(FormatError, match="none twice"):
        Devices((FIRST, FIRST))
    many = tuple(NamedReport(n.to_bytes(32), bytes(32)) for n in range(MAX_DEVICES + 1))
    with pytest.raises(FormatError, match=r"1\.\.64 reports"):
        Devices(many)
