"""Parse TPMT_SIGNATURE, a TPM's signature, and write it back. Nothing here is verified.

Some transports carry only the RSA bytes; a separate function reads these, without guessing.

Spec: TCG "TPM 2.0 Library Part 2: Structures", "TPMT_SIGNATURE", "TPMS_SIGNATURE_RSA",
"TPMS_SIGNATURE_ECC". Big-endian.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.reader import Reader
from kluis.formats.tpm.algorithm import ECDSA, RSAPSS, RSASSA, HashId, hash_id
from kluis.formats.tpm.attest import encode_sized, read_sized
from kluis.frozen import frozen

WHAT: Final = "TPM signature"
MAX_RSA: Final = 512
MAX_COORDINATE: Final = 66
RAW_SIZES: Final = (256, 384, 512)


@frozen
class RsaSignature:
    """RSASSA (PKCS #1 v1.5) or RSAPSS.

    Attributes:
        scheme: ``RSASSA`` or ``RSAPSS``.
        hash: that was signed.
        value: at most 512 bytes.
    """

    scheme: int
    hash: HashId
    value: bytes

    def encode(self) -> bytes:
        """Write the TPMT_SIGNATURE."""
        return self.scheme.to_bytes(2, "big") + self.hash.to_bytes(2, "big") + encode_sized(self.value)


@frozen
class EcdsaSignature:
    """ECDSA.

    Attributes:
        hash: that was signed.
        r: big-endian, at most 66 bytes; TPMs drop or keep leading zeros.
        s: big-endian, at most 66 bytes; TPMs drop or keep leading zeros.
    """

    hash: HashId
    r: bytes
    s: bytes

    def encode(self) -> bytes:
        """Write the TPMT_SIGNATURE."""
        return (
            ECDSA.to_bytes(2, "big")
            + self.hash.to_bytes(2, "big")
            + encode_sized(self.r)
            + encode_sized(self.s)
        )


Signature: TypeAlias = RsaSignature | EcdsaSignature


def parse(data: bytes) -> Signature:
    """Parse one TPMT_SIGNATURE; no bytes may follow it.

    Raises:
        UnsupportedError: another scheme, or an unknown hash.
        FormatError: lengths that do not fit.
    """
    r = Reader(data, WHAT, byte_order="big")
    scheme = r.u16("scheme")
    if scheme not in (RSASSA, RSAPSS, ECDSA):
        raise UnsupportedError(
            f"{WHAT}.scheme at 0x0: want {RSASSA:#x}, {RSAPSS:#x} or {ECDSA:#x}, got {scheme:#x}",
            code="bad_type",
        )
    hashed = hash_id(r.u16("hash"), f"{WHAT}.hash")
    signature: Signature
    if scheme == ECDSA:
        signature = EcdsaSignature(
            hashed, read_sized(r, "r", MAX_COORDINATE), read_sized(r, "s", MAX_COORDINATE)
        )
    else:
        signature = RsaSignature(scheme, hashed, read_sized(r, "value", MAX_RSA))
    r.end()
    return signature


def raw_rsa(data: bytes) -> RsaSignature:
    """Read the signature in Azure's transport: only the bytes of an RSASSA with SHA-256.

    Args:
        data: 256, 384 or 512 bytes, of keys of 2048, 3072 or 4096 bits.

    Raises:
        FormatError: another length.
    """
    if len(data) not in RAW_SIZES:
        raise FormatError(f"{WHAT}: raw RSA is {len(data)} bytes, must be 256, 384 or 512", code="bad_length")
    return RsaSignature(RSASSA, HashId.SHA256, data)


def parse_either(data: bytes) -> Signature:
    """Parse a TPMT_SIGNATURE, or the raw bytes of an RSASSA with SHA-256, distinguished by their length.

    Args:
        data: raw if it is 256, 384 or 512 bytes. A TPMT_SIGNATURE of that length would need an RSA key of
            2000, 3024 or 4048 bits, which does not exist.

    Raises:
        FormatError: neither of them.
    """
    return raw_rsa(data) if len(data) in RAW_SIZES else parse(data)
