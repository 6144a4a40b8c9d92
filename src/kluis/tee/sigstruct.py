"""Make, parse and verify SGX SIGSTRUCT, the signature structure of an enclave.

Spec: Intel SDM vol. 3D, "SIGSTRUCT" and "EINIT"; the signature is RSA-3072 with exponent 3,
PKCS #1 v1.5 over SHA-256 (RFC 8017, section 9.2). Integers are little-endian, the RSA ones too.
A launch reads and verifies without ``cryptography``, so what signs imports it late.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING, Final

from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.formats.encoding.layout import U8, U16, U32, U64, Struct, at, layout
from kluis.formats.sgx.report import Flag
from kluis.hashes import sha256
from kluis.tee.author_keys import EXPONENT, KEY_BYTES, check_public

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

SIZE: Final = 1808
HEADER: Final = bytes.fromhex("06000000e10000000000010000000000")
HEADER2: Final = bytes.fromhex("01010000600000006000000001000000")
FLAGS: Final = Flag.INIT | Flag.MODE64 | Flag.KSS
XFRM: Final = 0xE7
# Every flag is enforced, debug above all; of XFRM, features that a processor may not have (AVX, AVX-512) are
# not.
FLAGS_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
XFRM_MASK: Final = 0xFFFF_FFFF_FFFF_FF1B
MISC_MASK: Final = 0xFFFF_FFFF
# DigestInfo of SHA-256: RFC 8017, section 9.2, note 1.
_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")


@layout("SIGSTRUCT", SIZE)
class SigStruct(Struct):
    """The enclave signature structure: 1808 bytes."""

    header: bytes = at(0, 16)
    vendor: int = at(16, U32)
    date: int = at(20, U32)
    header2: bytes = at(24, 16)
    swdefined: int = at(40, U32)
    modulus: bytes = at(128, KEY_BYTES)
    exponent: int = at(512, U32)
    signature: bytes = at(516, KEY_BYTES)
    miscselect: int = at(900, U32)
    miscmask: int = at(904, U32)
    cet_attributes: int = at(908, U8)
    cet_attributes_mask: int = at(909, U8)
    isvfamilyid: bytes = at(912, 16)
    flags: int = at(928, U64)
    xfrm: int = at(936, U64)
    flags_mask: int = at(944, U64)
    xfrm_mask: int = at(952, U64)
    enclavehash: bytes = at(960, 32)
    isvextprodid: bytes = at(1008, 16)
    isvprodid: int = at(1024, U16)
    isvsvn: int = at(1026, U16)
    q1: bytes = at(1040, KEY_BYTES)
    q2: bytes = at(1424, KEY_BYTES)

    @property
    def mrsigner(self) -> bytes:
        """SHA-256 of the modulus in the structure's byte order: 32 bytes."""
        return sha256(self.modulus)

    @property
    def debug(self) -> bool:
        """Whether the signer allows the host to read the enclave's memory."""
        return bool(self.flags & Flag.DEBUG)

    @property
    def signed(self) -> bool:
        """Whether a key has signed it at all; the signature itself is not checked."""
        return any(self.modulus)

    def message(self) -> bytes:
        """The 256 signed bytes: 0..127, and 900..1027."""
        data = self.encode()
        return data[:128] + data[900:1028]


def build_unsigned(enclavehash: bytes, *, product_id: int, svn: int, date: str, debug: bool) -> SigStruct:
    """Describe an enclave, for a key to sign.

    Args:
        enclavehash: MRENCLAVE, 32 bytes.
        product_id: ISVPRODID, 0..65535.
        svn: ISVSVN, 0..65535.
        date: eight digits, YYYYMMDD; encoded as BCD.
        debug: whether the DEBUG attribute is set.

    Raises:
        UsageError: the date is not a day, or a value does not fit.
    """
    zeros = bytes(KEY_BYTES)
    made = SigStruct(
        header=HEADER,
        vendor=0,
        date=bcd(date),
        header2=HEADER2,
        swdefined=0,
        modulus=zeros,
        exponent=0,
        signature=zeros,
        miscselect=0,
        miscmask=MISC_MASK,
        cet_attributes=0,
        cet_attributes_mask=0,
        isvfamilyid=bytes(16),
        flags=int(FLAGS | Flag.DEBUG) if debug else int(FLAGS),
        xfrm=XFRM,
        flags_mask=FLAGS_MASK,
        xfrm_mask=XFRM_MASK,
        enclavehash=enclavehash,
        isvextprodid=bytes(16),
        isvprodid=product_id,
        isvsvn=svn,
        q1=zeros,
        q2=zeros,
    )
    made.encode()
    return made


def sign(struct: SigStruct, key: rsa.RSAPrivateKey) -> SigStruct:
    """Sign with a local key: RSA-3072, exponent 3."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    made = key.sign(struct.message(), PKCS1v15(), SHA256())
    return with_signature(struct, key.public_key(), made)


def with_signature(struct: SigStruct, public: rsa.RSAPublicKey, signature: bytes) -> SigStruct:
    """Insert an externally made signature, and check it.

    Args:
        struct: the signed structure.
        public: the signer's key.
        signature: 384 bytes, big-endian, in the form of PKCS #1 and OpenSSL.

    Raises:
        UsageError: the key or the signature is of another size.
        AuthenticityError: the key did not sign this.
    """
    check_public(public)
    if len(signature) != KEY_BYTES:
        raise UsageError(f"signature: want {KEY_BYTES} bytes, got {len(signature)}")
    n, s = public.public_numbers().n, int.from_bytes(signature, "big")
    q1, q2 = quotients(s, n) if s < n else (0, 0)
    made = dataclasses.replace(
        struct,
        modulus=n.to_bytes(KEY_BYTES, "little"),
        exponent=EXPONENT,
        signature=s.to_bytes(KEY_BYTES, "little"),
        q1=q1.to_bytes(KEY_BYTES, "little"),
        q2=q2.to_bytes(KEY_BYTES, "little"),
    )
    verify(made)
    return made


def quotients(s: int, n: int) -> tuple[int, int]:
    """Compute Q1 and Q2, which save the processor divisions: s^2 // n, and s * (s^2 mod n) // n."""
    q1 = s * s // n
    return q1, s * (s * s - q1 * n) // n


def parse(data: bytes) -> SigStruct:
    """Parse 1808 bytes. Nothing is verified, except the two header constants.

    Raises:
        FormatError: another length, a wrong header, or a reserved byte that is not zero.
    """
    made = SigStruct.parse(data)
    for name, offset, want, got in (
        ("header", 0, HEADER, made.header),
        ("header2", 24, HEADER2, made.header2),
    ):
        if got != want:
            raise FormatError(f"SIGSTRUCT.{name} at {offset:#x}: want {want.hex()}, got {got.hex()}")
    return made


def verify(struct: SigStruct) -> bytes:
    """Verify the signature as EINIT does, and return MRSIGNER (32 bytes).

    1. The exponent is 3 and the modulus has 3072 bits.
    2. The signature is below the modulus.
    3. Q1 and Q2 are the quotients that belong to it.
    4. The signature opens to PKCS #1 v1.5 padding of the SHA-256 of the signed bytes, and nothing else.

    Raises:
        AuthenticityError: a step fails; nothing in the structure may then be trusted.
    """
    if not struct.signed:
        raise AuthenticityError(
            "SIGSTRUCT: want a signature, got none", hint="sign it: kluis sign FILE --key author.pem"
        )
    n, s = int.from_bytes(struct.modulus, "little"), int.from_bytes(struct.signature, "little")
    if struct.exponent != EXPONENT or n.bit_length() != KEY_BYTES * 8:  # 1
        raise AuthenticityError(
            f"SIGSTRUCT key: want RSA-3072 with exponent 3, got {n.bit_length()} bits, {struct.exponent}"
        )
    if s >= n:  # 2
        raise AuthenticityError("SIGSTRUCT signature: want below the modulus, got above")
    want = quotients(s, n)
    if (int.from_bytes(struct.q1, "little"), int.from_bytes(struct.q2, "little")) != want:  # 3
        raise AuthenticityError("SIGSTRUCT q1, q2: want the quotients of the signature, got others")
    tail = _DIGEST_INFO + sha256(struct.message())
    padded = b"\x00\x01" + b"\xff" * (KEY_BYTES - 3 - len(tail)) + b"\x00" + tail
    if (s * s * s % n).to_bytes(KEY_BYTES, "big") != padded:  # 4
        raise AuthenticityError("SIGSTRUCT signature: was not made by its key over these bytes")
    return struct.mrsigner


def check_attributes(struct: SigStruct) -> None:
    """Check that a signature has the attributes of a Kluis enclave, DEBUG or not, and a mask that enforces
    them.

    Raises:
        AuthenticityError: another attribute is set or missing, or the mask leaves one free.
    """
    for field, want, got in (
        ("flags", int(FLAGS), struct.flags & ~int(Flag.DEBUG)),
        ("xfrm", XFRM, struct.xfrm),
        ("flags_mask", FLAGS_MASK, struct.flags_mask),
        ("xfrm_mask", XFRM_MASK, struct.xfrm_mask),
        ("miscselect", 0, struct.miscselect),
        ("miscmask", MISC_MASK, struct.miscmask),
    ):
        if want != got:
            raise AuthenticityError(f"SIGSTRUCT {field}: want {want:#x}, got {got:#x}")


def bcd(date: str) -> int:
    """Encode YYYYMMDD as SIGSTRUCT's date: one decimal digit in each four bits.

    Raises:
        UsageError: not eight digits, or no such day.
    """
    try:
        if len(date) != 8 or not (date.isascii() and date.isdigit()):
            raise ValueError
        datetime.date(int(date[:4]), int(date[4:6]), int(date[6:]))
    except ValueError as error:
        raise UsageError(f"date: want a day as YYYYMMDD, got {date!r}") from error
    return int(date, 16)
