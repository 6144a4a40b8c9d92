"""What ``kluis ledger show`` prints: entries, as their files have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kluis.cli import render
from kluis.errors import FormatError, UsageError
from kluis.formats.ccf.chunk import Chunk, ChunkName
from kluis.formats.ccf.domain import PublicDomain, Writes, parse_writes
from kluis.formats.ccf.entry import Entry, leaf_of, write_set_digest
from kluis.formats.ccf.txid import TxId
from kluis.ledger.audit.files import Source
from kluis.ledger.secrets import Secrets


def describe_entries(
    sources: Sequence[Source], wanted: str | None, secrets: Secrets | None
) -> tuple[Any, str]:
    """An entry, or a list of all, as a value and as text.

    Raises:
        UsageError: no such entry.
        FormatError: a file cannot be read.
    """
    if wanted is None:
        rows = [_row(file, raw) for file, raw in _entries(sources)]
        value = [dict(zip(("file", "entry", "bytes", "tables"), row, strict=True)) for row in rows]
        head = ("file", "entry", "bytes", "public tables")
        return value, render.table([tuple(map(str, row)) for row in rows], head)
    hint = "kluis ledger show DIR, without an entry, lists all"
    try:
        txid = TxId.parse(wanted)
    except FormatError as error:
        raise UsageError(error.message, hint=hint) from None
    for file, raw in _entries(sources):
        entry = Entry.parse(raw, file)
        if (entry.view, entry.seqno) == txid:
            return _one(file, raw, entry, secrets)
    raise UsageError(f"entry {txid}: is not in this ledger", hint=hint)


def _entries(sources: Sequence[Source]) -> Iterator[tuple[str, bytes]]:
    for source in sorted(sources, key=lambda each: ChunkName.parse(each.name).first):
        name = ChunkName.parse(source.name)
        if name.suffix in ("", "committed"):
            chunk = Chunk.parse(source.read(), source.name, torn=name.last is None)
            for raw in chunk.entries():
                yield source.name, raw


def _row(file: str, raw: bytes) -> tuple[str, str, int, str]:
    entry = Entry.parse(raw, file)
    domain = PublicDomain.parse(entry.public, file)
    names = ", ".join(name.removeprefix("public:") for name in domain.writes)
    return file, f"{entry.view}.{entry.seqno}", len(raw), names or "-"


def _one(file: str, raw: bytes, entry: Entry, secrets: Secrets | None) -> tuple[Any, str]:
    domain = PublicDomain.parse(entry.public, file)
    digest = write_set_digest(raw)
    value: dict[str, Any] = {
        "file": file,
        "entry": f"{entry.view}.{entry.seqno}",
        "flags": entry.flags,
        "write_set_digest": digest.hex(),
        "claims_digest": None if domain.claims_digest is None else domain.claims_digest.hex(),
        "leaf": leaf_of(digest, domain.evidence_digest, domain.claims_digest).hex(),
        "public": _tables(domain.writes),
    }
    if secrets is not None:
        secret = secrets.at(entry.seqno)
        private = secret.open(entry.tag, entry.iv, entry.public, entry.private, value["entry"])
        value["evidence"] = secret.evidence(TxId(entry.view, entry.seqno))
        value["private"] = _tables(parse_writes(private, value["entry"]))
    lines = [(name, str(each)) for name, each in value.items() if not isinstance(each, dict)]
    text = [render.table(lines)]
    for kind in ("public", "private"):
        for table, changes in value.get(kind, {}).items():
            text.append(f"{kind} {table}" if kind == "private" else table)
            for key, each in changes.items():
                text.append(f"    {key}  {'(removed)' if each is None else each}")
    return value, "\n".join(text)


def _tables(writes: Writes) -> dict[str, dict[str, str | None]]:
    return {
        name: {_text(key): None if each is None else _text(each) for key, each in changes.items()}
        for name, changes in writes.items()
    }


def _text(raw: bytes) -> str:
    """Bytes as text where they are, else in hex."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return f"0x{raw.hex()}"
    return text if text.isprintable() or "\n" in text else f"0x{raw.hex()}"
