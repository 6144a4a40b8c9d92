"""Evidence, claims and results as values, for ``--json`` and for pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kluis.evidence import Claims, Machine, denylist
from kluis.evidence.levels import MEANINGS
from kluis.formats.encoding.brief import short
from kluis.hashes import Digest

if TYPE_CHECKING:
    from kluis.appraisal import AttestationResult
    from kluis.evidence.eventlog.judgement import LogClaims
    from kluis.formats.kluis.launch import LaunchConfiguration
    from kluis.formats.kluis.runtime_data import RuntimeData


def claims(value: Claims) -> dict[str, Any]:
    """Claims, for JSON: bytes in hex, times in UTC."""
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
            "date": zulu(value.tcb.date) if value.tcb.date else None,
            "advisories": list(value.tcb.advisories),
            "evaluation": value.tcb.evaluation,
        },
        "platform": {"id": value.platform.id.hex(), "product": value.platform.product},
        "collateral_issued": zulu(value.collateral_issued) if value.collateral_issued else None,
        "valid_until": zulu(value.valid_until),
        "verified_at": zulu(value.verified_at),
        "wrapper": plain(value.wrapper),
        "vendor": plain(value.vendor),
        "machine": _machine(value.machine) if value.machine else None,
    }


def _machine(value: Machine) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(value) if field.name != "claims"]
    return {**{name: plain(getattr(value, name)) for name in names}, "claims": claims(value.claims)}


def plain(value: object) -> Any:
    """A vendor's typed claims as JSON: bytes in hex, digests and times as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return zulu(value)
    if isinstance(value, Digest):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, frozenset)):
        return [plain(item) for item in value]
    return value


def describe_log(value: LogClaims | None) -> str | None:
    """What an event log was found to explain, as one sentence; None where there is no log."""
    if value is None:
        return None
    names = {kind: [f"{value.registers.value}{n}" for n in sorted(getattr(value, kind))] for kind in _LOG}
    return f"{len(value.events)} events; " + "; ".join(
        f"{kind} {', '.join(values)}" for kind, values in names.items() if values
    )


_LOG = ("reproduced", "contradicted", "unexplained", "unseen", "untrusted")


def worth(value: Claims) -> dict[str, Any]:
    """What the protection level is worth, for JSON."""
    meaning = MEANINGS[value.level]
    return {
        "keys_made_by": meaning.keys,
        "keeps_out": meaning.keeps_out,
        "not_kept_out": list(denylist.not_kept_out(value)),
    }


def result(value: AttestationResult) -> dict[str, Any]:
    """An attestation result, for JSON."""
    from kluis.appraisal.tokens import ear  # claims are shown without an appraisal, too

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
        "appraised_at": zulu(value.appraised_at),
    }


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


def zulu(when: datetime) -> str:
    """A time in UTC, as RFC 3339 writes it."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
