"""Every field of every TEE's table is a rule: met by what was drafted from the claims, failed by others."""

from __future__ import annotations

import dataclasses
import itertools
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.appraisal import ANY, Aspect, ByImage, ByTable, Policy, strict
from kluis.appraisal.policy import structured, wants
from kluis.appraisal.policy.fields import Field
from kluis.appraisal.policy.model import Identity, Release
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.wants import Want
from kluis.appraisal.rules.identity import _judge, identity_rules
from kluis.appraisal.rules.platform import platform_rules
from kluis.errors import UsageError
from kluis.evidence import ProtectionLevel
from kluis.evidence.azure.claims import AzureClaims
from kluis.evidence.model import Claims, Tee, VendorClaims
from kluis.evidence.tpm.claims import TpmClaims
from kluis.formats.kluis.runtime_data import Purpose
from tests.appraisal.samples import NOW, SAMPLES, SGX, changed, digest
from tests.strategies import PROPERTY

FIELDS = [(tee, field) for tee, fields in TABLES.items() for field in fields]
# What is true or false has no other value that a want could name: tests of wants have those.
MANY = [(tee, field) for tee, field in FIELDS if field.form.want not in {wants.Allowed, wants.Required}]
IDS = [f"{tee}.{field.key}" for tee, field in FIELDS]


def _table(tee: Tee, **stated: Want) -> ByTable:
    return ByTable(tables={tee: {field.key: stated.get(field.key, ANY) for field in TABLES[tee]}})


def _drafted(tee: Tee) -> ByTable:
    claims = SAMPLES[tee]
    return _table(tee, **{field.key: field.form.draft(field.claim(claims)) for field in TABLES[tee]})


def _other(want: Want) -> Want:
    """A want of the same kind that what ``want`` was drafted from does not meet."""
    match want:
        case wants.OneOf():
            return wants.OneOf(frozenset({bytes(each ^ 0xFF for each in value) for value in want.values}))
        case wants.Named(values=values):
            number = isinstance(next(iter(values)), int)
            return wants.Named(frozenset({3}) if number else frozenset({"another"}))
        case wants.AtLeast(value=int(value)):
            return wants.AtLeast(value + 1)
        case wants.AtLeast(value=tuple(value)):
            return wants.AtLeast((value[0] + 1, *value[1:]))
        case wants.AtMost():
            return wants.AtMost(0)
        case wants.Exactly(value=value):
            return wants.Exactly(value + 1)
        case structured.Masked(mask=mask, value=value):
            return structured.Masked(mask, value ^ mask)
        case structured.Registers(values=values):
            name, held = next(iter(values.items()))
            return structured.Registers({**values, name: frozenset(bytes(len(each)) for each in held)})
        case structured.Components(products=products):
            (name, parts), *_ = products.items()
            part = next(iter(parts))
            return structured.Components({name: {**parts, part: parts[part] + 1}})
        case _:
            raise AssertionError(want)


def test_ages_have_their_unit() -> None:
    """A document's age is told in seconds, as the policy has it."""
    rules = {rule.name: rule for rule in identity_rules(SAMPLES[Tee.NITRO], _drafted(Tee.NITRO))}
    assert (rules["document_age"].want, rules["document_age"].got) == ("at most 300 s", "7 s")


def test_every_tee_has_claims() -> None:
    """No table is without claims to be judged by, and no TEE without a table."""
    assert set(SAMPLES) == set(TABLES)


@pytest.mark.parametrize("tee", TABLES)
def test_what_is_drafted_is_met(tee: Tee) -> None:
    """A table drafted from claims is met by them, rule by rule, and has a rule for every field."""
    rules = list(identity_rules(SAMPLES[tee], _drafted(tee)))
    assert [rule.name for rule in rules] == [field.rule for field in TABLES[tee]]
    assert [rule for rule in rules if not rule.ok] == []


@pytest.mark.parametrize(("tee", "field"), MANY, ids=lambda one: getattr(one, "key", one))
def test_another_value_fails_its_rule_alone(tee: Tee, field: Field) -> None:
    """Wanting another value of one field fails that field's rule, says want, got and fix, and no other."""
    drafted = dict(_drafted(tee).tables[tee])
    want = drafted[field.key]
    if want == ANY:
        pytest.fail(f"{field.key}: these claims have no value to judge")
    stated = ByTable(tables={tee: {**drafted, field.key: _other(want)}})
    failed = [rule for rule in identity_rules(SAMPLES[tee], stated) if not rule.ok]
    assert [rule.name for rule in failed] == [field.rule]
    assert failed[0].fix == field.fix
    assert failed[0].want
    assert failed[0].got


@pytest.mark.parametrize(("tee", "field"), FIELDS, ids=IDS)
def test_a_claim_that_is_not_there_meets_any_alone(tee: Tee, field: Field) -> None:
    """What evidence does not say meets no want but any: nothing is skipped for want of a value."""
    want = _drafted(tee).tables[tee][field.key]
    assert not want.meets(None)
    assert ANY.meets(None)


@pytest.mark.parametrize(("tee", "field"), FIELDS, ids=IDS)
def test_another_makers_claims_have_nothing_to_say(tee: Tee, field: Field) -> None:
    """A field that only one maker has reads nothing out of another's claims."""
    claims = SAMPLES[tee]
    other = dataclasses.replace(claims, vendor=VendorClaims())
    assert field.claim(other) in (None, field.claim(claims))


@pytest.mark.parametrize("tee", [Tee.TPM, Tee.AZURE])
def test_a_log_that_tells_nothing_is_no_log(tee: Tee) -> None:
    """Where an event log is wanted, one that explains no register of firmware's is as good as none."""
    claims = SAMPLES[tee]
    tpm = claims if tee is Tee.TPM else cast("AzureClaims", claims.vendor).tpm
    assert tpm is not None
    log = cast("TpmClaims", tpm.vendor).log
    assert log is not None
    for told in (None, dataclasses.replace(log, reproduced=frozenset({9}))):
        other = changed(tpm, log=told)
        failed = [
            rule
            for rule in identity_rules(other if tee is Tee.TPM else changed(claims, tpm=other), _drafted(tee))
            if not rule.ok
        ]
        assert ("event_log", "yes", "no") in [(rule.name, rule.want, rule.got) for rule in failed]


def test_no_table_no_rule() -> None:
    """A TEE that the policy has no table for is refused by the rule of TEEs; no other can run."""
    others = [tee for tee in TABLES if tee is not Tee.SGX]
    for tee in others:
        assert list(identity_rules(SGX, _table(tee))) == []


def test_the_rules_of_a_tee_have_names_of_their_own() -> None:
    """No two fields of one table share a key or a rule."""
    for fields in TABLES.values():
        assert len({field.key for field in fields}) == len({field.rule for field in fields}) == len(fields)


def test_registers_that_are_not_there() -> None:
    """Without a vTPM there are no registers, and a want of some is not met."""
    wanted = structured.Registers({"pcr0": frozenset({bytes(32)})})
    table = _table(Tee.AZURE, registers=wanted)
    rules = {rule.name: rule for rule in identity_rules(changed(SAMPLES[Tee.AZURE], tpm=None), table)}
    assert (rules["pcrs"].ok, rules["pcrs"].want, rules["pcrs"].got) == (False, str(wanted), "none")


def test_registers_tell_the_failing_ones_alone() -> None:
    """Of many registers, those that fail are told."""
    claims = dataclasses.replace(SGX, registers={"pcr0": digest(1), "pcr1": digest(2)})
    held = structured.Registers(
        {f"pcr{i}": frozenset({each}) for i, each in enumerate((b"\1" * 48, b"\3" * 48, b"\4" * 48))}
    )
    assert held.failing(claims.registers) == ["pcr1", "pcr2"]
    assert not held.meets(claims.registers)
    rule = _judge("registers", held, claims.registers, fix="x")
    assert (rule.want, rule.got) == ("pcr1 03030303..0303, pcr2 04040404..0404", "pcr1 02020202..0202")


@PROPERTY
@given(st.data(), st.sampled_from(list(itertools.chain(TABLES))))
def test_the_order_of_keys_does_not_matter(data: st.DataObject, tee: Tee) -> None:
    """The same table with its keys in another order gives the same rules."""
    table = _drafted(tee).tables[tee]
    keys = data.draw(st.permutations(list(table)))
    claims: Claims = SAMPLES[tee]
    other = ByTable(tables={tee: {key: table[key] for key in keys}})
    assert list(identity_rules(claims, other)) == list(identity_rules(claims, _drafted(tee)))


def test_firmware_that_two_parts_claim_to_be_is_none() -> None:
    """Two parts of one name, or one without, cannot be told apart: then there is nothing to accept."""
    claims = SAMPLES[Tee.CCA]
    field = next(field for field in TABLES[Tee.CCA] if field.key == "firmware")
    part = claims.vendor.components[0]  # type: ignore[attr-defined]
    for parts in ((part, part), (dataclasses.replace(part, kind=None),)):
        vendor = dataclasses.replace(claims.vendor, components=parts)  # type: ignore[call-arg]
        assert field.claim(dataclasses.replace(claims, vendor=vendor)) is None


def test_bits_are_told_as_they_are_wanted() -> None:
    """A number of which some bits are wanted is told in hex, as the policy has it."""
    rule = _judge("attributes", structured.Masked(0xF0, 0x10), 0x10000010, fix="none")
    assert (rule.ok, rule.want, rule.got) == (True, "0x10 under 0xf0", "0x10000010")


def _policy(identity: Identity) -> Policy:
    return strict(
        identity,
        protection=frozenset({ProtectionLevel.HARDWARE_SNP}),
        purpose=Purpose.CLI,
        counters=frozenset({"unwitnessed"}),
        missing=frozenset(),
    )


def _composed(hardware: Want, *tees: Tee) -> Policy:
    """A policy for Azure's VMs on some hardware, beside tables of their own for others."""
    tables = {tee: _table(tee).tables[tee] for tee in tees}
    return _policy(ByTable(tables={**tables, **_table(Tee.AZURE, hardware=hardware).tables}))


@pytest.mark.parametrize(
    ("policy", "whole"),
    [
        (_composed(wants.Named(frozenset({"snp"})), Tee.SNP), {Tee.AZURE}),
        (_composed(wants.Named(frozenset({"tdx"})), Tee.SNP, Tee.TDX), {Tee.AZURE, Tee.SNP}),
        (_composed(ANY, Tee.SNP, Tee.TDX, Tee.NITRO), {Tee.AZURE, Tee.NITRO}),
        (_policy(_table(Tee.SNP)), {Tee.SNP}),
        (_policy(ByImage(image_ids=frozenset({bytes(32)}))), {Tee.SGX}),
    ],
)
def test_what_is_judged_within_another(policy: Policy, whole: set[Tee]) -> None:
    """Hardware that Azure's table names is judged within Azure's evidence, and not alone."""
    assert policy.whole == whole


def _tee(claims: Claims, policy: Policy) -> tuple[bool, str, str, str]:
    rule = next(rule for rule in platform_rules(claims, policy, NOW) if rule.name == "tee")
    return rule.ok, rule.want, rule.got, (rule.fix or "")[:16]


def test_hardware_alone_where_a_vm_is_wanted() -> None:
    """All parts of composed evidence have a table, and a part that stands alone is no composed evidence."""
    both = _composed(wants.Named(frozenset({"snp"})), Tee.SNP)
    assert _tee(SAMPLES[Tee.AZURE], both) == (True, "azure", "azure on snp", "")
    assert _tee(SAMPLES[Tee.SNP], both) == (False, "azure", "snp", "pass all evidenc")
    assert _tee(SAMPLES[Tee.NITRO], both) == (False, "azure", "nitro", "give a policy th")
    azure = _composed(wants.Named(frozenset({"snp"})))
    assert _tee(SAMPLES[Tee.AZURE], azure) == (False, "azure", "azure on snp", "give a policy th")
    assert _tee(SAMPLES[Tee.SNP], _policy(_table(Tee.SNP))) == (True, "snp", "snp", "")


def _waiting(tee: Tee) -> ByTable:
    return _table(tee, registers=wants.REFERENCE)


@pytest.mark.parametrize(
    ("identity", "referenced"),
    [
        (_table(Tee.SNP, measurements=wants.REFERENCE), True),
        (
            ByTable(tables={**_table(Tee.SNP).tables, **_table(Tee.TPM, registers=wants.REFERENCE).tables}),
            True,
        ),
        (_table(Tee.SNP), False),
        (ByImage(image_ids=frozenset({bytes(32)})), False),
    ],
)
def test_who_waits_for_reference_values(identity: Identity, referenced: bool) -> None:
    """A policy with a want that somebody else fills waits for it."""
    assert _policy(identity).referenced is referenced


M = {name: wants.OneOf(frozenset({byte * 48})) for name, byte in (("1", b"\1"), ("2", b"\2"))}
R = {
    f"{name}={byte}": structured.Registers({name: frozenset({bytes([byte]) * 48})})
    for name in ("pcr0", "pcr1")
    for byte in (1, 2)
}
A, B = (Release(name=f"release {n}", wants={"measurements": M[n], "registers": R[f"pcr0={n}"]}) for n in "12")
CODE, FIRST, NEXT = (
    Release(name=name, wants=each)
    for name, each in (
        ("code", {"measurements": M["1"]}),
        ("first", {"registers": R["pcr0=1"]}),
        ("next", {"registers": R["pcr1=2"]}),
    )
)


@pytest.mark.parametrize(
    ("releases", "has", "ok", "got"),
    [
        ((A, B), (1, 1, 1), True, "release 1"),
        ((A, B), (2, 2, 1), True, "release 2"),
        ((A, B), (1, 2, 1), False, "none of them whole"),
        ((A, B), (2, 1, 1), False, "none of them whole"),
        ((A, CODE), (1, 1, 1), True, "code or release 1"),
        ((A, CODE), (1, 2, 1), False, "code"),
        ((CODE, FIRST, NEXT), (1, 1, 2), True, "code or first or next"),
        ((CODE, FIRST, NEXT), (1, 1, 1), False, "code or first"),
        ((CODE, FIRST, NEXT), (1, 2, 2), False, "code or next"),
    ],
)
def test_one_release_whole(
    releases: tuple[Release, ...], has: tuple[int, int, int], ok: bool, got: str
) -> None:
    """Each value is one of a release that fits wholly: parts of several are of none."""
    code, first, following = has
    claims = changed(
        SAMPLES[Tee.NITRO],
        measurement=digest(code),
        registers={"pcr0": digest(first), "pcr1": digest(following)},
    )
    identity = ByTable(tables=_table(Tee.NITRO).tables, releases={Tee.NITRO: releases})
    rule = next(rule for rule in identity_rules(claims, identity) if rule.name == "release")
    names = " or ".join(sorted(each.name for each in releases))
    assert (rule.ok, rule.want, rule.got) == (ok, f"all values of {names}", got)
    assert (rule.aspect, rule.affirms, rule.fix is None) == (Aspect.EXECUTABLES, True, ok)


def test_releases_cannot_be_changed() -> None:
    """A release says something, and those of a policy stay what they were."""
    with pytest.raises(UsageError, match=r"^release: want at least 1, got 0(?m:$)"):
        Release(name="nothing", wants={})
    given = {Tee.NITRO: (A, B)}
    identity = ByTable(tables=_table(Tee.NITRO).tables, releases=given)
    given[Tee.NITRO] = (A,)
    assert identity.releases == {Tee.NITRO: (A, B)}
    with pytest.raises(TypeError):
        identity.releases[Tee.NITRO] = (A,)  # type: ignore[index]
    with pytest.raises(
        UsageError, match=r"^policy.releases.sgx: want also a table of that TEE, got no table(?m:$)"
    ):
        ByTable(tables=_table(Tee.NITRO).tables, releases={Tee.SGX: (A,)})
    other = Release(name="x", wants={"other": A.wants["measurements"]})
    with pytest.raises(UsageError, match=r"^policy.releases.nitro.other: has no reference values(?m:$)"):
        ByTable(tables=_table(Tee.NITRO).tables, releases={Tee.NITRO: (A, other)})
    assert A.things == B.things == {("measurements", ""), ("registers", "pcr0")}
