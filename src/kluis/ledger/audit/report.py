"""What an audit found: for each check its result, with the file and the entry where it failed."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from kluis.errors import AuthenticityError, FormatError, foreign
from kluis.formats.ccf.txid import TxId
from kluis.frozen import frozen

MAX_FINDINGS: Final = 200
MOST_SHOWN: Final = 4000
"""Characters of a finding, some of which a dishonest service chose."""


class Check(enum.Enum):
    """A check, by the word that a report has for it."""

    FILES = "files"
    ENTRIES = "entries"
    PLACES = "places"
    NONCES = "nonces"
    ROOTS = "roots"
    NODE_SIGNATURES = "node-signatures"
    SERVICE_SIGNATURES = "service-signatures"
    SERVICE = "service"
    CERTIFICATES = "certificates"
    QUOTES = "quotes"
    VIEWS = "views"
    RECOVERY = "recovery"
    GOVERNANCE = "governance"
    REPLAY = "replay"
    SHARES = "shares"
    SECRETS = "secrets"
    CLAIMS = "claims"
    PRIVATE = "private"
    IDENTITY = "identity"
    RECEIPTS = "receipts"
    COPIES = "copies"
    END = "end"


class Result(enum.Enum):
    """How a finding counts."""

    OK = "ok"
    NOTE = "note"
    FAIL = "FAIL"


class Finding(NamedTuple):
    """One line of a report.

    Attributes:
        check: that it is of.
        result: of the check, or of this place.
        message: what was seen; for a failure what was wanted and got.
        file: where; empty if it concerns no one file.
        txid: of the entry; None if it concerns no one entry.
    """

    check: Check
    result: Result
    message: str
    file: str = ""
    txid: TxId | None = None

    def __str__(self) -> str:
        where = " ".join(part for part in (self.file, "" if self.txid is None else str(self.txid)) if part)
        said = f"{where}{': ' if where else ''}{self.message}"
        return f"{self.result.value:4}  {self.check.value:18}  {foreign(said, MOST_SHOWN)}"


@frozen(kw_only=True)
class Report:
    """All that an audit found.

    Attributes:
        findings: one or more for each check that was made.
        entries: how many were read.
        signatures: how many signed roots hold.
        verified: the last entry that holds a signature; None if no signature holds.
        last: the last entry; None in an empty ledger.
        root: the last signed root, 32 bytes; None if no signature holds.
        broken: whether a file could not be read, and not only believed.
    """

    findings: tuple[Finding, ...]
    entries: int
    signatures: int
    verified: TxId | None
    last: TxId | None
    root: bytes | None
    broken: bool

    @property
    def failures(self) -> tuple[Finding, ...]:
        """What failed."""
        return tuple([each for each in self.findings if each.result is Result.FAIL])

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def require(self) -> None:
        """Refuse a ledger in which something failed.

        Raises:
            FormatError: a file cannot be read.
            AuthenticityError: something else does not hold.
        """
        failures = self.failures
        if not failures:
            return
        first = failures[0]
        where = " ".join(part for part in (first.file, str(first.txid or "")) if part)
        message = f"ledger {first.check.value}: {where}{': ' if where else ''}{first.message}"
        if self.broken:
            raise FormatError(message, code="ledger_audit")
        raise AuthenticityError(message, code="ledger_audit")


class Findings:
    """Collects findings; a check that met no failure is ok with its own words."""

    def __init__(self) -> None:
        self.all: list[Finding] = []
        self.broken = False
        self.file = ""
        self.txid: TxId | None = None
        self.failures = 0
        """How many there were, listed or not."""
        self._notes = 0

    def fail(self, check: Check, message: str, *, here: bool = True) -> None:
        """Note a failure, at the present entry."""
        self.failures += 1
        if self.failures > MAX_FINDINGS:
            return
        place = (self.file, self.txid) if here else ("", None)
        self.all.append(Finding(check, Result.FAIL, message, *place))

    def note(self, check: Check, message: str, *, here: bool = False) -> None:
        """Note what the reader should know."""
        self._notes += here
        if here and self._notes > MAX_FINDINGS:  # apart from failures: notes of junk must not crowd them out
            return
        place = (self.file, self.txid) if here else ("", None)
        self.all.append(Finding(check, Result.NOTE, message, *place))

    def has_failed(self, check: Check) -> bool:
        """Whether a check failed so far."""
        return any(each.check is check and each.result is Result.FAIL for each in self.all)

    def conclude(self, passed: dict[Check, str]) -> tuple[Finding, ...]:
        """All findings in the order of the checks, with one line for each check that held."""
        done = [
            Finding(check, Result.OK, message)
            for check, message in passed.items()
            if not self.has_failed(check)
        ]
        order = {check: position for position, check in enumerate(Check)}
        ordered = sorted([*done, *self.all], key=lambda each: order[each.check])
        if (dropped := self.failures - MAX_FINDINGS) > 0:
            message = f"{dropped} further failures are not listed"
            ordered.append(Finding(Check.END, Result.NOTE, message))
        return tuple(ordered)
