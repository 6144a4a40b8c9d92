"""Format evidence, claims and results as lines for people; :mod:`kluis.views.values` does it for
``--json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from kluis.errors import foreign
from kluis.evidence import Claims, Machine, denylist
from kluis.evidence.levels import MEANINGS, ProtectionLevel
from kluis.evidence.model import TcbStatus
from kluis.formats.encoding.brief import short, until
from kluis.hashes import Digest
from kluis.views.values import describe_log, zulu

if TYPE_CHECKING:
    from kluis.appraisal import AttestationResult
    from kluis.evidence.eventlog.judgement import LogClaims

# Note for keys that a machine's own operator made.
_EMULATED: Final = {ProtectionLevel.PROCESS_USER, ProtectionLevel.PROCESS, ProtectionLevel.VM}
# Marks omitted text in the middle of a long value.
_CUT: Final = ".."


def authentic(value: Claims) -> list[str]:
    """What verification proved, one line per claim."""
    tcb = value.tcb
    issued = f"issued {zulu(value.collateral_issued)}, " if value.collateral_issued else ""
    rows = [
        ("authentic", f"{value.kind}, signed under {value.anchor}"),
        ("collateral", f"{issued}valid {until(value.valid_until)}"),
        ("tcb", f"{tcb.status}" + (f": {', '.join(tcb.advisories)}" if tcb.advisories else "")),
        ("measurement", _digest(value.measurement)),
    ]
    if value.wrapper is not None:
        bound = "".join(
            f", which binds {what} {short(bound_digest)}"
            for what, bound_digest in value.wrapper.binds.items()
        )
        rows.insert(1, ("came in", f"{value.wrapper.name}{bound}"))
    if value.signer is not None:
        rows.append(("signer", _digest(value.signer)))
    for name, number in (("product", value.product_id), ("svn", value.svn)):
        if number is not None:
            rows.append((name, str(number)))
    rows += [(name, _digest(digest)) for name, digest in value.registers.items() if any(digest.value)]
    if value.report_data:
        zeros = f"zeros ({len(value.report_data)} bytes)"
        rows.append(("report data", value.report_data.hex() if any(value.report_data) else zeros))
    if value.nonce:
        rows.append(("nonce", value.nonce.hex()))
    if value.platform.product:
        rows.append(("platform", f"{value.platform.product} {value.platform.id.hex()}".rstrip()))
    rows.append(("debug", "on: open to its host" if value.debug else "off"))
    if value.machine is not None:
        rows += _machine(value.machine)
    # True, but it must not be read as a verdict: only the policy decides whether the evidence is accepted.
    noted = {"debug"} if value.debug else set()
    if tcb.status not in (TcbStatus.UP_TO_DATE, TcbStatus.NOT_JUDGED):
        noted.add("tcb")
    return [f"{'note' if name in noted else 'ok':<5} {name:<21} {one_line(shown)}" for name, shown in rows]


def _machine(value: Machine) -> Iterator[tuple[str, str]]:
    """The machine around the enclave, as its TEE endorses it."""
    claims = value.claims
    yield "machine", f"{value.kind}, {claims.kind}, boot {value.boot.hex()}"
    yield "machine measurement", _digest(claims.measurement)
    yield from ((f"machine {name}", _digest(digest)) for name, digest in claims.registers.items())
    yield "machine runs", f"only image {value.only.hex()}" if value.only else "any image"
    if value.release:
        yield "machine guest", value.release
    if value.missing:
        yield "machine without", ", ".join(value.missing)


def _digest(value: Digest) -> str:
    """A digest for copying: the hex that a policy takes is one word."""
    return f"{value.algorithm} {value.value.hex()}"


def one_line(text: str) -> str:
    """Text from evidence on a single line, so that it cannot imitate one of our lines."""
    return foreign(text, len(text))


def log(value: LogClaims | None) -> Iterator[str]:
    """What an event log explains."""
    if (explanation := describe_log(value)) is not None:
        yield f"ok    {'event log':<21} {explanation}"


def level(value: Claims) -> Iterator[str]:
    """What the protection level is worth, and the attacks that neither it nor this platform prevents."""
    meaning = MEANINGS[value.level]
    yield f"protection {value.level}: keys made by {meaning.keys}; keeps out {meaning.keeps_out}"
    yield "not kept out:"
    for item in denylist.not_kept_out(value):
        yield f"  - {item}"


def result_lines(value: AttestationResult) -> Iterator[str]:
    """An attestation result: one check per line, the verdict, and what the level does not prevent."""
    yield from map(one_line, _result_lines(value))


def _result_lines(value: AttestationResult) -> Iterator[str]:
    yield f"ok    {'authentic':<21} {value.claims.kind}, signed under {value.claims.anchor}"
    for rule in value.rules:
        if rule.ok:
            got = rule.got if rule.got != "it" else rule.want
            yield f"ok    {rule.name:<21} {got}{' (any is accepted)' if rule.want == 'any' else ''}"
        else:
            yield f"FAIL  {rule.name:<21} want {rule.want}, got {rule.got}"
            yield f"      {'':<21} fix: {rule.fix}"
    for warning in value.warnings:
        yield f"note  {warning}"
    emulated = ", emulated: no hardware" if value.claims.level in _EMULATED else ""
    yield f"tier  {value.summary}; protection {value.claims.level}{emulated}"
    if value.failed:
        yield f"      kluis explain {value.failed[0].name} explains a rule"
        if any(_CUT in rule.got for rule in value.failed):
            yield "      kluis verify --json shows whole what is cut short here"
    yield from level(value.claims)
