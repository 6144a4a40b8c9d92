"""Judge whether a record ends as stated: its outcome is a promise about a verifier's result, no more and no
less.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from datetime import datetime
from typing import Final

from kluis.errors import (
    AuthenticityError,
    FormatError,
    FreshnessError,
    KluisError,
    UnavailableError,
    UnsupportedError,
)
from kluis.evidence import Claims, TrustAnchors, verify
from tests.corpus import chains, facts, logs
from tests.corpus.case import Case, case_of
from tests.corpus.moment import instant
from tests.corpus.record import Record

REFUSALS: Final = (FormatError, AuthenticityError, FreshnessError)


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """The result of a record: claims, or an error."""

    claims: Claims | None = None
    error: KluisError | None = None

    def __str__(self) -> str:
        if self.error is None:
            return "verified"
        return f"{type(self.error).__name__} {self.error.code}: {self.error.message}"


def judge(record: Record) -> tuple[str, ...]:
    """Run one record, and say in what it ends otherwise than it should.

    Returns:
        One sentence a difference; nothing if all is as expected.
    """
    rule = OUTCOMES.get(record.outcome)
    if rule is None:
        return (f"outcome {record.outcome!a} is not known",)
    return rule(record)


def run(record: Record, case: Case, anchors: TrustAnchors, now: datetime) -> Ending:
    """Verify a record's evidence, or its endorsements where it has nothing else."""
    try:
        if record.tee == "eventlog":
            logs.verify(record)
            return Ending()
        if case.evidence is None:
            chains.verify(record, case, anchors, now)
            return Ending()
        return Ending(verify(case.evidence, anchors=anchors, collateral=case.endorsements, now=now).value)
    except KluisError as error:
        return Ending(error=error)


def _ending(record: Record, anchors: TrustAnchors | None = None) -> Ending:
    try:
        case = case_of(record.tee, record.files)
        now = record.verify_time or instant(record.files)
    except (*REFUSALS, UnavailableError) as error:  # an endorsement that does not parse endorses nothing
        return Ending(error=error)
    return run(record, case, anchors or case.anchors, now)


def _valid(record: Record) -> tuple[str, ...]:
    ending = _ending(record)
    if ending.error is None:
        ending = _fuller(record) or ending
    if ending.error is not None:
        return (f"want verified, got {ending}",)
    return facts.differences(record, ending.claims)


def _fuller(record: Record) -> Ending | None:
    """The record once more, with all that endorses it, at a time when all of that is in time."""
    case = case_of(record.tee, record.files)
    if case.fuller is None:
        return None
    fuller = dataclasses.replace(case, endorsements=case.fuller)
    return run(record, fuller, case.anchors, instant(record.files))


def _untrusted(record: Record) -> tuple[str, ...]:
    """A log that replays although its types were rewritten: authentic, but secure boot is not reported."""
    ending = _ending(record)
    if ending.claims is None:
        return (f"want verified, got {ending}",)
    said = getattr(ending.claims.vendor, "secure_boot", None)
    odd = () if said is None else (f"want nothing said of secure boot, got {said}",)
    return (*odd, *facts.differences(record, ending.claims))


def _invalid(record: Record) -> tuple[str, ...]:
    ending = _ending(record)
    if isinstance(ending.error, REFUSALS):
        return ()
    if ending.error is None and (
        facts.refused_by_any_policy(record, ending.claims) or _refused_under_its_root(record)
    ):
        return ()
    return (f"want refused, got {ending}",)


def _refused_under_its_root(record: Record) -> bool:
    """Whether evidence of a vendor is refused with only the record's own root trusted."""
    try:
        roots = case_of(record.tee, record.files).roots
        anchors = functools.reduce(operator.or_, map(TrustAnchors.from_pem, roots)) if roots else None
    except REFUSALS:
        return True  # an invalid root proves nothing
    return anchors is not None and isinstance(_ending(record, anchors).error, REFUSALS)


def _test_root(record: Record) -> tuple[str, ...]:
    ending = _ending(record, TrustAnchors.shipped())
    if not isinstance(ending.error, REFUSALS):
        return (f"want refused under the vendors' roots, got {ending}",)
    roots = case_of(record.tee, record.files).roots
    if not roots:
        return ("want a root among the files, got none",)
    anchors = functools.reduce(operator.or_, map(TrustAnchors.from_pem, roots))
    ending = _ending(record, anchors)
    if ending.error is not None:
        return (f"want verified under the root in its files, got {ending}",)
    return facts.differences(record, ending.claims)


def _undecided(record: Record) -> tuple[str, ...]:
    ending = _ending(record)
    if isinstance(ending.error, UnavailableError):
        return ()
    return (f"want that nothing can be decided, got {ending}",)


def _unverifiable(record: Record) -> tuple[str, ...]:
    """Well-formed evidence that cannot be verified: the error names what is missing, or that no TEE is behind
    it.
    """
    ending = _ending(record)
    if isinstance(ending.error, UnsupportedError) and ending.error.code == "bad_type":
        return ()
    return _undecided(record)


def _either(record: Record) -> tuple[str, ...]:
    ending = _ending(record)
    if ending.error is None or isinstance(ending.error, (*REFUSALS, UnavailableError)):
        return ()
    return (f"want verified or refused, got {ending}",)


OUTCOMES: Final[dict[str, Callable[[Record], tuple[str, ...]]]] = {
    "valid": _valid,
    "valid-offline": _valid,
    "replays": _valid,
    "replay-ok-semantics-untrusted": _untrusted,
    "valid-offline-revoked-online": _valid,
    "invalid": _invalid,
    "invalid-strict": _invalid,
    "valid-under-test-root": _test_root,
    "indeterminate": _undecided,
    "parse-only": _unverifiable,
    "realm-only": _undecided,
    "ambiguous": _either,
}
