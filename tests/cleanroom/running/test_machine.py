"""An agreement and an expected vault that name a machine: others, and an enclave in none, are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kluis.appraisal import (
    AttestationResult,
    ByMachine,
    ByTable,
    Policy,
    appraise,
    dumps_machine,
    loads_machine,
)
from kluis.appraisal.draft import draft
from kluis.appraisal.policy.wants import ANY, REFERENCE, OneOf
from kluis.cleanroom.agreement.agreement import Code, check_signed
from kluis.cleanroom.agreement.documents import encode
from kluis.cleanroom.receipts.verdict import policy_of
from kluis.cleanroom.signing.explain import _code, explain
from kluis.enclave.vaults import ExpectedVault
from kluis.errors import FormatError, PolicyError, UsageError
from kluis.evidence import ProtectionLevel, Tee, verify
from kluis.formats.kluis.runtime_data import Purpose
from kluis.formats.snp.tcb import Product
from tests.appraisal.rules.test_machine import EVIDENCE, FORGE, MACHINE, _alone
from tests.authority.amd.chips import chip
from tests.cleanroom import samples
from tests.cleanroom.samples import code
from tests.evidence.forge import IMAGE, NONCE, NOW
from tests.evidence.machine import MachineForge

assert MACHINE is not None
TABLE = dumps_machine(MACHINE)


def measured(want: Any, **changes: Any) -> ByMachine:
    """The table with another wish for the measurement."""
    assert MACHINE is not None
    wants = {**MACHINE.identity.tables[Tee.SNP], "measurements": want}
    return dataclasses.replace(MACHINE, identity=ByTable(tables={Tee.SNP: wants}), **changes)


OTHER = dumps_machine(measured(OneOf(frozenset({bytes(48)}))))


def agreed(machine: str) -> Policy:
    """The policy of an agreement."""
    found = msgspec.structs.replace(code(image_id=IMAGE.hex()), machine=machine, protection=("vm",))
    return policy_of(found, Purpose.CLI)


def vault(machine: str) -> Policy:
    """The policy for a vault."""
    found = ExpectedVault(
        vault="11" * 32, roots=("PEM",), images=(IMAGE.hex(),), levels=("vm",), machine=machine
    )
    return ExpectedVault.parse(found.encode()).policy(Purpose.CLI, nonce=True)


def judge(policy: Policy, evidence: Any = EVIDENCE) -> AttestationResult:
    """The forged machine's enclave, under a policy."""
    return appraise(
        evidence,
        policy,
        nonce=NONCE,
        runtime_data=FORGE.inside.runtime,
        launch_configuration=FORGE.inside.launch,
        now=NOW,
    )


@pytest.mark.parametrize("policy", [agreed, vault])
def test_the_machine_that_was_named(policy: Any) -> None:
    """The named machine is accepted; another one, any without a table, and none are refused with its rule."""
    assert judge(policy(TABLE)).failed == ()
    assert {rule.name for rule in judge(policy(OTHER)).failed} == {"machine_measurement"}
    assert {rule.name for rule in judge(policy("")).failed} == {"machine"}
    assert "machine" in {rule.name for rule in judge(policy(TABLE), _alone()).failed}


def test_it_is_part_of_what_is_signed() -> None:
    """The table is in the agreement's bytes; without one, the bytes are as before."""
    assert b'"machine"' not in encode(code())
    assert b'"machine"' in encode(msgspec.structs.replace(code(), machine=TABLE))


def test_readers_see_it() -> None:
    """The explanation contains the table, and a warning where any guest is accepted."""
    shown = "\n".join(_code(msgspec.structs.replace(code(), machine=TABLE), None))
    assert "with the guest that this table names" in shown
    assert "[machine.snp]" in shown
    anybody = measured(ANY, any_guest=True)
    shown = "\n".join(_code(msgspec.structs.replace(code(), machine=dumps_machine(anybody)), None))
    assert "WITH ANY GUEST" in shown.replace("\\\n", " ")
    assert "UNREADABLE" in "\n".join(_code(msgspec.structs.replace(code(), machine="["), None))


BAD = ["[", "", "[machine]\n", TABLE + "\n[sgx]\n", TABLE.replace("any_guest", "guest")]


@pytest.mark.parametrize("text", BAD)
def test_a_table_that_is_none(text: str) -> None:
    """Anything but one whole table is refused, in an agreement and in a vault's description."""
    with pytest.raises(FormatError):
        loads_machine(text.encode())
    if text:
        with pytest.raises(FormatError):
            vault(text)


def test_reference_values() -> None:
    """What the signers agree on is in the document: reference values are not."""
    with pytest.raises(UsageError, match="want values, got reference values"):
        loads_machine(dumps_machine(measured(REFERENCE)).encode())


def test_levels() -> None:
    """The level of a machine is one that an agreement may name."""
    assert agreed(TABLE).protection == frozenset({ProtectionLevel.VM})
    assert isinstance(code(), Code)


def test_an_agreement_on_a_machine(tmp_path: Path) -> None:
    """Its parties are shown each line of the table, and sign it; a text that turns around is refused."""
    setting = samples.setting(tmp_path)
    on = msgspec.structs.replace(setting.agreement.code, machine=TABLE)
    setting.agreement = msgspec.structs.replace(setting.agreement, code=on)
    assert check_signed(setting.signed()) == setting.agreement
    lines = [each.lstrip(" |\\") for each in explain(setting.agreement).splitlines()]
    for word in TABLE.split():
        assert sum(word[:70] in each for each in lines) >= 2  # in words, and in everything that is signed
    hostile = msgspec.structs.replace(on, machine=f"# \u05d0\n{TABLE}")
    with pytest.raises(PolicyError, match=r"^agreement.code.machine: want text from left to right"):
        msgspec.structs.replace(setting.agreement, code=hostile).check()


@pytest.mark.parametrize("policy", [agreed, vault])
def test_a_machine_that_is_broken(policy: Any) -> None:
    """A machine of a product line on the dated list is refused, even where its table was agreed on."""
    broken = MachineForge(chip(product=Product.MILAN))
    evidence = verify(broken.inside.quote(), anchors=broken.anchors, collateral=broken.collateral(), now=NOW)
    machine = draft(evidence).machine
    assert machine is not None
    (failed,) = judge(policy(dumps_machine(machine)), evidence).failed
    assert (failed.name, failed.got) == ("denylist", "milan-vcek-seed")
