"""What is expected of a ledger from outside: a pinned service, and entries that must be there."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.errors import KluisError
from kluis.formats.ccf.cose_receipt import CoseReceipt
from kluis.formats.ccf.receipt import Components, Receipt
from kluis.formats.ccf.txid import TxId
from kluis.ledger import receipts
from kluis.ledger.audit.identity import Identity
from kluis.ledger.audit.report import Check, Findings
from kluis.ledger.audit.walk import Walk
from kluis.ledger.merkle import Tree
from kluis.ledger.signer import key_id


class Expected(NamedTuple):
    """Something that must be in a ledger.

    Attributes:
        name: of it, for messages.
        proof: a receipt, or the id of an entry.
    """

    name: str
    proof: Receipt | CoseReceipt | TxId


def check_pinned(
    identity: Identity, service: x509.Certificate | None, findings: Findings, *, leads: bool
) -> None:
    """Check that the ledger's service is the pinned one, or a later identity that it leads to.

    Args:
        identity: of the ledger.
        service: the pinned certificate; None: nobody pins one.
        findings: takes what does not hold.
        leads: whether the last signed root leads to the service's key. A certificate that is only named in
            the files is anybody's.
    """
    if service is None:
        findings.note(Check.IDENTITY, "no certificate was pinned: whose ledger this is, --service-cert shows")
        return
    wanted = key_id(receipts.curve_key(service))
    keys = [key_id(_key(pem)) for _, pem in identity.starts]
    if not keys or wanted not in keys:
        findings.fail(
            Check.IDENTITY, f"want the service key {wanted}, got {keys[-1] if keys else 'none'}", here=False
        )
    elif not leads:
        findings.fail(
            Check.IDENTITY,
            "names the pinned service, and no signature leads to the service's key",
            here=False,
        )
    elif keys[-1] != wanted:
        position = keys.index(wanted)
        later = [pem for _, pem in identity.starts[position:-1]]
        if any(key not in identity.accepted for key in keys[position + 1 :]):
            findings.fail(
                Check.IDENTITY,
                "the pinned service was replaced, and no members accepted its successor",
                here=False,
            )
        elif any(pem not in identity.endorsed for pem in later):
            findings.fail(
                Check.IDENTITY,
                "the pinned service was replaced, and did not endorse its successor",
                here=False,
            )
        else:
            findings.note(Check.IDENTITY, f"the pinned service was recovered {len(later)} times since")


def check_expected(
    expected: Expected,
    tree: Tree,
    walk: Walk,
    identity: Identity,
    service: x509.Certificate | None,
    findings: Findings,
    roots: Container[bytes],
    verified: TxId | None,
) -> None:
    """Check that a ledger has what a receipt proves, or the entry of an id, up to its last signed root.

    Anyone can append entries that nothing signs, of any id.
    """
    proof, name = expected.proof, expected.name

    def fail(message: str) -> None:
        findings.fail(Check.RECEIPTS, f"{name}: {message}", here=False)

    if isinstance(proof, TxId):
        if not _has(proof, walk):
            fail(f"want entry {proof}, got a ledger that ends with {walk.last}")
        elif verified is None or proof.seqno > verified.seqno:
            fail(f"want entry {proof}, got a ledger that is signed until {verified or 'nowhere'}")
        return
    certificates = [receipts.load_certificate(pem, "service") for _, pem in identity.starts]
    trusted = [service] if service is not None else certificates
    if not any(_verifies(proof, each) for each in trusted):
        fail("is not signed under the service's key")
        return
    leaves = [proof.components] if isinstance(proof, Receipt) else [each.components for each in proof.proofs]
    for components in leaves:
        if components is None:
            # It names no entry: what it proves is a root that the service signed.
            if isinstance(proof, Receipt) and proof.leaf not in roots:
                fail(f"proves a signed root that is not in the ledger, which ends with {walk.last}")
            continue
        txid = _parse_name(components)
        if txid is None:
            fail("names no entry in its commit evidence")
        elif not _has(txid, walk):
            fail(f"proves entry {txid}, and the ledger ends with {walk.last}: entries were taken away")
        elif tree.leaf(txid.seqno) != receipts.leaf_from(components, None, name):
            fail(f"proves another entry {txid} than the ledger has")


def _verifies(proof: Receipt | CoseReceipt, service: x509.Certificate) -> bool:
    try:
        if isinstance(proof, Receipt):
            receipts.verify(proof, service)
        else:
            receipts.verify_cose(proof, receipts.curve_key(service))
    except KluisError:
        return False
    return True


def _parse_name(components: Components) -> TxId | None:
    parts = components.evidence.split(":")
    try:
        return TxId.parse(parts[1]) if len(parts) == 3 and parts[0] == "ce" else None
    except KluisError:
        return None


def _has(txid: TxId, walk: Walk) -> bool:
    if not 0 < txid.seqno <= walk.last.seqno:
        return False
    view = max((start for start, _ in walk.view_starts if start.seqno <= txid.seqno), default=TxId(0, 0)).view
    return view == txid.view


def _key(pem: str) -> ec.EllipticCurvePublicKey:
    return receipts.curve_key(receipts.load_certificate(pem, "service"))
