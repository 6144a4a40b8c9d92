"""What evidence of something that is not Kluis's must be bound to: report data, or a nonce."""

from __future__ import annotations

import dataclasses

import pytest

from kluis.appraisal import ANY, Aspect, ReportDataBinding, Session
from kluis.appraisal.policy.values import short
from kluis.appraisal.rules.binding import report_data_rules
from kluis.evidence import Claims
from tests.appraisal.samples import SGX

DATA = SGX.report_data
NONCE = b"\7" * 32
OVER_NONCE = dataclasses.replace(SGX, report_data=NONCE + bytes(32))
NITRO_LIKE = dataclasses.replace(SGX, report_data=b"", nonce=NONCE)

# name: binding, claims, nonce, report data given, and which rules fail
CASES = {
    "exact": (ReportDataBinding(report_data=DATA), SGX, None, None, []),
    "exact, another": (ReportDataBinding(report_data=bytes(64)), SGX, None, None, ["report_data"]),
    "a prefix": (ReportDataBinding(report_data=DATA[:32]), SGX, None, None, ["report_data"]),
    "empty, and empty": (ReportDataBinding(report_data=b""), NITRO_LIKE, None, None, []),
    "empty wanted": (ReportDataBinding(report_data=b""), SGX, None, None, ["report_data"]),
    "given": (ReportDataBinding(report_data=Session.GIVEN), SGX, None, DATA, []),
    "given, another": (ReportDataBinding(report_data=Session.GIVEN), SGX, None, bytes(64), ["report_data"]),
    "given, and none is": (ReportDataBinding(report_data=Session.GIVEN), SGX, None, None, ["report_data"]),
    "given empty": (ReportDataBinding(report_data=Session.GIVEN), NITRO_LIKE, None, b"", ["report_data"]),
    "nonce": (ReportDataBinding(report_data=Session.NONCE), OVER_NONCE, NONCE, None, []),
    "nonce, another": (ReportDataBinding(report_data=Session.NONCE), SGX, NONCE, None, ["report_data"]),
    "nonce, and none is": (
        ReportDataBinding(report_data=Session.NONCE),
        OVER_NONCE,
        None,
        None,
        ["report_data"],
    ),
    "nonce of all of it": (
        ReportDataBinding(report_data=Session.NONCE),
        dataclasses.replace(SGX, report_data=NONCE * 2),
        NONCE * 2,
        None,
        [],
    ),
    "nonce too long": (
        ReportDataBinding(report_data=Session.NONCE),
        OVER_NONCE,
        bytes(65),
        None,
        ["report_data"],
    ),
    "any": (ReportDataBinding(report_data=ANY), SGX, None, None, []),
    "a nonce of its own": (ReportDataBinding(report_data=ANY, nonce=True), NITRO_LIKE, NONCE, None, []),
    "another nonce": (ReportDataBinding(report_data=ANY, nonce=True), NITRO_LIKE, b"\1", None, ["nonce"]),
    "a nonce that begins the same": (
        ReportDataBinding(report_data=ANY, nonce=True),
        NITRO_LIKE,
        NONCE[:16],
        None,
        ["nonce"],
    ),
    "no nonce of the relying party's": (
        ReportDataBinding(report_data=ANY, nonce=True),
        NITRO_LIKE,
        None,
        None,
        ["nonce"],
    ),
    "no place for a nonce": (ReportDataBinding(report_data=DATA, nonce=True), SGX, NONCE, None, ["nonce"]),
    "an empty nonce on both sides": (
        ReportDataBinding(report_data=ANY, nonce=True),
        dataclasses.replace(NITRO_LIKE, nonce=b""),
        b"",
        None,
        ["nonce"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_binding(name: str) -> None:
    """Compared in full; what is not given, and what the evidence has no place for, is not met."""
    binding, claims, nonce, given, failing = CASES[name]
    rules = list(report_data_rules(claims, binding, nonce, given))
    assert [rule.name for rule in rules if not rule.ok] == failing
    assert all(rule.want and rule.got and (rule.ok or rule.fix) for rule in rules)
    assert [rule.name for rule in rules] == ["report_data", *["nonce"] * binding.nonce]
    # Its purpose does not identify the instance that made it.
    assert not any(rule.affirms for rule in rules)
    stale = {rule.name for rule in rules if rule.stale}
    session = {"report_data"} if binding.report_data is Session.NONCE else set()
    assert stale == session | ({"nonce"} if binding.nonce else set())


RENEW = "the evidence was made for something else: ask for new evidence"
REPLAY = "ask for new evidence over your own nonce"
GIVE_NONCE = "give the nonce you made: --nonce"
NOT_GIVEN = "one, and the relying party gave none"
GIVEN, OVER = ReportDataBinding(report_data=Session.GIVEN), ReportDataBinding(report_data=Session.NONCE)
OF_ITS_OWN = ReportDataBinding(report_data=ANY, nonce=True)


@pytest.mark.parametrize(
    ("binding", "claims", "nonce", "given", "told"),
    [
        (GIVEN, SGX, None, bytes(64), (short(bytes(64)), short(DATA), RENEW)),
        (GIVEN, SGX, None, None, (NOT_GIVEN, short(DATA), "give what you bound: --report-data")),
        (GIVEN, NITRO_LIKE, None, DATA, (short(DATA), "none", RENEW)),
        (OVER, SGX, NONCE, None, (short(NONCE + bytes(32)), short(DATA), REPLAY)),
        (OVER, SGX, bytes(65), None, (NOT_GIVEN, short(DATA), GIVE_NONCE)),
        (OVER, SGX, None, None, (NOT_GIVEN, short(DATA), GIVE_NONCE)),
        (ReportDataBinding(report_data=bytes(2)), NITRO_LIKE, None, None, ("0000", "none", RENEW)),
        (ReportDataBinding(report_data=b""), SGX, None, None, ("none", short(DATA), RENEW)),
        (OF_ITS_OWN, NITRO_LIKE, b"\1", None, ("01", short(NONCE), REPLAY)),
        (OF_ITS_OWN, NITRO_LIKE, None, None, (NOT_GIVEN, short(NONCE), GIVE_NONCE)),
        (OF_ITS_OWN, dataclasses.replace(SGX, nonce=b""), b"\1", None, ("01", "none", REPLAY)),
    ],
)
def test_what_is_told(
    binding: ReportDataBinding,
    claims: Claims,
    nonce: bytes | None,
    given: bytes | None,
    told: tuple[str, str, str],
) -> None:
    """Expected, actual and fix, in this order; reported for the instance."""
    (rule,) = (rule for rule in report_data_rules(claims, binding, nonce, given) if not rule.ok)
    assert (rule.want, rule.got, rule.fix, rule.aspect) == (*told, Aspect.INSTANCE_IDENTITY)


def test_where_there_is_no_place_for_a_nonce() -> None:
    """Evidence that cannot hold a nonce is distinguished from evidence over another one."""
    binding = ReportDataBinding(report_data=ANY, nonce=True)
    fixes = [list(report_data_rules(c, binding, NONCE, None))[1].fix or "" for c in (SGX, NITRO_LIKE)]
    assert fixes == [
        'evidence of this kind has no place for a nonce: bind it with report_data = "nonce"',
        "",
    ]
    other = list(report_data_rules(NITRO_LIKE, binding, b"another", None))[1]
    assert other.fix == "ask for new evidence over your own nonce"
