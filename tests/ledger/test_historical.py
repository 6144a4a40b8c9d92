"""Entries of the past: opened where they are the ledger's, refused where a host gives another."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography import x509

from kluis.errors import AuthenticityError
from kluis.formats.ccf.entry import SNAPSHOT_VIEW, Entry
from kluis.formats.ccf.snapshot import Snapshot
from kluis.formats.ccf.txid import TxId
from kluis.ledger import historical, receipts
from tests.formats.ccf.test_snapshot import HEAD
from tests.ledger import making
from tests.ledger.audit.forge import Forge, split


def test_read_back() -> None:
    """An entry gives what it wrote, and what a receipt of it needs."""
    made = making.sequencer()
    made.add({"public:a": {b"k": b"1"}, "b": {b"k": b"2", b"gone": None}})
    made.add({"b": {b"k": b"3"}}, b"c" * 32)
    batch = made.seal()
    raw = split(batch)
    past = historical.read(raw[0], TxId(2, 1), made.tree, made.secrets)
    assert (past.get("public:a", b"k"), past.get("b", b"k")) == (b"1", b"2")
    assert past.get("b", b"gone") is past.get("c", b"k") is None
    assert past.components == batch.components[0]
    assert historical.read(raw[1], TxId(2, 2), made.tree, made.secrets).components == batch.components[1]
    changed = bytearray(raw[0])
    changed[-1] ^= 1
    for wrong, txid in (
        (raw[1], TxId(2, 1)), (raw[0], TxId(3, 1)), (bytes(changed), TxId(2, 1)), (b"", TxId(2, 1)),
        (raw[0][:-1], TxId(2, 1)), (raw[0], TxId(2, 99)),
    ):  # fmt: skip
        with pytest.raises(AuthenticityError):
            historical.read(wrong, txid, made.tree, made.secrets)


def test_snapshots() -> None:
    """A snapshot counts with a receipt of its digest, under the pinned key."""
    made = Forge.governed()
    bare = Entry(tag=bytes(16), seqno=14, view=SNAPSHOT_VIEW, public=HEAD, private=b"").encode()
    snapshot = Snapshot.parse(bare, "snapshot")
    made.write({"public:x": {b"k": b"v"}}, snapshot.digest)
    batch = made.batches[-1]
    assert batch.signed.node is not None
    receipt = receipts.make(
        made.sequencer.tree, batch.txids[0], batch.components[0], batch.signed.node, made.parties.node
    )
    whole = Snapshot.parse(bare + receipt.encode(), "snapshot")
    service = x509.load_pem_x509_certificate(made.parties.service.encode())
    historical.check_snapshot(whole, service)
    for wrong in (snapshot, dataclasses.replace(whole, tag=b"x" * 16), dataclasses.replace(whole, seqno=15)):
        with pytest.raises(AuthenticityError):
            historical.check_snapshot(wrong, service)
