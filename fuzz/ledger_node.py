"""What a ledger's node reads of its clients and its host: tokens, certificates, bodies and entries."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from kluis.formats.encoding import b64
from kluis.ledger import certificates
from kluis.ledger.store import Store
from kluis.serve.ledger.chunks import whole_until_signature
from kluis.serve.ledger.following import Follower
from kluis.serve.ledger.journal import BLOCK, Journal, Record
from kluis.serve.ledger.journal import SIZE as JOURNAL_SIZE
from kluis.services.clock import SystemClock
from kluis.services.ledger import tokens
from kluis.services.ledger.azure.entries import Entry
from kluis.services.ledger.azure.users import ManyRoles, OneRole
from kluis.services.ledger.callers import LedgerGate, Roles
from kluis.services.ledger.running.log import Part, entries_of
from kluis.services.ledger.running.state import Ledger
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
    yield "services.ledger.replay", _replay, _logs
    yield "services.ledger.certificate", _certificate, _certificates
    yield "serve.ledger.journal", _journal, _journals
    yield "serve.ledger.tail", lambda data: whole_until_signature(data, "chunk"), _chunks
    yield "serve.ledger.follower", _follow, _chunks
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
    """A batch, the tree over it, and the secrets that open it."""
    from tests.serve.ledger.batches import Writer

    writer = Writer()
    return writer.batch(), writer.sequencer.tree, writer.secrets


def _log(data: bytes) -> None:
    for seqno, raw in enumerate(entries_of(data, 1), 1):
        Part.check(raw, min(seqno, 4), _batch()[1])


def _logs() -> Iterator[bytes]:
    yield _batch()[0].entries


def _replay(data: bytes) -> None:
    """Read a log as a node does at its start: what was not written there is refused."""
    ledger = Ledger(_batch()[2])
    for _ in ledger.take(entries_of(data, 1)):
        pass


def _certificate(data: bytes) -> None:
    """Identify a client by the certificate whose key it proved."""
    gate = LedgerGate(Store().begin, SystemClock())
    gate.recognise(Store().begin(), {}, [data.decode("latin-1")], None)


def _certificates() -> Iterator[bytes]:
    for curve in (ec.SECP384R1(), ec.SECP521R1()):
        key = ec.generate_private_key(curve)
        yield certificates.member_certificate(key, datetime.now(UTC), name="client").encode()


@functools.cache
def _opened() -> tuple[Any, Path, Journal]:
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "journal"
    return folder, path, Journal(path)


def _journal(data: bytes) -> None:
    """Read a journal that a crash, or somebody, left: its file is made once, for it has 4 MiB."""
    _, path, journal = _opened()
    with path.open("r+b") as file:
        file.write(data[:JOURNAL_SIZE])
    journal.records()


def _journals() -> Iterator[bytes]:
    _, path, journal = _opened()
    for number in range(3):
        journal.write(Record(1, 8 + number, bytes(40), b"batch"))
        journal.keep()
    journal.restart()
    yield path.read_bytes()[: 4 * BLOCK]


def _follow(data: bytes) -> None:
    """Print a folder's entries: of a chunk that is open."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ledger_1").write_bytes(data)
        for _ in Follower(Path(folder), 10).rows():
            pass


def _chunks() -> Iterator[bytes]:
    yield bytes(8) + _batch()[0].entries
