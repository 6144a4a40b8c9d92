"""The order of a ledger: transactions go in, a signed batch of entries comes out, ready to be written.

A sequencer belongs to one view of one process. Should a batch not reach the log, the sequencer is given
up, and a later view begins: an entry's nonce is its view and seqno, and no nonce is used twice.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import itertools
from binascii import hexlify
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from kluis.errors import UsageError
from kluis.formats.ccf import signature, tables
from kluis.formats.ccf.domain import NO_CLAIMS, Writes, encode_writes
from kluis.formats.ccf.entry import CHUNK_AFTER, CHUNK_BEFORE, FLAGS, LEAST_SIZE, MAX_SIZE, VERSION
from kluis.formats.ccf.receipt import Components
from kluis.formats.ccf.txid import MAX_VIEW, TxId
from kluis.ledger.merkle import Tree
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.signer import Signed, Signer

CHUNK_SIZE: Final = 5 * 1024 * 1024
# Of a public domain, before its records: type, seqno, two digests, and a version that is always 0.
_FIXED: Final = 81
_KIND: Final = b"\x04"
_NONE: Final = bytes(8)
_ONE: Final = (1).to_bytes(8, "little")
_FLAGS: Final = tuple(bytes((VERSION, flags)) for flags in range(FLAGS + 1))


class Batch(NamedTuple):
    """Entries that were signed together; the last one holds the signatures.

    Attributes:
        entries: their bytes, back to back.
        sizes: of each, in bytes.
        txids: of each.
        leaves: of each, 32 bytes.
        components: of each.
        root: that was signed, 32 bytes: over all leaves before the last entry's.
        signed: the signatures.
        writes: of the last entry. Scripts of governance read them, in a service and at its auditors.
        closes_chunk: whether the chunk ends with this batch.
    """

    entries: bytes
    sizes: tuple[int, ...]
    txids: tuple[TxId, ...]
    leaves: tuple[bytes, ...]
    components: tuple[Components, ...]
    root: bytes
    signed: Signed
    writes: Writes
    closes_chunk: bool

    @property
    def signature(self) -> TxId:
        """The entry that holds the signatures."""
        return self.txids[-1]

    def entry(self, index: int) -> bytes:
        """One entry's bytes; the first has index 0."""
        begin = sum(self.sizes[:index])
        return self.entries[begin : begin + self.sizes[index]]


# Flags, public and private records, and the claims digest of an entry that waits for its batch.
_Pending: TypeAlias = tuple[int, bytes, bytes, bytes]


class Sequencer:
    """Gives transactions their order, and makes entries of them.

    Args:
        view: later than any that the ledger has entries of.
        tree: over the entries there are.
        secrets: the ledger's.
        signer: signs each batch.
        clock: gives seconds since 1970.
        last_signature: seqno of the last entry that holds a signature; 0 if there is none.
        chunk_bytes: of the chunk that is open.
        chunk_size: in bytes, at which a chunk is closed.

    Raises:
        UsageError: a view that no entry can have.
    """

    def __init__(
        self,
        *,
        view: int,
        tree: Tree,
        secrets: Secrets,
        signer: Signer,
        clock: Callable[[], int],
        last_signature: int = 0,
        chunk_bytes: int = 0,
        chunk_size: int = CHUNK_SIZE,
    ) -> None:
        if not 0 < view <= MAX_VIEW:
            raise UsageError(f"view: want 1 to {MAX_VIEW}, got {view}")
        self.view = view
        self.tree = tree
        self.secrets = secrets
        self.signer = signer
        self.last_signature = last_signature
        self._clock = clock
        self._chunk_bytes = chunk_bytes
        self._chunk_size = chunk_size
        self._close_chunk = False
        self._seqno = tree.size - 1
        self._pending: list[_Pending] = []
        self._pending_bytes = 0

    @property
    def last(self) -> TxId:
        """The last entry that has its place, signed or not."""
        return TxId(self.view, self._seqno)

    @property
    def pending(self) -> tuple[int, int]:
        """How many entries wait to be signed, and their bytes."""
        return len(self._pending), self._pending_bytes

    def add(self, writes: Writes, claims_digest: bytes = NO_CLAIMS, *, new_chunk: bool = False) -> TxId:
        """Give a transaction its place.

        Args:
            writes: by table and key; None removes.
            claims_digest: 32 bytes; zeros for none.
            new_chunk: whether a chunk must begin with it.

        Returns:
            Its transaction id. The entry exists only once its batch is sealed and written.

        Raises:
            UsageError: a digest of another size, or an entry of more than 1 GiB.
        """
        if len(claims_digest) != 32:
            raise UsageError(f"claims digest: want 32 bytes, got {len(claims_digest)}")
        public = private = b""
        for name in sorted(writes) if len(writes) > 1 else writes:
            shown, head = _head(name)
            changes = writes[name]
            if len(changes) == 1:
                ((key, value),) = changes.items()
                record = b"".join(
                    (head, _ONE, _size(key), key, _size(value), value, _NONE)
                    if value is not None
                    else (head, _NONE, _ONE, _size(key), key)
                )
            else:
                record = encode_writes({name: {key: changes[key] for key in sorted(changes)}})
            if shown:
                public += record
            else:
                private += record
        size = LEAST_SIZE + _FIXED + len(public) + len(private)
        if size > MAX_SIZE:
            raise UsageError(f"entry: want at most {MAX_SIZE} bytes, got {size}")
        self._pending.append((CHUNK_BEFORE if new_chunk else 0, public, private, claims_digest))
        self._pending_bytes += size
        self._seqno += 1
        return TxId(self.view, self._seqno)

    def rekey(self, secret: LedgerSecret) -> None:
        """Encrypt later entries with another secret, whose version is the next entry's seqno.

        Raises:
            UsageError: another version.
        """
        if secret.version != self.last.seqno + 1:
            raise UsageError(f"ledger secret: want version {self.last.seqno + 1}, got {secret.version}")
        self.secrets.add(secret)

    def close_chunk(self) -> None:
        """Let the chunk end with the next signature."""
        self._close_chunk = True

    def seal(self) -> Batch:
        """Encrypt what was added, sign the root over it, and give it all to be written.

        A batch may be empty but for its signatures, as at the beginning of a view.
        """
        pending, self._pending = self._pending, []
        first, view = self.tree.size, self.view
        self._chunk_bytes += self._pending_bytes + 8 * len(pending)
        self._pending_bytes = 0
        entries, leaves, components = seal_entries(pending, view, first, self.secrets)
        self.tree.extend(leaves)
        signature_id = TxId(view, self.tree.size)
        root = self.tree.root()
        signed = self.signer.sign(root, signature_id, self._clock())
        closes = self._close_chunk or self._chunk_bytes >= self._chunk_size
        writes = self._signature_writes(signed)
        last = (CHUNK_AFTER if closes else 0, encode_writes(writes), b"", NO_CLAIMS)
        sealed = seal_entries([last], view, signature_id.seqno, self.secrets)
        entries += sealed[0]
        leaves += sealed[1]
        components += sealed[2]
        self.tree.extend(sealed[1])
        self.last_signature = self._seqno = signature_id.seqno
        self._close_chunk = False
        self._chunk_bytes = 0 if closes else self._chunk_bytes + len(sealed[0][0])
        return Batch(
            entries=b"".join(entries),
            sizes=tuple(map(len, entries)),
            txids=tuple(map(TxId, itertools.repeat(view), range(first, self.tree.size))),
            leaves=tuple(leaves),
            components=tuple(components),
            root=root,
            signed=signed,
            writes=writes,
            closes_chunk=closes,
        )

    def _signature_writes(self, signed: Signed) -> Writes:
        only = tables.ONLY
        writes = {tables.COSE_SIGNATURES: {only: signature.encode_value(signed.service)}}
        if signed.node is not None:
            writes[tables.SIGNATURES] = {only: signed.node_value}
        writes[tables.TREE] = {only: self.tree.table(self.last_signature).encode()}
        return writes


@functools.lru_cache(maxsize=1024)
def _head(name: str) -> tuple[bool, bytes]:
    """Whether a table is public, and the beginning of a record of it."""
    raw = name.encode()
    return tables.is_public(name), _size(raw) + raw + bytes(16)


def _size(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little")


def seal_entries(
    pending: list[_Pending], view: int, first: int, secrets: Secrets
) -> tuple[list[bytes], list[bytes], list[Components]]:
    """Make entries: their bytes, leaves, and the components of the leaves.

    This does the work of ``Entry``, ``PublicDomain`` and ``LedgerSecret`` in one loop, for speed; a test
    checks that the results are equal.
    """
    entries, leaves, components = [], [], []
    hashed, mac, new = hashlib.sha256, hmac.digest, tuple.__new__
    view_bytes, zeros = view.to_bytes(4, "little"), bytes(8)
    secret, until = secrets.span(first)
    encrypt, commit = secret.aead.encrypt, secret.commit_secret
    for seqno, (flags, records, private, claims) in enumerate(pending, first):
        if seqno >= until:
            secret, until = secrets.span(seqno)
            encrypt, commit = secret.aead.encrypt, secret.commit_secret
        txid = b"%d.%d" % (view, seqno)
        evidence = b"ce:%b:%b" % (txid, hexlify(mac(commit, txid, "sha256")))
        evidence_digest = hashed(evidence).digest()
        number = seqno.to_bytes(8, "little")
        iv = number + view_bytes
        public = b"".join((_KIND, number, claims, evidence_digest, zeros, records))
        sealed = encrypt(iv, private, public)
        size = LEAST_SIZE + len(public) + len(private)
        entry = b"".join(
            (
                _FLAGS[flags],
                size.to_bytes(6, "little"),
                sealed[-16:],
                iv,
                len(public).to_bytes(8, "little"),
                public,
                sealed[:-16],
            )
        )
        write_set = hashed(entry).digest()
        entries.append(entry)
        leaves.append(hashed(write_set + evidence_digest + claims).digest())
        components.append(new(Components, (write_set, evidence.decode(), claims)))
    return entries, leaves, components
