"""Credentials that only one TPM opens, and only if it holds a given key. Nothing here is verified.

A credential delivers a secret to the TPM that holds both the endorsement key (EK) and the named key. File
layout: ``tpm2_makecredential`` (magic 0xbadcc0de, version 1). Big-endian.

Spec: TCG "TPM 2.0 Library Part 1: Architecture", "Credential Protection"; "Part 2: Structures",
"TPM2B_ID_OBJECT", "TPM2B_ENCRYPTED_SECRET".
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kluis.errors import FormatError, UsageError
from kluis.formats.encoding.reader import Reader
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.attest import encode_sized, read_sized
from kluis.formats.tpm.public import Public
from kluis.frozen import frozen

WHAT: Final = "TPM credential"
MAGIC: Final = bytes.fromhex("badcc0de00000001")
SECRET_SIZE: Final = 32
MAX_SECRET: Final = 64
MAX_OBJECT: Final = 2 + 64 + 2 + MAX_SECRET
MAX_ENCRYPTED: Final = 512
_HASHES: Final[dict[HashId, hashes.HashAlgorithm]] = {
    HashId.SHA256: hashes.SHA256(),
    HashId.SHA384: hashes.SHA384(),
    HashId.SHA512: hashes.SHA512(),
}


@frozen
class Credential:
    """A secret, sealed to an EK and to a key's name.

    Attributes:
        integrity: an HMAC over the following fields and the key's name, as long as the EK's hash; at most 64
            bytes.
        sealed: the secret and its size, encrypted.
        encrypted: the seed of both keys, encrypted to the EK.
    """

    integrity: bytes
    sealed: bytes
    encrypted: bytes

    @classmethod
    def parse(cls, data: bytes) -> Credential:
        """Parse the file that ``tpm2_activatecredential`` takes.

        Raises:
            FormatError: malformed.
        """
        r = Reader(data, WHAT, byte_order="big")
        if r.take(len(MAGIC), "magic") != MAGIC:
            raise FormatError(f"{WHAT}.magic at 0x0: want {MAGIC.hex()}", code="bad_magic")
        inner = Reader(read_sized(r, "object", MAX_OBJECT), f"{WHAT}.object", byte_order="big")
        encrypted = read_sized(r, "encrypted", MAX_ENCRYPTED)
        r.end()
        return cls(read_sized(inner, "integrity", 64), inner.take(inner.left, "sealed"), encrypted)

    def encode(self) -> bytes:
        """Write the file that ``tpm2_activatecredential`` takes."""
        return MAGIC + encode_sized(encode_sized(self.integrity) + self.sealed) + encode_sized(self.encrypted)


def matches(data: bytes) -> bool:
    """Whether bytes start like such a file."""
    return data.startswith(MAGIC)


def make(ek: Public, name: bytes, secret: bytes, seed: bytes) -> Credential:
    """Encrypt a secret, as TPM2_MakeCredential does.

    Args:
        ek: of the TPM that may open it; a storage key, whose name is hashed with SHA-256 or better.
        name: of the key that the TPM must hold.
        secret: 1..64 bytes, and at most the size of the EK's hash.
        seed: fresh, as long as the EK's hash; an elliptic-curve EK does not use it.

    Raises:
        UsageError: a secret or seed of another size, or a key that is not a storage key.
        FormatError: the area contains no valid key.
    """
    if ek.symmetric is None or ek.name_hash not in _HASHES:
        raise UsageError(f"{WHAT}: want an endorsement key whose name is hashed with SHA-256 or better")
    size = ek.name_hash.size
    if len(seed) != size or not 1 <= len(secret) <= size:
        raise UsageError(f"{WHAT}: want a seed of {size} bytes and a secret of at most as many")
    try:
        key, digest = load_der_public_key(ek.spki), _HASHES[ek.name_hash]
    except ValueError:
        raise FormatError(
            f"{WHAT}: want an endorsement key, got numbers of none", code="bad_encoding"
        ) from None
    if isinstance(key, rsa.RSAPublicKey):
        oaep = padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=b"IDENTITY\0")
        encrypted = key.encrypt(seed, oaep)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        seed, encrypted = _agree(key, ek.name_hash)
    else:
        raise UsageError(f"{WHAT}: want an RSA key or one on a curve")
    wrap = kdfa(ek.name_hash, seed, b"STORAGE", name, ek.symmetric)
    stream = Cipher(algorithms.AES(wrap), CFB(bytes(16))).encryptor()
    sealed = stream.update(encode_sized(secret)) + stream.finalize()
    mac = kdfa(ek.name_hash, seed, b"INTEGRITY", b"", 8 * size)
    integrity = hmac.digest(mac, sealed + name, ek.name_hash.label)
    return Credential(integrity, sealed, encrypted)


def kdfa(hashed: HashId, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """The TPM's key derivation by HMAC, in counter mode: at most one block of the hash.

    Spec: "Part 1: Architecture", "KDFa()".
    """
    message = b"\0\0\0\1" + label + b"\0" + context + bits.to_bytes(4, "big")
    return hmac.digest(key, message, hashed.label)[: bits // 8]


def _agree(key: ec.EllipticCurvePublicKey, hashed: HashId) -> tuple[bytes, bytes]:
    """Derive a seed that an elliptic-curve EK can derive too, and the point that it needs for this:
    KDFe().
    """
    mine = ec.generate_private_key(key.curve)
    size = (key.curve.key_size + 7) // 8
    points = (mine.public_key().public_numbers(), key.public_numbers())
    here, there = (point.x.to_bytes(size, "big") for point in points)
    shared = mine.exchange(ec.ECDH(), key)
    seed = hashlib.new(hashed.label, b"\0\0\0\1" + shared + b"IDENTITY\0" + here + there).digest()
    return seed, encode_sized(here) + encode_sized(points[0].y.to_bytes(size, "big"))
