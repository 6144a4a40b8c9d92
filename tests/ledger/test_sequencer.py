"""The sequencer: entries in order, batches signed, and one loop that equals the formats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import UsageError
from kluis.formats.ccf import domain, tables
from kluis.formats.ccf.chunk import Chunk
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import Entry, leaf_of, write_set_digest
from kluis.formats.ccf.signature import NodeSignature, ServiceSignature
from kluis.formats.ccf.tree import TreeTable
from kluis.formats.ccf.txid import TxId
from kluis.formats.ietf import cose
from kluis.ledger import signer
from kluis.ledger.merkle import Tree
from kluis.ledger.secrets import LedgerSecret, Secrets, evidence_digest
from kluis.ledger.sequencer import Batch, Sequencer
from tests.ledger import making
from tests.strategies import PROPERTY

CLAIMS = b"c" * 32


def split(batch: Batch) -> list[Entry]:
    """A batch's entries."""
    data = Chunk.parse(bytes(8) + batch.entries, "batch")
    assert tuple(map(len, data.entries())) == batch.sizes
    return [Entry.parse(raw, "entry") for raw in data.entries()]


def test_a_batch() -> None:
    """Entries have their places and domains; the last holds signatures over all leaves before its own."""
    made = making.sequencer()
    assert made.last == TxId(2, 0)
    first = made.add({"public:b": {b"k": b"v", b"a": None}, "public:a": {b"k": b"v"}, "hidden": {b"k": b"s"}})
    second = made.add({"hidden": {b"k": None}}, CLAIMS)
    assert (first, second, made.last, made.pending[0]) == (TxId(2, 1), TxId(2, 2), TxId(2, 2), 2)
    batch = made.seal()
    assert made.pending == (0, 0)
    assert batch.txids == (TxId(2, 1), TxId(2, 2), TxId(2, 3))
    assert batch.signature == TxId(2, 3)
    entries = split(batch)
    domains = [PublicDomain.parse(entry.public, "entry") for entry in entries]
    assert [(entry.view, entry.seqno, entry.flags) for entry in entries] == [(2, 1, 0), (2, 2, 0), (2, 3, 0)]
    assert list(domains[0].writes.items()) == [
        ("public:a", {b"k": b"v"}),
        ("public:b", {b"k": b"v", b"a": None}),
    ]
    assert domains[1].writes == {}
    assert [each.claims_digest for each in domains] == [bytes(32), CLAIMS, bytes(32)]
    secret = LedgerSecret(making.SECRET, 1)
    opened = [secret.open(e.tag, e.iv, e.public, e.private, "entry") for e in entries]
    assert [domain.parse_writes(raw, "entry") for raw in opened] == [
        {"hidden": {b"k": b"s"}},
        {"hidden": {b"k": None}},
        {},
    ]
    for txid, entry, public, leaf, parts in zip(
        batch.txids, entries, domains, batch.leaves, batch.components, strict=True
    ):
        assert parts.write_set_digest == write_set_digest(entry.encode())
        assert parts.evidence == secret.evidence(txid)
        assert public.evidence_digest == evidence_digest(parts.evidence)
        assert leaf == leaf_of(parts.write_set_digest, public.evidence_digest, parts.claims_digest)
    tree = Tree()
    tree.extend(batch.leaves[:-1])
    assert batch.root == tree.root()
    signed = domains[2].writes
    assert list(signed) == [tables.COSE_SIGNATURES, tables.SIGNATURES, tables.TREE]
    node = NodeSignature.parse(signed[tables.SIGNATURES][tables.ONLY] or b"", "signature")
    making.key(0).public_key().verify(node.signature, batch.root, signer.OF_ROOT)
    assert (node, node.view, node.seqno, node.root) == (batch.signed.node, 2, 3, batch.root)
    service = ServiceSignature.parse_value(signed[tables.COSE_SIGNATURES][tables.ONLY] or b"", "signature")
    cose.check(service.message.over(batch.root), making.key(1).public_key(), "signature")
    assert service.txid == TxId(2, 3)
    table = TreeTable.parse(signed[tables.TREE][tables.ONLY] or b"", "tree")
    assert table == tree.table(0)
    assert made.tree.size == 4


def test_batches_follow_each_other() -> None:
    """The second batch goes on from the first, and its table holds the leaves since the last signature."""
    made = making.sequencer()
    made.add({"a": {b"k": b"v"}})
    made.seal()
    assert made.last_signature == 2
    assert made.add({"a": {b"k": b"w"}}) == TxId(2, 3)
    batch = made.seal()
    assert batch.txids == (TxId(2, 3), TxId(2, 4))
    table = PublicDomain.parse(split(batch)[1].public, "e").writes[tables.TREE][tables.ONLY]
    read = TreeTable.parse(table or b"", "tree")
    assert (read.flushed, read.size) == (2, 4)
    assert Tree.resume(read).root() == batch.root
    assert made.seal().txids == (TxId(2, 5),)


def test_without_the_nodes_signature() -> None:
    """By choice only the service signs."""
    made = making.sequencer(cose_only=True)
    writes = PublicDomain.parse(split(made.seal())[0].public, "entry").writes
    assert list(writes) == [tables.COSE_SIGNATURES, tables.TREE]


def test_chunks() -> None:
    """A chunk ends with the signature that makes it large enough, or with the next where that is wanted."""
    made = making.sequencer(chunk_size=4000)
    closed = []
    for _ in range(8):
        made.add({"a": {b"k": bytes(300)}}, new_chunk=not closed)
        batch = made.seal()
        closed.append(batch.closes_chunk)
        assert [entry.flags for entry in split(batch)] == [2 * (len(closed) == 1), int(batch.closes_chunk)]
    assert closed.count(True) in range(2, 5)
    made = making.sequencer()
    assert not made.seal().closes_chunk
    made.close_chunk()
    assert made.seal().closes_chunk
    assert not made.seal().closes_chunk


def test_rekey() -> None:
    """A new secret encrypts the entries after the one that brought it, within a batch, too."""
    made, other = making.sequencer(), LedgerSecret(b"n" * 32, 2)
    with pytest.raises(UsageError):
        made.rekey(other)
    made.add({"a": {b"k": b"1"}})
    made.rekey(other)
    made.add({"a": {b"k": b"2"}})
    entries, old = split(made.seal()), LedgerSecret(making.SECRET, 1)
    for entry, secret in zip(entries, (old, other, other), strict=True):
        secret.open(entry.tag, entry.iv, entry.public, entry.private, "entry")
        assert PublicDomain.parse(entry.public, "e").evidence_digest == evidence_digest(
            secret.evidence(TxId(2, entry.seqno))
        )


def test_refused() -> None:
    """A view that no entry has, and claims that are no digest, are the caller's mistake."""
    made = making.sequencer()
    with pytest.raises(UsageError):
        made.add({}, b"short")
    for view in (0, 1 << 31):
        with pytest.raises(UsageError):
            Sequencer(
                view=view,
                tree=Tree(),
                secrets=Secrets([LedgerSecret(making.SECRET, 1)]),
                signer=making.signer(),
                clock=lambda: 0,
            )


names = st.sampled_from(["public:a", "public:ccf.gov.x", "a", "PUBLIC:a", "é"])
changes = st.dictionaries(st.binary(max_size=4), st.none() | st.binary(max_size=40), max_size=3)


@given(
    st.lists(
        st.tuples(st.dictionaries(names, changes, max_size=3), st.binary(min_size=32, max_size=32)),
        max_size=4,
    )
)
@PROPERTY
def test_as_the_formats_write_it(
    transactions: list[tuple[dict[str, dict[bytes, bytes | None]], bytes]],
) -> None:
    """The quick loop gives, byte for byte, what the formats give."""
    made, secret = making.sequencer(), LedgerSecret(making.SECRET, 1)
    for writes, claims in transactions:
        made.add(writes, claims)
    batch, at = made.seal(), 0
    for seqno, (writes, claims) in enumerate(transactions, 1):
        sorted_writes = {name: dict(sorted(writes[name].items())) for name in sorted(writes)}
        shown = {name: each for name, each in sorted_writes.items() if name.startswith("public:")}
        hidden = {name: each for name, each in sorted_writes.items() if name not in shown}
        digest = evidence_digest(secret.evidence(TxId(2, seqno)))
        public = PublicDomain(
            seqno=seqno, claims_digest=claims, evidence_digest=digest, writes=shown
        ).encode()
        bare = Entry(tag=bytes(16), seqno=seqno, view=2, public=public, private=b"")
        sealed = secret.aead.encrypt(bare.iv, domain.encode_writes(hidden), public)
        raw = Entry(tag=sealed[-16:], seqno=seqno, view=2, public=public, private=sealed[:-16]).encode()
        assert batch.entries[at : at + len(raw)] == raw
        assert batch.leaves[seqno - 1] == leaf_of(write_set_digest(raw), digest, claims)
        at += len(raw)
