"""Entries of the past, as a host gives them back: each is held against its leaf before it is believed.

A snapshot is held against the claims digest of the entry that holds its evidence, and that entry's receipt.
"""

from __future__ import annotations

import dataclasses

from cryptography import x509

from kluis.errors import AuthenticityError, KluisError
from kluis.formats.ccf.domain import NO_CLAIMS, PublicDomain, Writes, parse_writes
from kluis.formats.ccf.entry import Entry, leaf_of, write_set_digest
from kluis.formats.ccf.receipt import Components
from kluis.formats.ccf.snapshot import Snapshot
from kluis.formats.ccf.txid import TxId
from kluis.ledger import receipts
from kluis.ledger.merkle import Tree
from kluis.ledger.secrets import Secrets


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """An entry of the past, opened.

    Attributes:
        txid: of it.
        public: its writes in plain.
        private: its writes that were encrypted.
        components: of its leaf: a receipt needs them.
    """

    txid: TxId
    public: Writes
    private: Writes
    components: Components

    def get(self, table: str, key: bytes) -> bytes | None:
        """What the entry wrote under a key; None if it wrote nothing there, or removed it."""
        return {**self.public, **self.private}.get(table, {}).get(key)


def read(raw: bytes, txid: TxId, tree: Tree, secrets: Secrets) -> Past:
    """Open an entry that was read back.

    Args:
        raw: what the host gave.
        txid: of the entry that was wanted.
        tree: of the ledger.
        secrets: of the ledger.

    Raises:
        AuthenticityError: it is not this entry of this ledger.
    """
    what = f"entry {txid}"
    try:
        entry = Entry.parse(raw, what)
        domain = PublicDomain.parse(entry.public, what)
    except KluisError as error:
        raise AuthenticityError(error.message, code="ledger_root") from None
    digest = write_set_digest(raw)
    leaf = leaf_of(digest, domain.evidence_digest, domain.claims_digest)
    if (entry.view, entry.seqno) != txid or leaf != tree.leaf(txid.seqno):
        raise AuthenticityError(f"{what}: is not the entry that the ledger has", code="ledger_root")
    secret = secrets.at(txid.seqno)
    private = secret.open(entry.tag, entry.iv, entry.public, entry.private, what)
    return Past(
        txid=txid,
        public=domain.writes,
        private=parse_writes(private, what),
        components=Components(digest, secret.evidence(txid), domain.claims_digest or NO_CLAIMS),
    )


def check_snapshot(snapshot: Snapshot, service: x509.Certificate, what: str = "snapshot") -> None:
    """Check that a service committed a snapshot.

    1. It has a receipt, which verifies under the pinned key.
    2. The receipt is of the snapshot's digest.

    Raises:
        AuthenticityError: a step does not hold.
    """
    if snapshot.receipt is None:
        raise AuthenticityError(f"{what}: has no receipt", code="ledger_receipt")
    receipts.verify_any(snapshot.receipt, service, what, claims_digest=snapshot.digest)  # 1 and 2
