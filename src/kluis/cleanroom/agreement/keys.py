"""The two keys of a party: Ed25519 for signing, HPKE with ML-KEM-768 and X25519 for sealing.

Sealing is hybrid post-quantum from the start: medical data outlives the curves, and it costs only 95
microseconds and 1120 bytes more. Every sealed or signed value names its context, so that a value made for one
use is not accepted in another. Spec: RFC 8032; RFC 9180 with the KEM MLKEM768-X25519 (X-Wing).
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from kluis.errors import AuthenticityError, FormatError
from kluis.hashes import sha256

SIGNING_SIZE = 32
SIGNATURE_SIZE = 64
MLKEM_PUBLIC_SIZE = 1184
SEALING_SIZE = MLKEM_PUBLIC_SIZE + 32
SEALING_SECRET_SIZE = 64 + 32
_P = 2**255 - 19
# The y of every Ed25519 point whose order divides 8, in each of its encodings (RFC 7748, section 7; Chalkias,
# Garillot and Nikolaenko, "Taming the many EdDSAs", table 6). Under such a key anyone can sign.
_EIGHTH = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = frozenset((0, 1, _P - 1, _P, _P + 1, _EIGHTH, _P - _EIGHTH))
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class SigningKey:
    """An Ed25519 key pair that signs documents, each under a context."""

    def __init__(self, secret: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(secret)

    @classmethod
    def generate(cls) -> SigningKey:
        """Generate a key."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def secret(self) -> bytes:
        """The private key, 32 bytes."""
        return self._key.private_bytes_raw()

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, context: str, document: bytes) -> bytes:
        """Sign a document for one use; 64 bytes."""
        return self._key.sign(statement(context, document))


class SealingKey:
    """An ML-KEM-768 and X25519 key pair that opens what was sealed to it."""

    def __init__(self, secret: bytes) -> None:
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(secret[:64])
        self._x25519 = X25519PrivateKey.from_private_bytes(secret[64:])
        self._pair = hpke.MLKEM768X25519PrivateKey(self._mlkem, self._x25519)

    @classmethod
    def generate(cls) -> SealingKey:
        """Generate a key."""
        mlkem = MLKEM768PrivateKey.generate().private_bytes_raw()
        return cls(mlkem + X25519PrivateKey.generate().private_bytes_raw())

    @property
    def secret(self) -> bytes:
        """The private key, 96 bytes: the ML-KEM seed, then the X25519 scalar."""
        return self._mlkem.private_bytes_raw() + self._x25519.private_bytes_raw()

    @property
    def public(self) -> bytes:
        """The public key, 1216 bytes: ML-KEM-768, then X25519."""
        return self._mlkem.public_key().public_bytes_raw() + self._x25519.public_key().public_bytes_raw()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Open what was sealed to this key under the same ``info``.

        Raises:
            AuthenticityError: it was sealed to another key, for another use, or was changed.
        """
        try:
            return _SUITE.decrypt(sealed, self._pair, info)
        except (InvalidTag, ValueError) as error:
            raise AuthenticityError("sealed key: cannot be opened here", code="sealed_key") from error


def seal(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Seal a short secret to a public key.

    Args:
        public: 1216 bytes, from ``SealingKey.public``.
        plaintext: a data key.
        info: the allowed use; needed again, byte for byte, to open it.

    Returns:
        1136 bytes more than the plaintext.

    Raises:
        FormatError: the public key is not one.
    """
    if len(public) != SEALING_SIZE:
        raise FormatError(f"sealing key: want {SEALING_SIZE} bytes, got {len(public)}")
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(public[:MLKEM_PUBLIC_SIZE])
        x25519 = X25519PublicKey.from_public_bytes(public[MLKEM_PUBLIC_SIZE:])
        return _SUITE.encrypt(plaintext, hpke.MLKEM768X25519PublicKey(mlkem, x25519), info)
    except ValueError as error:
        raise FormatError("sealing key: want an ML-KEM-768 and X25519 public key, got other bytes") from error


def check_signature(public: bytes, signature: bytes, context: str, document: bytes, what: str) -> None:
    """Check one signature. Nothing is signed by a key of small order, under which anyone can sign.

    Args:
        public: 32 bytes.
        signature: 64 bytes.
        context: the expected use.
        document: the signed bytes.
        what: description of the signature, for the error message.

    Raises:
        AuthenticityError: this key did not sign this document for this use.
    """
    try:
        _require_order(public)
        Ed25519PublicKey.from_public_bytes(public).verify(signature, statement(context, document))
    except (InvalidSignature, ValueError) as error:
        raise AuthenticityError(
            f"{what}: the signature is not by this key over these bytes", code="signature"
        ) from error


def check_public(signing: bytes, sealing: bytes, what: str) -> None:
    """Refuse public keys that others can sign under, or that nothing can be sealed to.

    Args:
        signing: 32 bytes.
        sealing: 1216 bytes.
        what: whose keys they are, for the error message.

    Raises:
        FormatError: names the key.
    """
    try:
        _require_order(signing)
        Ed25519PublicKey.from_public_bytes(signing)
    except ValueError:
        raise FormatError(f"{what}: want a signing key that only its owner can sign with") from None
    try:
        seal(sealing, b"", b"")
    except FormatError:
        raise FormatError(f"{what}: want a sealing key that can be sealed to") from None


def _require_order(public: bytes) -> None:
    if int.from_bytes(public, "little") % 2**255 in _SMALL_ORDER:
        raise ValueError


def statement(context: str, document: bytes) -> bytes:
    """The signed bytes: a label, the context and the document's SHA-256, so that uses never mix."""
    return b"kluis\x00" + context.encode() + b"\x00" + sha256(document)
