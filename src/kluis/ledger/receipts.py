"""Receipts: made from a tree and a signature, and verified under a key that the caller pins.

A receipt states that a service committed an entry; it does not name its ledger. It counts under the pinned
key only, and no date, name or usage of a certificate is looked at: what was signed stays signed.

Spec: CCF, "Write Receipts", "Verification"; draft-ietf-scitt-receipts-ccf-profile.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.utils import CryptographyDeprecationWarning

from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.formats.ccf import cose_receipt
from kluis.formats.ccf.cose_receipt import CoseReceipt, Proof
from kluis.formats.ccf.domain import NO_CLAIMS
from kluis.formats.ccf.entry import leaf_of
from kluis.formats.ccf.receipt import Components, Receipt
from kluis.formats.ccf.signature import NodeSignature, ServiceSignature
from kluis.formats.ccf.snapshot import Snapshot
from kluis.formats.ccf.txid import TxId
from kluis.formats.ietf import cose
from kluis.hashes import sha256
from kluis.ledger.merkle import Tree, fold
from kluis.ledger.signer import OF_ROOT, key_id


def make(
    tree: Tree,
    txid: TxId,
    components: Components,
    signature: NodeSignature,
    certificate: str,
    *,
    endorsements: Sequence[str] = (),
) -> Receipt:
    """Make a receipt of an entry.

    Args:
        tree: of the ledger.
        txid: of the entry, which is committed.
        components: of its leaf.
        signature: a node's, of a later entry that is committed, too.
        certificate: PEM of that node.
        endorsements: PEM of certificates between the node's and the service's.

    Raises:
        UsageError: the signature does not cover the entry.
    """
    return Receipt(
        certificate=certificate,
        node=bytes.fromhex(signature.node),
        components=components,
        proof=tree.proof(txid.seqno, signature.seqno),
        signature=signature.signature,
        endorsements=tuple(endorsements),
    )


def make_of_signature(signature: NodeSignature, certificate: str) -> Receipt:
    """Make a receipt of an entry that holds a signature: its own root, signed."""
    return Receipt(
        certificate=certificate,
        node=bytes.fromhex(signature.node),
        leaf=signature.root,
        signature=signature.signature,
    )


def make_cose(tree: Tree, txid: TxId, components: Components, signature: ServiceSignature) -> bytes:
    """Make a COSE receipt of an entry.

    Args:
        tree: of the ledger.
        txid: of the entry, which is committed.
        components: of its leaf.
        signature: the service's, of a later entry that is committed, too.

    Raises:
        UsageError: the signature does not cover the entry.
    """
    proof = tree.proof(txid.seqno, signature.txid.seqno)
    return cose_receipt.encode(signature.message, [Proof(components, proof)])


def load_certificate(pem: str, what: str) -> x509.Certificate:
    """Read one certificate whose key is on a curve.

    Raises:
        FormatError: no certificate, or one with another key.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        if isinstance(certificate.public_key(), ec.EllipticCurvePublicKey):
            return certificate
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm, CryptographyDeprecationWarning):
        pass
    raise FormatError(
        f"{what}: want a PEM certificate of a key on a curve, got something else", code="bad_type"
    )


def load_public_key(pem: str, what: str) -> ec.EllipticCurvePublicKey:
    """Read a public key on a curve, PEM.

    Raises:
        FormatError: another kind of key, or none.
    """
    try:
        key = load_pem_public_key(pem.encode())
        if isinstance(key, ec.EllipticCurvePublicKey):
            return key
    except (ValueError, UnsupportedAlgorithm):
        pass
    raise FormatError(f"{what}: want a PEM key on a curve, got something else", code="bad_type")


def fingerprint(pem: str) -> bytes:
    """SHA-256 of a certificate's DER, 32 bytes: what people compare.

    Raises:
        FormatError: no certificate of a key on a curve.
    """
    return sha256(load_certificate(pem, "certificate").public_bytes(Encoding.DER))


def curve_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """The key of a certificate that :func:`load_certificate` read."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UsageError("certificate: want a key on a curve, got another")
    return key


def check_issued(subject: x509.Certificate, issuer: ec.EllipticCurvePublicKey, what: str) -> None:
    """Check that a key signed a certificate. Neither dates nor names nor usages are looked at.

    Raises:
        AuthenticityError: it did not.
    """
    try:
        algorithm = subject.signature_hash_algorithm
        if algorithm is None:
            raise ValueError("no hash")
        issuer.verify(subject.signature, subject.tbs_certificate_bytes, ec.ECDSA(algorithm))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise AuthenticityError(
            f"{what}: is not signed by the key it should be", code="ledger_receipt"
        ) from None


def check_root(signature: bytes, root: bytes, key: ec.EllipticCurvePublicKey, what: str) -> None:
    """Check that a node's key signed a root.

    Raises:
        AuthenticityError: it did not.
    """
    try:
        key.verify(signature, root, OF_ROOT)
    except (InvalidSignature, ValueError):
        raise AuthenticityError(
            f"{what}: root {root.hex()} is not signed by its node", code="ledger_receipt"
        ) from None


def leaf_from(components: Components, claims_digest: bytes | None, what: str) -> bytes:
    """The leaf of components, 32 bytes.

    Args:
        components: of a receipt.
        claims_digest: 32 bytes that the caller computed from the claims; None: those of the receipt count.
        what: for messages.

    Raises:
        AuthenticityError: the receipt has another claims digest.
    """
    stated = components.claims_digest
    if claims_digest is not None and stated is not None and claims_digest != stated:
        raise AuthenticityError(
            f"{what}: want claims digest {claims_digest.hex()}, got {stated.hex()}", code="ledger_receipt"
        )
    claims = claims_digest or stated or NO_CLAIMS
    return leaf_of(components.write_set_digest, sha256(components.evidence.encode()), claims)


def verify(
    receipt: Receipt, service: x509.Certificate, what: str = "receipt", *, claims_digest: bytes | None = None
) -> bytes:
    """Verify a receipt.

    1. The leaf and its proof give a root.
    2. The node's key signed that root.
    3. The node's certificate, or the last endorsement between, is signed by the service's key.
    4. The node's id, if it is stated, is the digest of its key.

    Args:
        receipt: as it was read.
        service: the certificate whose key the caller pins.
        what: for messages.
        claims_digest: 32 bytes, computed from the response that the caller got; None: the receipt's own is
            used.

    Returns:
        The root, 32 bytes.

    Raises:
        FormatError: a certificate cannot be read.
        AuthenticityError: a step does not hold.
    """
    node = load_certificate(receipt.certificate, f"{what}.cert")
    if receipt.components is not None:
        leaf = leaf_from(receipt.components, claims_digest, what)
    elif receipt.leaf is not None and not receipt.proof and claims_digest is None:
        leaf = receipt.leaf
    else:
        raise AuthenticityError(f"{what}: want the components of a leaf, got none", code="ledger_receipt")
    root = fold(leaf, receipt.proof)  # 1
    check_root(receipt.signature, root, curve_key(node), what)  # 2
    subject = node
    for position, pem in enumerate(receipt.endorsements):
        issuer = load_certificate(pem, f"{what}.service_endorsements[{position}]")
        check_issued(subject, curve_key(issuer), f"{what}.cert")
        subject = issuer
    check_issued(subject, curve_key(service), f"{what}.cert")  # 3
    if receipt.node is not None and receipt.node.hex() != key_id(curve_key(node)):  # 4
        raise AuthenticityError(
            f"{what}.node_id: want {key_id(curve_key(node))}, got {receipt.node.hex()}", code="ledger_receipt"
        )
    return root


def verify_cose(
    receipt: CoseReceipt,
    key: ec.EllipticCurvePublicKey,
    what: str = "receipt",
    *,
    claims_digest: bytes | None = None,
) -> bytes:
    """Verify a COSE receipt.

    1. Its protected header names the key.
    2. Every proof leads to the same root, and has the claims digest, if one is given.
    3. The key signed that root.

    Args:
        receipt: as it was read.
        key: the service's, which the caller pins.
        what: for messages.
        claims_digest: 32 bytes, computed from the response that the caller got; None: the receipt's own is
            used.

    Returns:
        The root, 32 bytes.

    Raises:
        AuthenticityError: a step does not hold.
    """
    wanted = key_id(key)
    if receipt.signed.key_id != wanted:  # 1
        raise AuthenticityError(
            f"{what}.kid: want {wanted}, got {receipt.signed.key_id}", code="ledger_receipt"
        )
    roots = {fold(leaf_from(each.components, claims_digest, what), each.path) for each in receipt.proofs}
    if len(roots) != 1:  # 2
        raise AuthenticityError(f"{what}: want proofs of one root, got {len(roots)}", code="ledger_receipt")
    (root,) = roots
    cose.check(receipt.signed.message.over(root), key, what)  # 3
    return root


def verify_any(
    receipt: Receipt | CoseReceipt,
    service: x509.Certificate,
    what: str = "receipt",
    *,
    claims_digest: bytes | None = None,
) -> tuple[bytes, tuple[str, ...]]:
    """Verify a receipt of either form, by :func:`verify` or :func:`verify_cose`.

    Returns:
        The root, 32 bytes, and the commit evidence of each entry that is proved.

    Raises:
        FormatError: a certificate cannot be read.
        AuthenticityError: a step does not hold.
    """
    if isinstance(receipt, Receipt):
        root = verify(receipt, service, what, claims_digest=claims_digest)
        components = receipt.components
        return root, () if components is None else (components.evidence,)
    root = verify_cose(receipt, curve_key(service), what, claims_digest=claims_digest)
    return root, tuple([each.components.evidence for each in receipt.proofs])


def check_snapshot(snapshot: Snapshot, service: x509.Certificate, what: str = "snapshot") -> None:
    """Check that a service committed a snapshot.

    1. It has a receipt, which verifies under the pinned key.
    2. The receipt is of the snapshot's digest.

    Raises:
        AuthenticityError: a step does not hold.
    """
    if snapshot.receipt is None:
        raise AuthenticityError(f"{what}: has no receipt", code="ledger_receipt")
    verify_any(snapshot.receipt, service, what, claims_digest=snapshot.digest)  # 1 and 2


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """DER of a key's SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
