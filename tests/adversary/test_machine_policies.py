"""Policies that read as if they named a machine's guest, and would let its operator choose one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kluis.appraisal import ANY, ByTable, appraise, dumps, loads
from kluis.appraisal.draft import draft
from kluis.appraisal.policy.guests import NEEDED
from kluis.appraisal.policy.model import ByMachine
from kluis.appraisal.policy.reference import ReferenceValues
from kluis.appraisal.policy.structured import Registers
from kluis.appraisal.policy.wants import REFERENCE, Want
from kluis.cli.main import run
from kluis.errors import PolicyError, UsageError
from kluis.evidence import Claims, ProtectionLevel, Tee, Verified, verify
from kluis.evidence.model import Machine
from kluis.evidence.verified import mint
from tests.appraisal.samples import SAMPLES, changed, digest
from tests.evidence.forge import NOW
from tests.evidence.machine import MachineForge

FORGE = MachineForge()
INSIDE = verify(FORGE.inside.quote(), anchors=FORGE.anchors, collateral=FORGE.collateral(), now=NOW).value


def _in(claims: Claims) -> Verified[Claims]:
    """The evidence of an enclave in a machine with these claims."""
    around = INSIDE.machine
    assert isinstance(around, Machine)
    return mint(dataclasses.replace(INSIDE, machine=dataclasses.replace(around, claims=claims)))


def _changed(of: Tee, table: Tee, **wants: Want) -> ByMachine:
    """The table that a machine's evidence is drafted into, with keys of one TEE's part replaced."""
    machine = draft(_in(SAMPLES[of])).machine
    assert machine is not None
    tables: dict[Tee, Mapping[str, Want]] = dict(machine.identity.tables)
    tables[table] = {**tables[table], **wants}
    return dataclasses.replace(machine, identity=ByTable(tables=tables))


def _named(of: Tee, *names: str) -> Registers:
    held = SAMPLES[of].registers
    return Registers({name: frozenset({held[name].value}) for name in names})


ATTACKS: dict[str, tuple[Tee, Tee, dict[str, Want], str]] = {
    "firmware of the operator's, which extends every register of TDX": (
        Tee.TDX, Tee.TDX, {"measurements": ANY}, 'any" in policy.machine.tdx.measurements',
    ),
    "a guest that extends RTMR 2 to the values of another": (
        Tee.TDX, Tee.TDX, {"registers": _named(Tee.TDX, "rtmr0", "rtmr2")}, "got none for rtmr1",
    ),
    "code in the ACPI tables of the host": (
        Tee.TDX, Tee.TDX, {"registers": _named(Tee.TDX, "rtmr1", "rtmr2")}, "got none for rtmr0",
    ),
    "a command line of the operator's, in RTMR 2": (
        Tee.TDX, Tee.TDX, {"registers": _named(Tee.TDX, "rtmr0", "rtmr1")}, "got none for rtmr2",
    ),
    "a paravisor of the operator's, which signs any quote": (
        Tee.AZURE, Tee.SNP,
        {"measurements": ANY, "signers": ANY, "author_keys": ANY},
        'any" in policy.machine.snp.measurements',
    ),
    "a guest that extends PCR 11 to the value of another": (
        Tee.AZURE, Tee.AZURE, {"registers": _named(Tee.TPM, "pcr7", "pcr11")}, "none for pcr4, pcr9, pcr12",
    ),
    "a command line in place of the image's own": (
        Tee.AZURE, Tee.AZURE, {"registers": _named(Tee.TPM, "pcr4", "pcr9", "pcr11")}, "got none for pcr12",
    ),
    "only the firmware of a TPM's machine": (
        Tee.TPM, Tee.TPM, {"registers": _named(Tee.TPM, "pcr0", "pcr2", "pcr7")}, "got none for pcr4",
    ),
    "a kernel that the loader reads from a file": (
        Tee.TPM, Tee.TPM, {"registers": _named(Tee.TPM, "pcr0", "pcr4", "pcr12")}, "got none for pcr9",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_no_policy_leaves_the_guest_open_in_silence(name: str) -> None:
    """The policy is refused unless it states that it accepts any guest; then each result has a warning."""
    of, table, wants, problem = ATTACKS[name]
    with pytest.raises(UsageError) as caught:
        _changed(of, table, **wants)
    assert problem in caught.value.message
    assert "any_guest = true" in f"{caught.value.message} {caught.value.hint}"

    machine = draft(_in(SAMPLES[of])).machine
    assert machine is not None
    tables = {**machine.identity.tables, table: {**machine.identity.tables[table], **wants}}
    stated = dataclasses.replace(machine, any_guest=True, identity=ByTable(tables=tables))
    policy = dataclasses.replace(draft(_in(SAMPLES[of])), machine=stated)
    assert loads(dumps(policy).encode()) == policy
    given: dict[str, Any] = {"nonce": None, "runtime_data": None, "launch_configuration": None, "now": NOW}
    result = appraise(_in(SAMPLES[of]), policy, **given)
    assert not [rule.name for rule in result.failed if rule.name.startswith("machine")]
    assert any(each.startswith("the policy accepts any guest") for each in result.warnings)


def test_a_signed_paravisor() -> None:
    """A policy may name who signed the paravisor instead of its measurement: then no operator chooses it."""
    assert _changed(Tee.AZURE, Tee.SNP, measurements=ANY).any_guest is False


@pytest.mark.parametrize("tee", NEEDED)
def test_no_draft_of_evidence_that_names_too_little(tee: Tee) -> None:
    """An attester that quotes only firmware's registers gets no draft that accepts any guest."""
    first = {"pcr0": digest(1, 32)} if tee is not Tee.TDX else {"rtmr0": digest(1), "rtmr3": digest(4)}
    claims = changed(SAMPLES[tee], registers=first)
    if tee is Tee.AZURE:
        claims = changed(claims, tpm=changed(SAMPLES[Tee.TPM], registers=first))
    with pytest.raises(PolicyError, match="the draft would accept any guest"):
        draft(_in(claims))


def test_check_names_what_is_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``kluis policy check`` states which keys of a policy for a whole VM leave the guest to its operator."""
    drafted = draft(mint(SAMPLES[Tee.TDX]))
    assert isinstance(drafted.identity, ByTable)
    for changes, words in (
        ({}, []),
        ({"measurements": ANY}, ["[tdx] measurements: any: the machine's operator can choose the guest"]),
        (
            {"registers": _named(Tee.TDX, "rtmr2")},
            ["[tdx] registers: rtmr0, rtmr1: the machine's operator can choose the guest"],
        ),
    ):
        wants = {**drafted.identity.tables[Tee.TDX], **changes}
        policy = dataclasses.replace(drafted, identity=ByTable(tables={Tee.TDX: wants}))
        (tmp_path / "policy.toml").write_text(dumps(policy))
        assert run(["policy", "check", str(tmp_path / "policy.toml"), "--json"]) == 0
        notes = json.loads(capsys.readouterr().out)["notes"]
        assert [each for each in notes if "can choose the guest" in each] == words


def test_reference_values_of_too_little() -> None:
    """Reference values that name only registers of the guest's own do not fill a machine's table."""
    machine = _changed(Tee.TDX, Tee.TDX, registers=REFERENCE)
    policy = dataclasses.replace(draft(_in(SAMPLES[Tee.TDX])), machine=machine)
    text = f'version = 1\n[[values]]\ntee = "tdx"\nname = "1.0"\nregisters = {{ rtmr2 = ["{"03" * 48}"] }}\n'
    with pytest.raises(UsageError, match="got none for rtmr0, rtmr1"):
        ReferenceValues.loads(text.encode()).apply(policy)


def test_a_launch_digest_may_be_the_firmwares() -> None:
    """Firmware that boots any kernel has one digest for all guests: a draft states that; results warn."""
    evidence = _in(SAMPLES[Tee.SNP])
    drafted = draft(evidence)
    assert drafted.machine is not None
    assert drafted.machine.any_guest
    assert loads(dumps(drafted).encode()) == drafted
    given: dict[str, Any] = {"nonce": None, "runtime_data": None, "launch_configuration": None, "now": NOW}
    (warning,) = [each for each in appraise(evidence, drafted, **given).warnings if "guest" in each]
    assert warning.startswith("the policy accepts any guest")

    checked = dataclasses.replace(drafted, machine=dataclasses.replace(drafted.machine, any_guest=False))
    assert not [each for each in appraise(evidence, checked, **given).warnings if "guest" in each]
    other = _in(changed(SAMPLES[Tee.SNP], measurement=digest(9)))
    assert "machine_measurement" in {rule.name for rule in appraise(other, drafted, **given).failed}

    emulated = draft(_in(changed(SAMPLES[Tee.SNP], level=ProtectionLevel.VM))).machine
    assert emulated is not None
    assert not emulated.any_guest  # its processor measures the kernel, always
