"""Receipts of committed entries, made from data that the host returns and the tree confirms.

Only nodes know the commit evidence in them, and give it only for committed entries.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from kluis.errors import UnavailableError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import NO_CLAIMS
from kluis.formats.ccf.receipt import Components, Receipt
from kluis.formats.ccf.signature import NodeSignature, ServiceSignature
from kluis.formats.ccf.txid import TxId
from kluis.ledger import receipts
from kluis.services.ledger.running.log import HostLog, Part, read_each
from kluis.services.ledger.running.state import Ledger

MOST_SIGNATURES: Final = 256
"""How many are remembered, about 6 KiB each: receipts of one batch have the same one."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A committed entry, and the signatures over it.

    Attributes:
        txid: of the entry.
        part: the entry itself.
        components: of its leaf.
        node: the node's signature; None if only the service signs.
        service: the service's.
    """

    txid: TxId
    part: Part
    components: Components
    node: NodeSignature | None
    service: ServiceSignature

    @property
    def is_signature(self) -> bool:
        """Whether the entry holds the signature itself."""
        return self.service.txid == self.txid

    def receipt(self, ledger: Ledger) -> Receipt:
        """The receipt by the node's signature.

        Raises:
            UnavailableError: only the service signs here.
        """
        if self.node is None:
            raise UnavailableError(
                "receipt: only the service signs this ledger",
                hint="read the receipt in COSE: GET /receipt/cose",
                code="receipt",
            )
        certificate = self.node.certificate or ""
        if self.is_signature:
            return receipts.make_of_signature(self.node, certificate)
        return receipts.make(ledger.tree, self.txid, self.components, self.node, certificate)

    def cose(self, ledger: Ledger) -> bytes:
        """The receipt by the service's signature.

        Raises:
            UnavailableError: the entry holds the signature itself.
        """
        if self.is_signature:
            raise UnavailableError("receipt: a signature has no COSE receipt", code="receipt")
        return receipts.make_cose(ledger.tree, self.txid, self.components, self.service)


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
        raise UnavailableError(f"receipt: {txid} is not signed yet", code="receipt")
    known, raw = ledger.signed.get(at) or _sealed(ledger, at), ledger.sealed_entry(seqno)
    if known is not None or at == seqno:
        if raw is None:
            [raw] = await read_each(log, seqno)
        part = holder = Part.check(raw, seqno, ledger.tree)
    else:
        first, last = await read_each(log, seqno, at)
        part, holder = Part.check(first, seqno, ledger.tree), Part.check(last, at, ledger.tree)
    if known is None:
        known = ledger.signed[at] = _signatures(holder, at)
        if len(ledger.signed) > MOST_SIGNATURES:
            ledger.signed.popitem(last=False)
    node, service = known
    evidence = ledger.secrets.at(seqno).evidence(txid)
    claims = part.domain.claims_digest or NO_CLAIMS
    return Proven(
        txid=txid,
        part=part,
        components=Components(part.write_set, evidence, claims),
        node=node,
        service=service,
    )


def _sealed(ledger: Ledger, at: int) -> tuple[NodeSignature | None, ServiceSignature] | None:
    """The signatures of the last batch, if they are in that entry: a receipt that comes with its write."""
    batch = ledger.sealed
    if batch is None or batch.signature.seqno != at:
        return None
    return batch.signed.node, ServiceSignature.parse(batch.signed.service, f"signature {at}")


def _signatures(holder: Part, seqno: int) -> tuple[NodeSignature | None, ServiceSignature]:
    what, only = f"signature {seqno}", tables.ONLY
    node = holder.domain.writes.get(tables.SIGNATURES, {}).get(only)
    service = holder.domain.writes.get(tables.COSE_SIGNATURES, {}).get(only)
    if service is None:
        raise UnavailableError(f"{what}: the service did not sign", code="receipt")
    parsed = None if node is None else NodeSignature.parse(node, what)
    return parsed, ServiceSignature.parse_value(service, what)
