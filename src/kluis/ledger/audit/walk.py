"""The way through the files of a ledger: each entry in its place, with its leaf and the writes that matter.

An entry of today's kind is read by its expected bytes, without taking it apart: most entries of a ledger
concern no check but the tree's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from kluis.errors import FormatError
from kluis.formats.ccf.chunk import Chunk, ChunkName
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import Entry, leaf_of
from kluis.formats.ccf.txid import TxId
from kluis.ledger.audit.report import Check, Findings

_FRAMEWORK: Final = b"public:ccf."
_KIND: Final = b"\x04"


class Seen(NamedTuple):
    """An entry that a check may want to look at.

    Attributes:
        txid: its view and seqno.
        flags: of its header.
        domain: its public domain.
        raw: its bytes.
        leaf: 32 bytes.
    """

    txid: TxId
    flags: int
    domain: PublicDomain
    raw: bytes
    leaf: bytes


class Stretch(NamedTuple):
    """Entries whose leaves come before the next entry that is looked at.

    Attributes:
        leaves: theirs, 32 bytes each; the last one is ``seen``'s.
        seen: an entry to look at; None at the end of a file.
    """

    leaves: list[bytes]
    seen: Seen | None


class Walk:
    """Reads one file after another, in the order of the ledger.

    Args:
        findings: takes what cannot be read.
        every: whether each entry with public writes is looked at, and not only those of the framework.
        private: whether each entry is looked at.
    """

    def __init__(self, findings: Findings, *, every: bool, private: bool) -> None:
        self._findings = findings
        self._every = every
        self._private = private
        self.last = TxId(0, 0)
        self.view_starts: list[tuple[TxId, int]] = []
        """Where each view begins, and how many entries came before it in its file."""

    def file(self, name: ChunkName, data: bytes) -> Iterator[Stretch]:
        """Read one file.

        Raises:
            FormatError: the rest cannot be read; the entries yielded before remain valid.
        """
        findings = self._findings
        findings.txid = TxId(self.last.view, name.first)  # where the file cannot be read: from here on
        chunk = Chunk.parse(data, findings.file, torn=name.last is None)
        if name.last is not None and len(chunk) != name.last - name.first + 1:
            raise FormatError(
                f"want {name.last - name.first + 1} entries, got {len(chunk)}", code="bad_length"
            )
        if not chunk.complete and name.committed:
            raise FormatError("is committed and has no table of offsets", code="truncated")
        if left := len(data) - chunk.offsets[-1] if not chunk.complete else 0:
            findings.note(Check.END, f"{left} bytes of an entry that was not written whole", here=True)
        hashed, from_bytes, every, zeros = hashlib.sha256, int.from_bytes, self._every, bytes(8)
        leaves: list[bytes] = []
        private = self._private
        view, seqno = self.last
        view_bytes = view.to_bytes(4, "little")
        offsets = chunk.offsets
        for index in range(len(offsets) - 1):
            at, end = offsets[index], offsets[index + 1]
            seqno += 1
            number = seqno.to_bytes(8, "little")
            raw = data[at:end]
            stop = 44 + from_bytes(raw[36:44], "little")
            if (
                raw[24:36] == number + view_bytes
                and raw[44:53] == _KIND + number
                and raw[117:125] == zeros
                and 125 <= stop <= len(raw)
                and (stop == 125 or not (every or _FRAMEWORK in raw[125:stop]))
                and not private
            ):
                leaves.append(hashed(hashed(raw).digest() + raw[85:117] + raw[53:85]).digest())
                continue
            seen = self._look(raw, at, TxId(view, seqno), index)
            leaves.append(seen.leaf)
            if seen.txid.view != view:
                view = seen.txid.view
                view_bytes = view.to_bytes(4, "little")
            self.last = seen.txid
            yield Stretch(leaves, seen)
            leaves = []
        self.last = TxId(view, seqno)
        yield Stretch(leaves, None)

    def _look(self, raw: bytes, at: int, expected: TxId, index: int) -> Seen:
        findings = self._findings
        findings.txid = expected
        what = "entry"
        entry = Entry.parse(raw, what, base=at)
        domain = PublicDomain.parse(entry.public, f"{what}.public domain", at + 44)
        if (entry.seqno, domain.seqno) != (expected.seqno, expected.seqno):
            raise FormatError(
                f"want seqno {expected.seqno}, got {entry.seqno} in the IV and {domain.seqno} in the domain",
                code="bad_encoding",
            )
        txid = TxId(entry.view, entry.seqno)
        findings.txid = txid
        if txid.view < expected.view:
            findings.fail(Check.VIEWS, f"want view {expected.view} or later, got {txid.view}")
        elif txid.view > expected.view:
            self.view_starts.append((txid, index))
        digest = hashlib.sha256(raw).digest()
        leaf = leaf_of(digest, domain.evidence_digest, domain.claims_digest)
        return Seen(txid, entry.flags, domain, raw, leaf)
