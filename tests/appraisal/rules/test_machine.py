"""The machine around an enclave: one piece of evidence a rule, in which only that rule fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kluis.appraisal import (
    ANY,
    AttestationResult,
    ByImage,
    ByTable,
    Policy,
    Verdict,
    appraise,
    dumps,
    loads,
    strict,
)
from kluis.appraisal.draft import draft
from kluis.appraisal.policy.model import GUESTS, ByMachine
from kluis.appraisal.policy.reference import ReferenceValues
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.toml_writer import identity_bytes
from kluis.appraisal.policy.wants import REFERENCE, Named, OneOf
from kluis.errors import FormatError, PolicyError, UsageError
from kluis.evidence import Claims, ProtectionLevel, Tee, Verified, verify
from kluis.evidence.verified import mint
from kluis.formats.kluis.runtime_data import Purpose
from tests.appraisal.samples import SAMPLES
from tests.authority.amd.chips import GUEST, launch
from tests.evidence.forge import IMAGE, NONCE, NOW
from tests.evidence.machine import MachineForge

FORGE = MachineForge()
BARE = strict(
    ByImage(image_ids=frozenset({IMAGE})),
    protection=frozenset({ProtectionLevel.VM}),
    purpose=Purpose.CLI,
    counters=frozenset({"unwitnessed"}),
    missing=frozenset(),
)


def _evidence(configuration: Any = None, *, inside: Any = None, **changes: Any) -> Verified[Claims]:
    """Evidence of the forger's machine, with its configuration or its launch replaced."""
    held = configuration or FORGE.configuration()
    report = FORGE.report(held.runtime_data(), **changes)
    endorsement = FORGE.endorsement(held, report=report)
    return verify(
        FORGE.inside.quote(), anchors=FORGE.anchors, collateral=FORGE.collateral(endorsement), now=NOW
    )


EVIDENCE = _evidence()
DRAFT = draft(EVIDENCE, runtime_data=FORGE.inside.runtime, launch_configuration=FORGE.inside.launch)
MACHINE = DRAFT.machine
assert MACHINE is not None
POLICY = dataclasses.replace(BARE, machine=MACHINE)


def _judge(
    evidence: Verified[Claims] = EVIDENCE, policy: Policy = POLICY, now: Any = NOW
) -> AttestationResult:
    return appraise(
        evidence,
        policy,
        nonce=NONCE,
        runtime_data=FORGE.inside.runtime,
        launch_configuration=FORGE.inside.launch,
        now=now,
    )


def _machine(**changes: Any) -> Policy:
    return dataclasses.replace(POLICY, machine=dataclasses.replace(MACHINE, **changes))  # type: ignore[type-var]


def _table(tee: Tee = Tee.SNP, **wants: Any) -> Policy:
    assert MACHINE is not None
    tables = {**MACHINE.identity.tables, tee: {**MACHINE.identity.tables[tee], **wants}}
    return _machine(identity=ByTable(tables=tables))


def _of(tee: Tee) -> Verified[Claims]:
    """The evidence as if another TEE endorsed it."""
    machine = EVIDENCE.value.machine
    assert machine is not None
    return mint(
        dataclasses.replace(EVIDENCE.value, machine=dataclasses.replace(machine, claims=SAMPLES[tee]))
    )


def _alone() -> Verified[Claims]:
    """The same enclave outside of any machine, under a root of the same level."""
    return mint(dataclasses.replace(EVIDENCE.value, machine=None))


def test_the_same_policy_but_for_level_and_machine() -> None:
    """A policy for the image, with the machine's table, affirms the enclave inside."""
    result = _judge()
    assert result.failed == ()
    assert result.verdict is Verdict.AFFIRMING
    assert _judge(policy=DRAFT).failed == ()
    assert {rule.name for rule in result.rules} >= {"machine", "machine_measurement", "machine_min_tcb"}


Case = tuple[Callable[[], AttestationResult], str, str]
OTHER = "c3" * 4 + ".." + "c3" * 2
RULES: dict[str, Case] = {
    "machine": (lambda: _judge(policy=BARE), "none", "snp"),
    "machine of another TEE": (lambda: _judge(_of(Tee.TPM)), "snp", "tpm"),
    "machine_measurement": (
        lambda: _judge(_evidence(measurement=b"\xc3" * 48)),
        "a1a1a1a1..a1a1",
        "c3c3c3c3..c3c3",
    ),
    "machine_host_data": (
        lambda: _judge(_evidence(host_data=b"\xc3" * 32)),
        "00000000..0000",
        "c3c3c3c3..c3c3",
    ),
    "machine_vmpl": (lambda: _judge(_evidence(vmpl=2)), "0", "2"),
    "machine_only": (
        lambda: _judge(policy=_machine(only=frozenset({IMAGE}))),
        "00010203..1e1f",
        "any image",
    ),
    "machine_guest_release": (
        lambda: _judge(
            _evidence(FORGE.configuration(release="1.1")), _machine(guest_releases=frozenset({"1.0"}))
        ),
        "1.0",
        "1.1",
    ),
    "machine_guest_release without one": (
        lambda: _judge(policy=_machine(guest_releases=frozenset({"1.0"}))),
        "1.0",
        "none",
    ),
    "machine_level": (
        lambda: _judge(policy=_machine(levels=frozenset({ProtectionLevel.PROCESS_USER}))),
        "process-user",
        "process",
    ),
    "machine_missing": (
        lambda: _judge(_evidence(FORGE.configuration(missing=("guest-memory", "swap"))), _machine()),
        "none",
        "guest-memory, swap",
    ),
    "machine_missing but for one": (
        lambda: _judge(
            _evidence(FORGE.configuration(missing=("guest-memory", "swap"))),
            _machine(missing=frozenset({"swap"})),
        ),
        "only swap",
        "guest-memory",
    ),
    "machine_collateral_age": (
        lambda: _judge(policy=_machine(max_collateral_age=timedelta(minutes=2))),
        "at most 2 min",
        "5 min",
    ),
    "machine_collateral_age without a list": (
        lambda: _judge(_without_list(), _table_without_list()),
        "at most 366 days",
        "no collateral with a date",
    ),
}


def _without_list() -> Verified[Claims]:
    endorsement = FORGE.endorsement(without=("crl",))
    return verify(
        FORGE.inside.quote(), anchors=FORGE.anchors, collateral=FORGE.collateral(endorsement), now=NOW
    )


def _table_without_list() -> Policy:
    return _table(crl_required=ANY)


@pytest.mark.parametrize("name", RULES)
def test_rule(name: str) -> None:
    """Only this rule fails, and it states what was wanted and what was found."""
    make, want, got = RULES[name]
    (failed,) = make().failed
    assert (failed.name, failed.want, failed.got) == (name.split()[0], want, got)
    assert failed.fix
    with pytest.raises(PolicyError if not failed.stale else Exception, match=f"{failed.name}: want {want}"):
        make().require()


def test_an_enclave_outside_of_a_machine() -> None:
    """A policy with the table accepts no enclave without a machine."""
    failed = {rule.name: rule for rule in _judge(_alone()).failed}
    assert set(failed) == {"machine", "launch_level"}
    assert (failed["machine"].want, failed["machine"].got) == ("snp", "none")
    assert (
        failed["machine"].fix
        == "run it in a machine that the policy names, or remove [machine] from the policy"
    )


def test_every_part_of_the_refusal() -> None:
    """The error names the part of the machine that differs."""
    with pytest.raises(PolicyError) as caught:
        _judge(_evidence(measurement=b"\xc3" * 48)).require()
    assert caught.value.code == "machine_measurement"
    assert caught.value.message == (
        "contraindicated: machine_measurement: want a1a1a1a1..a1a1, got c3c3c3c3..c3c3"
    )


@pytest.mark.parametrize("debug", ["guest", "report"])
def test_debug_machines_are_refused(debug: str) -> None:
    """A debug machine fails level and debug, whatever the enclave inside is."""
    evidence = _evidence(
        FORGE.configuration(debug=debug == "guest"), policy=launch(debug=debug == "report").policy
    )
    assert {rule.name for rule in _judge(evidence).failed} == {"protection", "debug"}
    with pytest.raises(PolicyError, match="want evidence of a TEE that keeps something out, got level none"):
        draft(evidence)


def test_only_and_release_are_met() -> None:
    """A machine for one image, of a known release, meets a policy that names both."""
    evidence = _evidence(FORGE.configuration(only=IMAGE, release="1.0"))
    policy = draft(evidence, runtime_data=FORGE.inside.runtime, launch_configuration=FORGE.inside.launch)
    assert policy.machine is not None
    assert (policy.machine.only, policy.machine.guest_releases) == (frozenset({IMAGE}), frozenset({"1.0"}))
    assert _judge(evidence, policy).failed == ()
    assert {rule.name for rule in _judge(policy=policy).failed} == {"machine_only", "machine_guest_release"}


def test_missing_protections_warn() -> None:
    """What the machine does without is accepted only if the policy says so, and then it is a warning."""
    evidence = _evidence(FORGE.configuration(missing=("guest-memory",)))
    result = _judge(evidence, _machine(missing=frozenset({"guest-memory"})))
    assert result.failed == ()
    assert result.verdict is Verdict.WARNING
    assert result.warnings == ("the machine runs without guest-memory",)


def test_any_guest_warns() -> None:
    """A policy that accepts any guest states it, and every result has a warning."""
    assert MACHINE is not None
    tables = {Tee.SNP: {**MACHINE.identity.tables[Tee.SNP], "measurements": ANY}}
    policy = _machine(any_guest=True, identity=ByTable(tables=tables))
    result = _judge(_evidence(measurement=b"\xc3" * 48), policy)
    assert result.failed == ()
    assert result.verdict is Verdict.WARNING
    assert result.warnings == (
        "the policy accepts any guest: the operator of the machine chooses its kernel, which reads all",
    )
    assert "any_guest = true" in dumps(policy)


@pytest.mark.parametrize(
    ("tee", "any_guest", "key"), [(Tee.NITRO, True, "measurements"), (Tee.SNP, False, "measurements")]
)
def test_any_guest_is_explicit(tee: Tee, any_guest: bool, key: str) -> None:
    """Neither the word without the table's "any", nor the table's "any" without the word."""
    machine = draft(_of(tee)).machine
    assert machine is not None
    wants = dict(machine.identity.tables[tee])
    if not any_guest:
        wants[key] = ANY
    with pytest.raises(UsageError) as caught:
        dataclasses.replace(machine, any_guest=any_guest, identity=ByTable(tables={tee: wants}))
    assert caught.value.message == (
        f'policy.machine: want any_guest = true with "any" in policy.machine.{tee}.{key}, and neither'
        " without the other"
    )


def _azure(**wants: Any) -> ByTable:
    tables = draft(mint(SAMPLES[Tee.AZURE])).identity
    assert isinstance(tables, ByTable)
    return ByTable(tables={**tables.tables, Tee.AZURE: {**tables.tables[Tee.AZURE], **wants}})


def test_the_guest_of_a_composite_is_in_its_registers() -> None:
    """On Azure the hardware measures only the paravisor: a policy without PCRs accepts any guest."""
    assert _machine(identity=_azure()).machine is not None
    with pytest.raises(UsageError, match=r"policy\.machine\.azure\.registers"):
        _machine(identity=_azure(registers=ANY))
    evidence = _of(Tee.AZURE)
    policy = _machine(identity=_azure())
    assert {rule.name for rule in _judge(evidence, policy).failed} == set()
    alone = ByTable(tables={Tee.AZURE: _azure().tables[Tee.AZURE]})
    (failed,) = _judge(evidence, _machine(identity=alone)).failed
    assert (failed.name, failed.want, failed.got) == ("machine", "azure", "azure on snp")
    assert "machine" in {rule.name for rule in _judge(EVIDENCE, policy).failed}


def test_drafts_of_machines() -> None:
    """A draft from each kind of machine is met by it, and loads as itself."""
    for tee in GUESTS:
        policy = draft(_of(tee))
        assert policy.machine is not None
        assert policy.machine.identity.whole == {tee}
        assert loads(dumps(policy).encode()) == policy
        rules = appraise(
            _of(tee), policy, nonce=None, runtime_data=None, launch_configuration=None, now=NOW,
            report_data=EVIDENCE.value.report_data,
        ).rules  # fmt: skip
        assert {rule.name for rule in rules if not rule.ok and rule.name.startswith("machine")} == set()


def test_no_draft_accepts_any_guest() -> None:
    """Evidence that does not identify the guest has no draft."""
    machine = EVIDENCE.value.machine
    assert machine is not None
    bare = dataclasses.replace(SAMPLES[Tee.TPM], registers={})
    claims = dataclasses.replace(EVIDENCE.value, machine=dataclasses.replace(machine, claims=bare))
    with pytest.raises(PolicyError) as caught:
        draft(mint(claims))
    assert caught.value.message == (
        "draft: want evidence that identifies the machine's guest, got no registers: the draft would accept"
        " any guest"
    )


def test_this_machine() -> None:
    """A draft of a single machine names the chip."""
    named = draft(EVIDENCE, this_machine=True).machine
    assert named is not None
    assert named.identity.tables[Tee.SNP]["platforms"] == OneOf(frozenset({FORGE.processor.chip_id}))


@pytest.mark.parametrize("policy", [POLICY, DRAFT, _machine(only=frozenset({IMAGE}), max_collateral_age=ANY)])
def test_policies_read_back(policy: Policy) -> None:
    """A policy of either version with a machine is written and read as itself, and has another id."""
    text = dumps(policy)
    assert loads(text.encode()) == policy
    assert "[machine]" in text
    assert "[machine.snp]" in text
    assert identity_bytes(policy) != identity_bytes(dataclasses.replace(policy, machine=None))


def test_policies_without_a_machine_keep_their_id() -> None:
    """A policy without the table is written as before."""
    assert "machine" not in dumps(BARE)
    assert identity_bytes(BARE) == dumps(BARE).encode()


def test_an_age_between_days_counts() -> None:
    """What the text cannot express is part of the id."""
    half = _machine(max_collateral_age=timedelta(hours=12))
    assert identity_bytes(half) != identity_bytes(_machine(max_collateral_age=timedelta(0)))


TEXT = dumps(POLICY)
REFUSED: dict[str, tuple[str, str, str, str | None]] = {
    "a key that is missing": (
        "any_guest = false",
        "",
        "policy.machine.any_guest: is not stated",
        "kluis policy init writes a complete policy",
    ),
    "a key that is misspelt": (
        "any_guest = false",
        "any_guests = false",
        "policy.machine.any_guest: is not stated",
        "it has any_guests: did you mean any_guest",
    ),
    "a table that is misspelt": (
        "[machine.snp]",
        "[machine.spn]",
        "policy.machine: has no table of a TEE; want at least one of snp, tdx, azure, nitro, tpm, got 'spn'",
        "kluis policy init writes a complete policy",
    ),
    "an enclave as a machine": (
        "[machine.snp]",
        "[machine.sgx]\n[machine.snp]",
        "policy.machine.sgx: is not a key of a policy",
        "kluis policy init writes a complete policy",
    ),
    "a key of a TEE that is missing": (
        "vmpl = [0]",
        "",
        "policy.machine.snp.vmpl: is not stated",
        "kluis policy init writes a complete policy",
    ),
    "another key": (
        "any_guest = false",
        "any_guest = false\nmore = 1",
        "policy.machine.more: is not a key of a policy",
        "kluis policy init writes a complete policy",
    ),
    "an unknown level": (
        'levels = ["process"]',
        'levels = ["root"]',
        "policy.machine.levels: want some of process, process-user, got 'root'",
        "kluis policy init writes a complete policy",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_texts_that_are_refused(name: str) -> None:
    """A table is read whole, and the error names the key."""
    old, new, message, hint = REFUSED[name]
    assert old in TEXT
    with pytest.raises(FormatError) as caught:
        loads(TEXT.replace(old, new, 1).encode())
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": frozenset()}, "policy.machine.levels: want at least 1, got 0"),
        ({"only": frozenset()}, "policy.machine.only: want at least 1, got 0"),
        ({"guest_releases": frozenset()}, "policy.machine.guest_releases: want at least 1, got 0"),
        ({"only": frozenset({b"1"})}, "policy.machine.only: want 32 bytes, got 1"),
        (
            {"identity": draft(mint(SAMPLES[Tee.SGX])).identity},
            "policy.machine.sgx: want one of snp, tdx, azure, nitro, tpm: no other endorses a root",
        ),
    ],
)
def test_tables_that_accept_nothing(changes: dict[str, Any], message: str) -> None:
    """A list that accepts nothing, and a TEE that endorses nothing, are refused."""
    with pytest.raises(UsageError) as caught:
        _machine(**changes)
    assert caught.value.message == message


def test_reference_values() -> None:
    """A guest's measurements may come from its publisher, and releases are not mixed."""
    wanted = _table(measurements=REFERENCE)
    assert wanted.referenced
    assert not POLICY.referenced
    assert {rule.name for rule in _judge(policy=wanted).failed} == {"machine_measurement"}
    one = f'version = 1\n[[values]]\ntee = "snp"\nname = "1.0"\nmeasurements = ["{GUEST.hex()}"]\n'
    two = one + f'[[values]]\ntee = "snp"\nname = "1.1"\nmeasurements = ["{"c3" * 48}"]\n'
    for text in (one, two):
        given = ReferenceValues.loads(text.encode()).apply(wanted)
        assert _judge(policy=given).failed == ()
        assert loads(dumps(given).encode()) == given
    assert "[[machine.releases.snp]]" in dumps(given)
    assert "release" in {rule.name.removeprefix("machine_") for rule in _judge(policy=given).rules}
    assert identity_bytes(given) != identity_bytes(_table())


def test_the_levels_of_a_machine() -> None:
    """The enclave's level is the machine's: a policy for a process TEE does not accept it."""
    other = dataclasses.replace(POLICY, protection=frozenset({ProtectionLevel.PROCESS}))
    (failed,) = _judge(policy=other).failed
    assert (failed.name, failed.got) == ("protection", "vm")


def test_the_image_of_the_runtime_data_is_judged() -> None:
    """The runtime data of an enclave in a machine must be of its own image, under any anchor."""
    renamed = dataclasses.replace(EVIDENCE.value, anchor="AMD ARK-Genoa")
    rules = {rule.name: rule for rule in _judge(mint(renamed)).rules}
    assert rules["runtime_image"].ok
    assert rules["launch_level"].want == "process"


def test_all_machines_have_tables() -> None:
    """The key that identifies the guest is one of its TEE's table."""
    for tee, key in GUESTS.items():
        assert key in {field.key for field in TABLES[tee]}
    assert isinstance(MACHINE, ByMachine)
    assert isinstance(MACHINE.identity.tables[Tee.SNP]["vmpl"], Named)
