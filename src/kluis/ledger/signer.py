"""Who signs a ledger's roots: a node by its own key, and the service by the key that clients pin.

Both sign by default: clients of Azure Confidential Ledger check the node's signature, COSE receipts need
the service's. A service may choose the second only; ``receipt.json`` then cannot be made.

Most of a commit's time would be two signatures by OpenSSL. AWS-LC makes one on P-384 in a third of the time,
so a node's image contains the package ``awscrt``. Where that is not installed, OpenSSL signs.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from kluis.formats.ccf import signature
from kluis.formats.ccf.signature import NodeSignature
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import jcs
from kluis.formats.ietf import cose
from kluis.hashes import sha256

OF_ROOT: Final = ec.ECDSA(Prehashed(hashes.SHA256()))
"""A node signs the root as it is: 32 bytes that are a digest already, by whatever curve its key is on."""
OTHERS: Final = (("commit_seqno", 0), ("commit_view", 0), ("hashed_nonce", "0" * 64))


class Signed(NamedTuple):
    """The signatures over one root.

    Attributes:
        node: the node's; None if only the service signs.
        service: a COSE_Sign1 with a detached payload.
        node_value: the node's, as its table has it; empty if only the service signs.
    """

    node: NodeSignature | None
    service: bytes
    node_value: bytes = b""


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """How a ledger names a key: SHA-256 of its SubjectPublicKeyInfo, in hexadecimal."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hex()


class Signer:
    """Signs roots.

    Args:
        node_key: the node's, made when it started.
        certificate: PEM of the node, issued by the service key.
        service_key: the service's.
        issuer: the service's name, for COSE.
        subject: what is signed, for COSE.
        cose_only: whether only the service signs.
    """

    __slots__ = (
        "_curve",
        "_headers",
        "_sign_as_node",
        "_sign_as_service",
        "certificate",
        "cose_only",
        "issuer",
        "key_id",
        "node",
        "subject",
    )

    def __init__(
        self,
        node_key: ec.EllipticCurvePrivateKey,
        certificate: str,
        service_key: ec.EllipticCurvePrivateKey,
        *,
        issuer: str = "service.example.com",
        subject: str = "ledger.signature",
        cose_only: bool = False,
    ) -> None:
        self._sign_as_node = signature_function(node_key)
        self._sign_as_service = signature_function(service_key)
        self._curve = service_key.curve
        self.certificate = certificate
        self.cose_only = cose_only
        self.issuer = issuer
        self.subject = subject
        self.node = key_id(node_key.public_key())
        self.key_id = key_id(service_key.public_key())
        self._headers = signature.ProtectedHeaders(service_key.curve, self.key_id, issuer, subject)

    def sign(self, root: bytes, txid: TxId, issued_at: int) -> Signed:
        """Sign a root.

        Args:
            root: 32 bytes.
            txid: of the entry that will hold the signatures.
            issued_at: seconds since 1970.
        """
        node, value = None, b""
        if not self.cose_only:
            node = NodeSignature(
                node=self.node,
                view=txid.view,
                seqno=txid.seqno,
                root=root,
                signature=self._sign_as_node(root, OF_ROOT),
                certificate=self.certificate,
                others=OTHERS,
            )
            value = b'%b,"root":"%b","seqno":%d,"sig":"%b","view":%d}' % (
                _value_start(self.certificate, self.node),
                root.hex().encode(),
                txid.seqno,
                base64.b64encode(node.signature),
                txid.view,
            )
        headers = self._headers.encode(txid, issued_at)
        made = cose.sign1_raw(self._sign_as_service, self._curve, root, headers, detached=True)
        return Signed(node, made, value)


@functools.lru_cache(maxsize=4)
def _value_start(certificate: str, node: str) -> bytes:
    """What the value of each signature of a node begins with: these names are before ``root``."""
    return jcs.dumps({**dict(OTHERS), "cert": certificate, "node": node})[:-1]


def signature_function(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes, ec.ECDSA], bytes]:
    """How a key signs: a function of bytes and the scheme, as ``key.sign``, by the fastest library."""
    if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key.sign
    try:
        from awscrt.crypto import EC  # only signers load it: it has 12 MB
    except ImportError:
        return key.sign
    loaded = EC.new_key_from_der_data(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))

    def sign(data: bytes, scheme: ec.ECDSA) -> bytes:
        algorithm = scheme.algorithm
        if not isinstance(algorithm, Prehashed):
            data = hashlib.new(algorithm.name, data).digest()
        made: bytes = loaded.sign(data)
        return made

    return sign
