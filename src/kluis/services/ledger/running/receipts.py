"""Receipts of committed entries, made from data that the host returns and the tree confirms.

Only nodes know the commit evidence in them, and give it only for committed entries.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Final

from kluis.errors import UnavailableError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import NO_CLAIMS, Writes
from kluis.formats.ccf.receipt import Components, Receipt
from kluis.formats.ccf.signature import NodeSignature, ServiceSignature, read_value
from kluis.formats.ccf.txid import TxId
from kluis.frozen import frozen
from kluis.ledger import receipts
from kluis.ledger.signer import OTHERS
from kluis.services.ledger.running.log import HostLog, Part, read_each
from kluis.services.ledger.running.state import Ledger, Signatures

MOST_SIGNATURES: Final = 1024
"""How many are remembered, about 1 KiB each: receipts of one batch have the same one."""


@frozen(kw_only=True)
class Proven:
    """A committed entry, and the signatures over it.

    Attributes:
        txid: of the entry.
        components: of its leaf.
        signatures: over it, or in it.
        raw: the entry.
        part: the entry, checked; None for one of the last batch, which was made here.
    """

    txid: TxId
    components: Components
    signatures: Signatures
    raw: bytes
    part: Part | None = None

    @property
    def is_signature(self) -> bool:
        """Whether the entry holds the signature itself."""
        return self.signatures.seqno == self.txid.seqno

    def writes(self, ledger: Ledger) -> Writes:
        """What the entry wrote, with its private tables."""
        part = self.part or Part.check(self.raw, self.txid.seqno, ledger.tree)
        return ledger.writes_of(part)

    def receipt(self, ledger: Ledger) -> Receipt:
        """The receipt by the node's signature.

        Raises:
            UnavailableError: only the service signs here.
        """
        node = self.signatures.node
        if node is None:
            raise UnavailableError(
                "receipt: only the service signs this ledger",
                hint="read the receipt in COSE: GET /receipt/cose",
                code="receipt_form",
            )
        certificate = node.certificate or ""
        if self.is_signature:
            return receipts.make_of_signature(node, certificate)
        return receipts.make(ledger.tree, self.txid, self.components, node, certificate)

    def cose(self, ledger: Ledger) -> bytes:
        """The receipt by the service's signature.

        Raises:
            UnavailableError: the entry holds the signature itself.
        """
        if self.is_signature:
            raise UnavailableError("receipt: a signature has no COSE receipt", code="receipt_form")
        at, message = self.signatures.seqno, self.signatures.message
        service = ServiceSignature.parse(message, f"signature {at}")
        return receipts.make_cose(ledger.tree, self.txid, self.components, service)


async def prove(ledger: Ledger, log: HostLog, txid: TxId) -> Proven:
    """Read a committed entry and the signature over it.

    It reads nothing from the host for an entry of the last batch that was committed, as in the answer to its
    write.

    Raises:
        UnavailableError: the host does not give them.
        AuthenticityError: it gives others.
    """
    seqno, at = txid.seqno, ledger.signature_after(txid.seqno)
    if at is None:
        raise UnavailableError(f"receipt: {txid} is not signed yet", code="receipt_form")
    batch = ledger.sealed
    if batch is not None and batch.signature.seqno == at and seqno >= (first := batch.txids[0].seqno):
        return Proven(
            txid=txid,
            components=batch.components[seqno - first],
            signatures=Signatures(at, batch.signed.node, batch.signed.service),
            raw=batch.entry(seqno - first),
        )
    if (known := ledger.signed.get(at)) is not None or at == seqno:
        [raw] = await read_each(log, seqno)
        part = holder = Part.check(raw, seqno, ledger.tree)
    else:
        raw, last = await read_each(log, seqno, at)
        part, holder = Part.check(raw, seqno, ledger.tree), Part.check(last, at, ledger.tree)
    if known is None:
        known = ledger.signed[at] = _signatures(holder, at)
        if len(ledger.signed) > MOST_SIGNATURES:
            ledger.signed.popitem(last=False)
    evidence = ledger.secrets.at(seqno).evidence(txid)
    claims = part.claims_digest or NO_CLAIMS
    components = Components(part.write_set, evidence, claims)
    return Proven(txid=txid, components=components, signatures=known, raw=raw, part=part)


def _signatures(holder: Part, seqno: int) -> Signatures:
    what, only = f"signature {seqno}", tables.ONLY
    node = holder.writes.get(tables.SIGNATURES, {}).get(only)
    service = holder.writes.get(tables.COSE_SIGNATURES, {}).get(only)
    if service is None:
        raise UnavailableError(f"{what}: the service did not sign", code="receipt_form")
    parsed = None if node is None else NodeSignature.parse(node, what)
    if parsed is not None:
        # Of one node, all have the same id and certificate, and other members: these are kept once.
        node_id = sys.intern(parsed.node)
        certificate = parsed.certificate and sys.intern(parsed.certificate)
        others = OTHERS if parsed.others == OTHERS else parsed.others
        parsed = dataclasses.replace(parsed, node=node_id, certificate=certificate, others=others)
    return Signatures(seqno, parsed, read_value(service, what))
