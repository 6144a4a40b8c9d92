"""Copies of a ledger with one change each, of every kind that a holder of its files might make."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kluis.formats.ccf import tables
from kluis.formats.ccf.chunk import Chunk, ChunkName
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import Entry
from tests.ledger.audit.chunks import write_chunk

Files = dict[str, bytes]


class Copy(NamedTuple):
    """A changed copy.

    Attributes:
        what: was changed, and where.
        files: the copy's.
    """

    what: str
    files: Files


class Doctor:
    """Makes changed copies of a ledger.

    Args:
        files: of the ledger, whole chunks.
        foreign: files of another ledger, of as many chunks.
    """

    def __init__(self, files: Mapping[str, bytes], foreign: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.foreign = list(foreign.values())
        self.names = sorted(files, key=lambda name: ChunkName.parse(name).first)
        self.chunks = {name: list(Chunk.parse(data, name).entries()) for name, data in files.items()}
        self.kinds: tuple[Callable[[random.Random], Copy | None], ...] = (
            self.flip, self.field, self.field, self.text, self.swap, self.duplicate, self.remove, self.offset,
            self.table, self.cut, self.drop, self.suffix, self.rename, self.exchange, self.append, self.merge,
            self.private, self.header, self.uncommitted,
        )  # fmt: skip

    def copy(self, rng: random.Random) -> Copy:
        """A copy with one change."""
        while True:
            found = rng.choice(self.kinds)(rng)
            if found is not None and found.files != self.files:
                return found

    def _with(self, what: str, name: str, data: bytes) -> Copy:
        return Copy(f"{what} in {name}", {**self.files, name: data})

    def _rewritten(self, what: str, name: str, entries: list[bytes]) -> Copy:
        return self._with(what, name, write_chunk(entries))

    def _pick(self, rng: random.Random) -> tuple[str, list[bytes], int]:
        name = rng.choice(self.names)
        return name, list(self.chunks[name]), rng.randrange(len(self.chunks[name]))

    def flip(self, rng: random.Random) -> Copy:
        """One bit of a file."""
        name = rng.choice(self.names)
        data, at = bytearray(self.files[name]), rng.randrange(len(self.files[name]))
        data[at] ^= 1 << rng.randrange(8)
        return self._with(f"bit at {at}", name, bytes(data))

    def field(self, rng: random.Random) -> Copy | None:
        """One byte of one field of an entry."""
        name, entries, index = self._pick(rng)
        raw = bytearray(entries[index])
        field, start, stop = rng.choice(
            (
                ("version", 0, 1), ("flags", 1, 2), ("size", 2, 8), ("tag", 8, 24), ("seqno", 24, 32),
                ("view", 32, 36), ("public size", 36, 44), ("kind", 44, 45), ("domain seqno", 45, 53),
                ("claims digest", 53, 85), ("evidence digest", 85, 117), ("conflict version", 117, 125),
                ("records", 125, len(raw)),
            )
        )  # fmt: skip
        if stop <= start:
            return None
        at = rng.randrange(start, stop)
        raw[at] = (raw[at] + rng.randrange(1, 256)) % 256
        entries[index] = bytes(raw)
        return self._rewritten(f"{field} of entry {index}", name, entries)

    def text(self, rng: random.Random) -> Copy | None:
        """A word of a table of governance."""
        words = (b"Trusted", b"Open", b"Active", b"AllowedToJoin", b"Accepted", b"recovery_threshold", b'":1')
        name, entries, _ = self._pick(rng)
        word = rng.choice(words)
        found = [index for index, raw in enumerate(entries) if word in raw]
        if not found:
            return None
        index = rng.choice(found)
        at = rng.choice([at for at in range(len(entries[index])) if entries[index].startswith(word, at)])
        swapped = bytes((word[0] ^ 1,)) + word[1:]
        entries[index] = entries[index][:at] + swapped + entries[index][at + len(word) :]
        return self._rewritten(f"{word!r} of entry {index}", name, entries)

    def swap(self, rng: random.Random) -> Copy | None:
        """Two entries of a file."""
        name, entries, one = self._pick(rng)
        other = rng.randrange(len(entries))
        entries[one], entries[other] = entries[other], entries[one]
        return self._rewritten(f"entries {one} and {other} swapped", name, entries)

    def duplicate(self, rng: random.Random) -> Copy:
        """An entry twice."""
        name, entries, index = self._pick(rng)
        entries.insert(index, entries[index])
        return self._rewritten(f"entry {index} twice", name, entries)

    def remove(self, rng: random.Random) -> Copy | None:
        """An entry less."""
        name, entries, index = self._pick(rng)
        del entries[index]
        return self._rewritten(f"entry {index} removed", name, entries) if entries else None

    def offset(self, rng: random.Random) -> Copy:
        """Another offset in the table."""
        name, entries, index = self._pick(rng)
        data, table = bytearray(self.files[name]), 8 + sum(map(len, entries))
        data[table + 4 * index + rng.randrange(4)] ^= 1 << rng.randrange(8)
        return self._with(f"offset {index}", name, bytes(data))

    def table(self, rng: random.Random) -> Copy:
        """One offset more or less, or none."""
        name, data = (name := rng.choice(self.names)), self.files[name]
        changed = rng.choice((data[:-4], data + data[-4:], bytes(8) + data[8:], data + bytes(4)))
        return self._with("table", name, changed)

    def cut(self, rng: random.Random) -> Copy:
        """A file cut short."""
        name = rng.choice(self.names)
        at = rng.randrange(len(self.files[name]))
        return self._with(f"cut at {at}", name, self.files[name][:at])

    def drop(self, rng: random.Random) -> Copy:
        """A file gone, of those that others follow."""
        name = rng.choice(self.names[:-1])
        return Copy(f"without {name}", {other: self.files[other] for other in self.names if other != name})

    def suffix(self, rng: random.Random) -> Copy:
        """The last files gone: what no ledger shows by itself."""
        kept = self.names[: rng.randrange(1, len(self.names))]
        return Copy(f"up to {kept[-1]}", {name: self.files[name] for name in kept})

    def rename(self, rng: random.Random) -> Copy:
        """A file under another name."""
        name = rng.choice(self.names)
        read = ChunkName.parse(name)
        assert read.last is not None
        other = ChunkName(read.first + rng.randrange(2), read.last + rng.choice((1, 2)), "committed")
        return Copy(
            f"{name} as {other}", {(str(other) if n == name else n): d for n, d in self.files.items()}
        )

    def exchange(self, rng: random.Random) -> Copy:
        """A file of another ledger in its place."""
        at = rng.randrange(len(self.names))
        return self._with("a foreign file", self.names[at], self.foreign[at % len(self.foreign)])

    def append(self, rng: random.Random) -> Copy | None:
        """Bytes after the end of a file."""
        name = rng.choice(self.names)
        return self._with("bytes appended", name, self.files[name] + rng.randbytes(rng.randrange(1, 40)))

    def merge(self, rng: random.Random) -> Copy | None:
        """An entry of one file at the end of another."""
        name, entries, _ = self._pick(rng)
        other, theirs, index = self._pick(rng)
        if other == name:
            return None
        return self._rewritten(f"entry {index} of {other} appended", name, [*entries, theirs[index]])

    def private(self, rng: random.Random) -> Copy | None:
        """The private part of an entry, changed or gone."""
        name, entries, index = self._pick(rng)
        entry = Entry.parse(entries[index], "entry")
        if not entry.private:
            return None
        changed = rng.choice(
            (b"", entry.private[:-1], entry.private + b"x", rng.randbytes(len(entry.private)))
        )
        raw = Entry(
            flags=entry.flags, tag=entry.tag, seqno=entry.seqno, view=entry.view, public=entry.public,
            private=changed,
        ).encode()  # fmt: skip
        entries[index] = raw
        return self._rewritten(f"private part of entry {index}", name, entries)

    def header(self, rng: random.Random) -> Copy | None:
        """A table more, or less, in the public part of an entry."""
        name, entries, index = self._pick(rng)
        entry = Entry.parse(entries[index], "entry")
        domain = PublicDomain.parse(entry.public, "entry")
        writes = dict(domain.writes)
        if writes and rng.random() < 0.5:
            writes.pop(rng.choice(list(writes)))
        else:
            writes["public:z"] = {tables.ONLY: b"x"}
        public = PublicDomain(
            kind=domain.kind, seqno=domain.seqno, claims_digest=domain.claims_digest,
            evidence_digest=domain.evidence_digest, writes=writes,
        ).encode()  # fmt: skip
        entries[index] = Entry(
            flags=entry.flags, tag=entry.tag, seqno=entry.seqno, view=entry.view, public=public,
            private=entry.private,
        ).encode()  # fmt: skip
        return self._rewritten(f"tables of entry {index}", name, entries)

    def uncommitted(self, rng: random.Random) -> Copy | None:
        """Another copy of a file next to it, with a changed entry."""
        name, entries, index = self._pick(rng)
        raw = bytearray(entries[index])
        raw[-1] ^= 1
        entries[index] = bytes(raw)
        stray = str(ChunkName(ChunkName.parse(name).first, ChunkName.parse(name).last, "ignored"))
        return Copy(f"{stray} with another entry", {**self.files, stray: write_chunk(entries)})
