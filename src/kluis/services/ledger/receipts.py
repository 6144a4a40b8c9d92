"""Receipts of committed entries, in the three forms that clients read.

A receipt is the way from an entry to a root that was signed later: by the node, as JSON, and by the
service, as COSE. Its commit evidence is known to nodes alone, and given for nothing that is not committed.
Spec: CCF, "Receipts"; draft-ietf-scitt-receipts-ccf-profile; Azure Confidential Ledger, "TransactionReceipt".
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from kluis.errors import AuthenticityError, FormatError, UnavailableError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import NO_CLAIMS
from kluis.formats.ccf.signature import INCLUSION, PROOFS, NodeSignature, ServiceSignature
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import b64, cbor
from kluis.ledger.merkle import Step
from kluis.services.ledger.log import HostLog, Part, entries_of
from kluis.services.ledger.state import Ledger, missing

__all__ = ["Receipt", "entry_claim", "entry_claims", "load"]

TOGETHER: Final = 64 << 10
"""Bytes that are asked for at once: most entries have their signature within them."""
PROTOCOL: Final = "LedgerEntryV1"


class Signatures(NamedTuple):
    """What one signature entry holds."""

    node: NodeSignature | None
    service: ServiceSignature


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """All that is known of one entry's commit.

    Attributes:
        txid: of the entry.
        part: the entry itself.
        evidence: that it is committed; empty for an entry of an older kind.
        proof: to the root.
        root: 32 bytes.
        signed: over the root.
        is_signature: whether the entry itself holds a signature, and has no receipt of its own.
    """

    txid: TxId
    part: Part
    evidence: str
    proof: tuple[Step, ...]
    root: bytes
    signed: Signatures
    is_signature: bool

    def to_json(self) -> dict[str, Any]:
        """As CCF gives it.

        Raises:
            UnavailableError: only the service signs here.
        """
        node = self._node()
        signed = {"cert": node.certificate, "node_id": node.node, "signature": b64.encode(node.signature)}
        if self.is_signature:
            return {**signed, "leaf": node.root.hex(), "proof": []}
        return {
            **signed,
            "leaf_components": {
                "claims_digest": self._claims().hex(),
                "commit_evidence": self.evidence,
                "write_set_digest": self.part.write_set.hex(),
            },
            "proof": self._steps(),
        }

    def to_azure(self) -> dict[str, Any]:
        """As Azure gives it.

        Raises:
            UnavailableError: only the service signs here.
        """
        node = self._node()
        made: dict[str, Any] = {
            "cert": node.certificate,
            "isSignatureTransaction": self.is_signature,
            "nodeId": node.node,
            "proof": [] if self.is_signature else self._steps(),
            "serviceEndorsements": [],
            "signature": b64.encode(node.signature),
        }
        if self.is_signature:
            return {**made, "leaf": node.root.hex()}
        components = {
            "claimsDigest": self._claims().hex(),
            "commitEvidence": self.evidence,
            "writeSetDigest": self.part.write_set.hex(),
        }
        return {**made, "leafComponents": components}

    def to_cose(self) -> bytes:
        """As a COSE receipt: the service's signature, and the proof next to it.

        Raises:
            UnavailableError: the entry holds the signature itself.
        """
        if self.is_signature:
            raise UnavailableError("receipt: a signature has none of its own in COSE", code="receipt")
        leaf: list[cbor.Writable] = [self.part.write_set, self.evidence, self._claims()]
        steps: list[cbor.Writable] = [[step.left, step.sibling] for step in self.proof]
        proof = cbor.dumps({1: leaf, 2: steps})
        message = self.signed.service.message
        proofs: Mapping[cbor.Key, cbor.Value] = {PROOFS: {INCLUSION: [proof]}}
        return dataclasses.replace(message, unprotected=proofs).encode()

    def _node(self) -> NodeSignature:
        if self.signed.node is None:
            raise UnavailableError(
                "receipt: this ledger is signed by its service alone",
                hint="read the receipt in COSE: GET /receipt/cose",
                code="receipt",
            )
        return self.signed.node

    def _claims(self) -> bytes:
        return self.part.domain.claims_digest or NO_CLAIMS

    def _steps(self) -> list[dict[str, str]]:
        return [{"left" if step.left else "right": step.sibling.hex()} for step in self.proof]


def load(ledger: Ledger, log: HostLog, txid: TxId) -> Receipt:
    """Read a committed entry and the signature over it; may wait for the host.

    Raises:
        UnavailableError: the host does not give them.
        AuthenticityError: it gives others.
    """
    seqno = txid.seqno
    at = ledger.signature_after(seqno)
    if at is None:
        raise UnavailableError(f"receipt: {txid} is not signed yet", code="receipt")
    raw = log.read(seqno, TOGETHER)
    if not raw:
        raise missing(seqno)
    try:
        entries = entries_of(raw, seqno)
    except FormatError:
        raise AuthenticityError(f"entry {seqno}: the host gave something else", code="ledger_leaf") from None
    part = Part.check(entries[0], seqno, ledger.tree)
    if at - seqno < len(entries):
        holder = part if at == seqno else Part.check(entries[at - seqno], at, ledger.tree)
    else:
        found = log.read(at, 0)
        if not found:
            raise missing(at)
        holder = Part.check(entries_of(found, at)[0], at, ledger.tree)
    is_signature = at == seqno
    return Receipt(
        txid=txid,
        part=part,
        evidence=ledger.secrets.at(seqno).evidence(txid),
        proof=() if is_signature else ledger.tree.proof(seqno, at),
        root=ledger.tree.root(at),
        signed=_signatures(holder, at),
        is_signature=is_signature,
    )


def _signatures(holder: Part, seqno: int) -> Signatures:
    what, only = f"signature {seqno}", tables.ONLY
    node = holder.domain.writes.get(tables.SIGNATURES, {}).get(only)
    service = holder.domain.writes.get(tables.COSE_SIGNATURES, {}).get(only)
    if service is None:
        raise UnavailableError(f"{what}: the service did not sign", code="receipt")
    return Signatures(
        None if node is None else NodeSignature.parse(node, what), ServiceSignature.parse_value(service, what)
    )


def entry_claim(collection: str, contents: str, key: bytes) -> bytes:
    """The claim of one of Azure's entries, 32 bytes: hidden by 32 random bytes of its own."""
    parts = [hmac.digest(key, text.encode(), "sha256") for text in (collection, contents)]
    return hashlib.sha256(PROTOCOL.encode() + hashlib.sha256(b"".join(parts)).digest()).digest()


def entry_claims(claim: bytes) -> bytes:
    """The claims digest of an entry with one claim, 32 bytes."""
    return hashlib.sha256((1).to_bytes(4, "little") + claim).digest()
