"""What a ledger's tables say of its service and of its nodes."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from kluis.formats.ccf import tables
from kluis.formats.ccf.service import NodeInfo, NodeStatus, ServiceInfo, ServiceStatus
from kluis.formats.encoding import b64
from kluis.ledger.store import Transaction


def is_open(state: Transaction) -> bool:
    """Whether the service is open for its users."""
    row = state.get(tables.SERVICE_INFO, tables.ONLY)
    return row is not None and _says_open(row)


@functools.lru_cache(maxsize=4)
def _says_open(info: bytes) -> bool:
    """Cached: every request reads it, and the value changes only when the service does."""
    return ServiceInfo.parse(info, "service.info").status is ServiceStatus.OPEN


def quotes(state: Transaction) -> list[dict[str, Any]]:
    """What the ledger has of each trusted node: its quote, in CCF's form, and Kluis's evidence."""
    listed = []
    for key, value in state.items(tables.NODES):
        info = NodeInfo.parse(value, "node")
        if info.status is NodeStatus.TRUSTED:
            measurement = bytes.fromhex(info.code_digest or "").decode("ascii", "replace")
            listed.append({
                "node_id": key.decode(),
                "format": info.format,
                "measurement": measurement,
                "raw": b64.encode(info.quote),
                "endorsements": b64.encode(info.endorsements),
                "evidence": _evidence(info.endorsements) or b64.encode(info.quote),
            })  # fmt: skip
    return listed


class _Endorsements(msgspec.Struct):
    quote: str


def _evidence(endorsements: bytes) -> str:
    if not endorsements:
        return ""
    return msgspec.json.decode(endorsements, type=_Endorsements).quote
