"""Evidence, claims and results as lines for people and as values for ``--json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from kluis.appraisal import AttestationResult
from kluis.appraisal.policy.values import short, until
from kluis.appraisal.tokens import ear
from kluis.errors import foreign
from kluis.evidence import Claims, denylist
from kluis.evidence.eventlog.judgement import LogClaims
from kluis.evidence.levels import MEANINGS, ProtectionLevel
from kluis.evidence.model import TcbStatus
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.formats.kluis.runtime_data import RuntimeData
from kluis.hashes import Digest

# Of keys that a machine's own operator made.
_EMULATED: Final = {ProtectionLevel.PROCESS_USER, ProtectionLevel.PROCESS, ProtectionLevel.VM}
# In the midst of what a rule shows of a long value.
_CUT: Final = ".."


def claims(value: Claims) -> dict[str, Any]:
    """Claims, for JSON."""
    return {
        "kind": value.kind,
        "tee": value.tee,
        "protection": value.level,
        "anchor": value.anchor,
        "debug": value.debug,
        "measurement": str(value.measurement),
        "signer": str(value.signer) if value.signer else None,
        "product_id": value.product_id,
        "svn": value.svn,
        "config_id": value.config_id.hex() if value.config_id is not None else None,
        "registers": {name: str(digest) for name, digest in value.registers.items()},
        "report_data": value.report_data.hex(),
        "nonce": value.nonce.hex() if value.nonce is not None else None,
        "tcb": {
            "status": value.tcb.status,
            "date": _zulu(value.tcb.date) if value.tcb.date else None,
            "advisories": list(value.tcb.advisories),
            "evaluation": value.tcb.evaluation,
        },
        "platform": {"id": value.platform.id.hex(), "product": value.platform.product},
        "collateral_issued": _zulu(value.collateral_issued) if value.collateral_issued else None,
        "valid_until": _zulu(value.valid_until),
        "verified_at": _zulu(value.verified_at),
        "wrapper": plain(value.wrapper),
        "vendor": plain(value.vendor),
    }


def plain(value: object) -> Any:
    """A maker's typed claims as JSON: bytes in hex, digests and times as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return _zulu(value)
    if isinstance(value, Digest):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, frozenset)):
        return [plain(item) for item in value]
    return value


def authentic(value: Claims) -> list[str]:
    """What verification proved, one line a claim."""
    tcb = value.tcb
    issued = f"issued {_zulu(value.collateral_issued)}, " if value.collateral_issued else ""
    rows = [
        ("authentic", f"{value.kind}, signed under {value.anchor}"),
        ("collateral", f"{issued}valid {until(value.valid_until)}"),
        ("tcb", f"{tcb.status}" + (f": {', '.join(tcb.advisories)}" if tcb.advisories else "")),
        ("measurement", _digest(value.measurement)),
    ]
    if value.wrapper is not None:
        bound = "".join(f", which binds {what} {short(held)}" for what, held in value.wrapper.binds.items())
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
    # True, and nothing that anybody should read as well: whether it is accepted is the policy's to say.
    noted = {"debug"} if value.debug else set()
    if tcb.status not in (TcbStatus.UP_TO_DATE, TcbStatus.NOT_JUDGED):
        noted.add("tcb")
    return [f"{'note' if name in noted else 'ok':<5} {name:<21} {one_line(shown)}" for name, shown in rows]


def _digest(value: Digest) -> str:
    """A digest as a person copies it: the hex that a policy wants is a word of its own."""
    return f"{value.algorithm} {value.value.hex()}"


def one_line(text: str) -> str:
    """What evidence says, on the one line that it has: it can begin none that look like ours."""
    return foreign(text, len(text))


def log(value: LogClaims | None) -> Iterator[str]:
    """What an event log was found to explain."""
    if (said := explained(value)) is not None:
        yield f"ok    {'event log':<21} {said}"


def explained(value: LogClaims | None) -> str | None:
    """The same, as one sentence."""
    if value is None:
        return None
    names = {kind: [f"{value.registers.value}{n}" for n in sorted(getattr(value, kind))] for kind in _LOG}
    return f"{len(value.events)} events; " + "; ".join(
        f"{kind} {', '.join(held)}" for kind, held in names.items() if held
    )


_LOG = ("reproduced", "contradicted", "unexplained", "unseen", "untrusted")


def level(value: Claims) -> Iterator[str]:
    """What the protection level is worth, and what neither it nor this platform keeps out."""
    meaning = MEANINGS[value.level]
    yield f"protection {value.level}: keys made by {meaning.keys}; keeps out {meaning.keeps_out}"
    yield "not kept out:"
    for item in denylist.not_kept_out(value):
        yield f"  - {item}"


def worth(value: Claims) -> dict[str, Any]:
    """The same, for JSON."""
    meaning = MEANINGS[value.level]
    return {
        "keys_made_by": meaning.keys,
        "keeps_out": meaning.keeps_out,
        "not_kept_out": list(denylist.not_kept_out(value)),
    }


def result(value: AttestationResult) -> dict[str, Any]:
    """An attestation result, for JSON."""
    return {
        "verdict": value.verdict,
        "status": value.status,
        "vector": {str(aspect): number for aspect, number in value.vector.items()},
        "policy": ear.policy_id(value),
        "rules": [
            {"name": rule.name, "ok": rule.ok, "want": rule.want, "got": rule.got, "fix": rule.fix}
            for rule in value.rules
        ],
        "warnings": list(value.warnings),
        **worth(value.claims),
        "claims": claims(value.claims),
        "runtime_data": _runtime(value.runtime_data) if value.runtime_data else None,
        "launch": _launch(value.launch) if value.launch else None,
        "appraised_at": _zulu(value.appraised_at),
    }


def result_lines(value: AttestationResult) -> Iterator[str]:
    """An attestation result: one check a line, the verdict, and what the level does not keep out."""
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


def _runtime(value: RuntimeData) -> dict[str, Any]:
    return {
        "purpose": value.purpose,
        "image_id": value.image_id.hex(),
        "nonce": value.nonce.hex(),
        "keys": [dict(key) for key in value.keys],
        "payload_bytes": len(value.payload),
        "payload": short(value.payload),
    }


def _launch(value: LaunchConfiguration) -> dict[str, Any]:
    return {
        "level": value.level,
        "heap_bytes": value.heap_bytes,
        "scratch_bytes": value.scratch_bytes,
        "threads": value.threads,
        "grants": list(value.grants),
        "missing": list(value.missing),
        "counter": value.counter,
        "platform": value.platform.hex(),
    }


def _zulu(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
