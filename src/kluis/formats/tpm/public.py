"""Parse TPMT_PUBLIC, the public area of a TPM key, and write it back. Nothing here is verified.

Supported are signing keys over RSA and the NIST curves. Separate functions read decryption keys and storage
keys. A symmetric key is refused. Big-endian.

Spec: TCG "TPM 2.0 Library Part 2: Structures", "TPMT_PUBLIC", "TPMA_OBJECT", "TPMS_RSA_PARMS",
"TPMS_ECC_PARMS".
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.reader import Reader
from kluis.formats.tpm.algorithm import (
    AES,
    CFB,
    ECC,
    ECDSA,
    NULL,
    OAEP,
    RSA,
    RSAES,
    RSAPSS,
    RSASSA,
    HashId,
    hash_id,
)
from kluis.formats.tpm.attest import encode_sized, read_sized
from kluis.formats.x509 import KeyKind, PublicKey
from kluis.frozen import frozen

WHAT: Final = "TPM public area"
MAX_SIZE: Final = 1024
DEFAULT_EXPONENT: Final = 65537
SYMMETRIC_BITS: Final = (128, 256)
CURVES: Final = {3: KeyKind.P256, 4: KeyKind.P384, 5: KeyKind.P521}


class Attribute(enum.IntFlag):
    """TPMA_OBJECT: the properties that the TPM enforces for a key."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


@frozen(kw_only=True)
class RsaPublic:
    """An RSA key's parameters and modulus.

    Attributes:
        scheme: of the key, or None if it is not fixed.
        hash: of the scheme, or None.
        bits: of the modulus.
        exponent: 0 means 65537.
        modulus: big-endian, ``bits / 8`` bytes.
    """

    scheme: int | None
    hash: HashId | None
    bits: int
    exponent: int
    modulus: bytes


@frozen(kw_only=True)
class EcPublic:
    """An elliptic-curve key's parameters and point.

    Attributes:
        scheme: of the key, or None if it is not fixed.
        hash: of the scheme, or None.
        curve: 3, 4 or 5: P-256, P-384 or P-521.
        x: big-endian, as many bytes as the curve's field has.
        y: big-endian, as many bytes as the curve's field has.
    """

    scheme: int | None
    hash: HashId | None
    curve: int
    x: bytes
    y: bytes


@frozen(kw_only=True)
class Public:
    """A key's public area.

    Attributes:
        name_hash: the hash of its name.
        attributes: 32 bits, TPMA_OBJECT.
        policy: 0 to 64 bytes, the authorization policy's digest.
        key: parameters and key.
        symmetric: bits of AES, in CFB, with which a storage key protects its children; None for other keys.
    """

    name_hash: HashId
    attributes: int
    policy: bytes
    key: RsaPublic | EcPublic
    symmetric: int | None = None

    @property
    def name(self) -> bytes:
        """The TPM's name for the key: 2 bytes of the hash's identifier, then the hash of the area."""
        return self.name_hash.to_bytes(2, "big") + hashlib.new(self.name_hash.label, self.encode()).digest()

    @property
    def spki(self) -> bytes:
        """DER of the SubjectPublicKeyInfo."""
        key = self.key
        if isinstance(key, RsaPublic):
            return PublicKey.of_rsa(int.from_bytes(key.modulus, "big"), key.exponent or DEFAULT_EXPONENT).spki
        return PublicKey.of_point(CURVES[key.curve], b"\x04" + key.x + key.y).spki

    def encode(self) -> bytes:
        """Write the TPMT_PUBLIC."""
        key = self.key
        rsa = isinstance(key, RsaPublic)
        out = [
            (RSA if rsa else ECC).to_bytes(2, "big"),
            self.name_hash.to_bytes(2, "big"),
            self.attributes.to_bytes(4, "big"),
            encode_sized(self.policy),
            NULL.to_bytes(2, "big") if self.symmetric is None else _symmetric(self.symmetric),
            (NULL if key.scheme is None else key.scheme).to_bytes(2, "big"),
            b"" if key.hash is None else key.hash.to_bytes(2, "big"),
        ]
        if isinstance(key, RsaPublic):
            out += [key.bits.to_bytes(2, "big"), key.exponent.to_bytes(4, "big"), encode_sized(key.modulus)]
        else:
            out += [
                key.curve.to_bytes(2, "big"),
                NULL.to_bytes(2, "big"),
                encode_sized(key.x),
                encode_sized(key.y),
            ]
        return b"".join(out)


def parse(data: bytes) -> Public:
    """Parse one TPMT_PUBLIC; no bytes may follow it.

    Args:
        data: at most 1 KiB.

    Raises:
        UnsupportedError: not a signing key over RSA or a NIST curve, or an unknown name hash.
        FormatError: malformed.
    """
    return _area(data, {RSA: (RSASSA, RSAPSS), ECC: (ECDSA,)})


def parse_decryption(data: bytes) -> Public:
    """Parse the TPMT_PUBLIC of an RSA decryption key that is not a storage key.

    Args:
        data: at most 1 KiB; or the same as a TPM2B_PUBLIC.

    Raises:
        UnsupportedError: another kind of key.
        FormatError: malformed.
    """
    return _area(_bare(data), {RSA: (RSAES, OAEP)})


def parse_storage(data: bytes) -> Public:
    """Parse the TPMT_PUBLIC of a storage key, such as an endorsement key.

    Args:
        data: at most 1 KiB; or the same as a TPM2B_PUBLIC.

    Raises:
        UnsupportedError: another kind of key, or one that protects its children with anything but AES in CFB.
        FormatError: malformed.
    """
    return _area(_bare(data), {RSA: (), ECC: ()}, storage=True)


def matches_storage(data: bytes) -> bool:
    """Whether bytes start like the area of a restricted decryption key: a storage key."""
    both = Attribute.RESTRICTED | Attribute.DECRYPT
    return data[:2] in (b"\0\1", b"\0\x23") and int.from_bytes(data[4:8], "big") & both == both


def _bare(data: bytes) -> bytes:
    """The area of a TPM2B_PUBLIC, or the area itself."""
    sized = len(data) >= 2 and int.from_bytes(data[:2], "big") == len(data) - 2
    return data[2:] if sized else data


def _area(data: bytes, schemes: Mapping[int, tuple[int, ...]], *, storage: bool = False) -> Public:
    """Parse the area of a key whose type is in ``schemes``, and whose scheme is null or of that type."""
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    r = Reader(data, WHAT, byte_order="big")
    kind = r.u16("type")
    if kind not in schemes:
        wanted = " or ".join(f"{each:#x}" for each in schemes)
        raise UnsupportedError(f"{WHAT}.type at 0x0: want {wanted}, got {kind:#x}", code="bad_type")
    name_hash = hash_id(r.u16("name_hash"), f"{WHAT}.name_hash")
    if name_hash is HashId.SM3:
        raise UnsupportedError(f"{WHAT}.name_hash: SM3 is not handled", code="bad_type")
    attributes = r.u32("attributes")
    policy = read_sized(r, "policy", 64)
    symmetric = None
    if storage:
        symmetric = _read_symmetric(r)
    else:
        _null(r, "symmetric")
    scheme, hashed = _scheme(r, schemes[kind])
    key = _rsa(r, scheme, hashed) if kind == RSA else _ecc(r, scheme, hashed)
    r.end()
    return Public(name_hash=name_hash, attributes=attributes, policy=policy, key=key, symmetric=symmetric)


def parse_sized(data: bytes) -> Public:
    """Parse one TPM2B_PUBLIC, as TPMs return it: 2 bytes of size, then the area.

    Raises:
        FormatError: as for ``parse``, or a size that is not the area's.
    """
    r = Reader(data, "TPM2B_PUBLIC", byte_order="big")
    area = read_sized(r, "area", MAX_SIZE)
    r.end()
    return parse(area)


def _symmetric(bits: int) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in (AES, bits, CFB))


def _read_symmetric(r: Reader) -> int:
    got = r.take(6, "symmetric")
    for bits in SYMMETRIC_BITS:
        if got == _symmetric(bits):
            return bits
    raise UnsupportedError(
        f"{WHAT}.symmetric: want AES of {' or '.join(map(str, SYMMETRIC_BITS))} bits in CFB, got {got.hex()}",
        code="bad_type",
    )


def _null(r: Reader, field: str) -> None:
    algorithm = r.u16(field)
    if algorithm != NULL:
        raise UnsupportedError(f"{WHAT}.{field}: want none ({NULL:#x}), got {algorithm:#x}", code="bad_type")


def _scheme(r: Reader, allowed: tuple[int, ...]) -> tuple[int | None, HashId | None]:
    scheme = r.u16("scheme")
    if scheme == NULL:
        return None, None
    if scheme not in allowed:
        raise UnsupportedError(
            f"{WHAT}.scheme: want one of {[f'{s:#x}' for s in allowed]}, got {scheme:#x}", code="bad_type"
        )
    if scheme == RSAES:
        return scheme, None
    return scheme, hash_id(r.u16("scheme_hash"), f"{WHAT}.scheme_hash")


def _rsa(r: Reader, scheme: int | None, hashed: HashId | None) -> RsaPublic:
    bits, exponent = r.u16("key_bits"), r.u32("exponent")
    modulus = read_sized(r, "modulus", 512)
    if bits % 8 or len(modulus) != bits // 8 or not bits or not modulus[0] & 0x80:
        raise FormatError(f"{WHAT}.modulus: is not of {bits} bits", code="bad_length")
    return RsaPublic(scheme=scheme, hash=hashed, bits=bits, exponent=exponent, modulus=modulus)


def _ecc(r: Reader, scheme: int | None, hashed: HashId | None) -> EcPublic:
    curve = r.u16("curve")
    if curve not in CURVES:
        raise UnsupportedError(f"{WHAT}.curve: want one of {sorted(CURVES)}, got {curve}", code="bad_type")
    _null(r, "kdf")
    size = CURVES[curve].size
    x, y = read_sized(r, "x", size), read_sized(r, "y", size)
    if len(x) != size or len(y) != size:
        raise FormatError(
            f"{WHAT}: want coordinates of {size} bytes, got {len(x)} and {len(y)}", code="bad_length"
        )
    return EcPublic(scheme=scheme, hash=hashed, curve=curve, x=x, y=y)
