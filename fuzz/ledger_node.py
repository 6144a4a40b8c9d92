"""What a ledger's node reads of its clients and its host: tokens, bodies, entries."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from kluis.formats.encoding import b64
from kluis.services.ledger import tokens
from kluis.services.ledger.azure.entries import Entry
from kluis.services.ledger.azure.users import ManyRoles, OneRole
from kluis.services.ledger.callers import Roles
from kluis.services.ledger.running.log import Part, entries_of
from kluis.services.ledger.running.transactions import parse_txid
from kluis.services.web import Call

Read = Callable[[bytes], Any]
Starts = Callable[[], Iterator[bytes]]
NOW = datetime(2026, 6, 1, tzinfo=UTC)
BODIES: tuple[tuple[type[Any], object], ...] = (
    (Entry, {"contents": "x", "preHooks": [{"functionId": "f"}]}),
    (OneRole, {"assignedRole": "Reader"}),
    (ManyRoles, {"assignedRoles": ["Reader"]}),
    (Roles, {"roles": [{"roleName": "a", "roleActions": ["/content/read"]}]}),
)


def readers() -> Iterator[tuple[str, Read, Starts]]:
    """Each reader's name, itself, and what to begin from."""
    yield "services.ledger.token", _token, _tokens
    yield "services.ledger.txid", lambda data: parse_txid(data.decode("latin-1")), lambda: iter((b"2.35",))
    yield "services.ledger.log", _log, _logs
    for kind, example in BODIES:
        start = json.dumps(example).encode()
        yield (
            f"services.ledger.{kind.__name__}",
            functools.partial(_body, kind),
            functools.partial(_one, start),
        )


def _one(data: bytes) -> Iterator[bytes]:
    yield data


def _body(kind: type[Any], data: bytes) -> None:
    Call(operation="", target="/", path={}, query={}, headers={}, body=data, caller=None, request_id="").json(
        kind
    )


@functools.cache
def _maker() -> Any:
    from tests.services.web.issuer import TokenMaker

    return TokenMaker()


def _token(data: bytes) -> None:
    maker = _maker()
    der = maker.key.raw_value.public_key().public_bytes(*_spki())
    known = json.dumps([{"public_key": b64.encode(der), "issuer": maker.url}]).encode()
    audiences = frozenset((maker.audience,))
    tokens.check(f"Bearer {data.decode('latin-1')}", lambda kid: known, NOW, audiences)


def _spki() -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return Encoding.DER, PublicFormat.SubjectPublicKeyInfo


def _tokens() -> Iterator[bytes]:
    yield _maker().token(now=NOW).encode()


@functools.cache
def _batch() -> Any:
    from tests.serve.ledger.batches import Writer

    writer = Writer()
    return writer.batch(), writer.sequencer.tree


def _log(data: bytes) -> None:
    for seqno, raw in enumerate(entries_of(data, 1), 1):
        Part.check(raw, min(seqno, 4), _batch()[1])


def _logs() -> Iterator[bytes]:
    yield _batch()[0].entries
