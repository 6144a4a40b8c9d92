"""Parse one certificate into its fields.

Spec: RFC 5280, "Certificate", "Standard Extensions": basic constraints, key usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import der
from kluis.formats.x509.instant import read_instant
from kluis.formats.x509.parts import (
    BASIC_CONSTRAINTS,
    KEY_USAGE,
    read_extensions,
    read_inner_algorithm,
    read_serial,
    read_signature,
)
from kluis.formats.x509.public_key import PublicKey, read_public_key
from kluis.formats.x509.scheme import KeyKind, Scheme
from kluis.frozen import frozen

MAX_CERTIFICATE: Final = 16 * 1024
_VERSION_3: Final = b"\xa0\x03\x02\x01\x02"
_COMMON_NAME: Final = bytes.fromhex("0603550403")
_UNIT: Final = bytes.fromhex("060355040b")
_TEXT: Final = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii", 0x14: "latin-1", 0x1E: "utf-16-be"}


@frozen
class KeyUsage:
    """The allowed uses of a certificate's key; bits not named here are only in ``bits``."""

    bits: int

    @property
    def digital_signature(self) -> bool:
        """Bit 0."""
        return bool(self.bits & 1)

    @property
    def key_encipherment(self) -> bool:
        """Bit 2."""
        return bool(self.bits & 1 << 2)

    @property
    def key_agreement(self) -> bool:
        """Bit 4."""
        return bool(self.bits & 1 << 4)

    @property
    def key_cert_sign(self) -> bool:
        """Bit 5."""
        return bool(self.bits & 1 << 5)

    @property
    def crl_sign(self) -> bool:
        """Bit 6."""
        return bool(self.bits & 1 << 6)


@frozen(kw_only=True, eq=False)
class Certificate:
    """A parsed version 3 certificate.

    Attributes:
        der: the bytes.
        subject: DER of the name.
        issuer: DER of the name.
        common_name: the subject's only one; empty if there is none.
        unit: the subject's organizational unit, or None.
        serial: 0 or more, at most 160 bits.
        not_before: aware.
        not_after: aware.
        public_key: the subject's.
        ca: basic constraints, cA; False if there are none.
        path_length: basic constraints, pathLen, or None.
        usage: key usage, or None.
        extensions: the value of each, by dotted identifier.
        scheme: of ``signature``.
        signed: the bytes that ``signature`` covers.
        signature: in the scheme's encoding: DER for ECDSA.
    """

    der: bytes
    subject: bytes
    issuer: bytes
    common_name: str
    unit: str | None
    serial: int
    not_before: datetime
    not_after: datetime
    public_key: PublicKey
    ca: bool
    path_length: int | None
    usage: KeyUsage | None
    extensions: Mapping[str, bytes]
    scheme: Scheme
    signed: bytes
    signature: bytes

    @property
    def spki(self) -> bytes:
        """DER of the SubjectPublicKeyInfo."""
        return self.public_key.spki

    @property
    def point(self) -> bytes:
        """The public key's uncompressed point: 0x04 and two coordinates.

        Raises:
            UnsupportedError: the key is an RSA key.
        """
        if self.public_key.kind is KeyKind.RSA:
            raise UnsupportedError(f"{self.common_name!a}: has an RSA key, and no point", code="bad_type")
        return self.public_key.bits


def parse(data: bytes, what: str) -> Certificate:
    """Parse one certificate.

    Args:
        data: DER, at most 16 KiB.
        what: what it claims to be, for messages.

    Raises:
        UnsupportedError: an unknown kind of key, signature or critical extension.
        FormatError: not a certificate.
    """
    if len(data) > MAX_CERTIFICATE:
        raise FormatError(
            f"{what}: is {len(data)} bytes, must be at most {MAX_CERTIFICATE}", code="too_large"
        )
    start, end = der.within(data, 0, len(data), der.SEQUENCE, what)
    if end != len(data):
        raise FormatError(f"{what} at {end:#x}: {len(data) - end} bytes after the end", code="trailing_data")
    body, body_end = der.within(data, start, end, der.SEQUENCE, what)
    scheme, signature = read_signature(data, body_end, end, what)
    if data[body : body + 5] != _VERSION_3:
        raise UnsupportedError(
            f"{what} at {body:#x}: want an X.509 certificate of version 3", code="bad_version"
        )
    serial_start, serial_end = der.within(data, body + 5, body_end, der.INTEGER, what)
    serial = read_serial(data, serial_start, serial_end, what)
    position = read_inner_algorithm(data, serial_end, body_end, body_end, what)
    issuer_start = position
    _, position = der.within(data, position, body_end, der.SEQUENCE, what)
    issuer = data[issuer_start:position]
    times, position = der.within(data, position, body_end, der.SEQUENCE, what)
    not_before, times = read_instant(data, times, position, what)
    not_after, times = read_instant(data, times, position, what)
    if times != position:
        raise FormatError(f"{what} at {times:#x}: want two times", code="bad_encoding")
    subject_start = position
    _, position = der.within(data, position, body_end, der.SEQUENCE, what)
    subject = data[subject_start:position]
    public_key, position = read_public_key(data, position, body_end, what)
    extensions = read_extensions(data, position, body_end, 0xA3, what)
    ca, path_length = _constraints(extensions.get(BASIC_CONSTRAINTS), what)
    names = _names(subject, what)
    return Certificate(
        der=data,
        subject=subject,
        issuer=issuer,
        common_name=names.get(_COMMON_NAME, ""),
        unit=names.get(_UNIT),
        serial=serial,
        not_before=not_before,
        not_after=not_after,
        public_key=public_key,
        ca=ca,
        path_length=path_length,
        usage=_usage(extensions.get(KEY_USAGE), what),
        extensions=extensions,
        scheme=scheme,
        signed=data[start:body_end],
        signature=signature,
    )


def _constraints(value: bytes | None, what: str) -> tuple[bool, int | None]:
    if value is None:
        return False, None
    what = f"{what}.basic constraints"
    position, end = der.within(value, 0, len(value), der.SEQUENCE, what)
    if end != len(value):
        raise FormatError(f"{what}: bytes after the end", code="trailing_data")
    ca = value[position : position + 3] == b"\x01\x01\xff"
    position += 3 if ca else 0
    if position == end:
        return ca, None
    start, stop = der.within(value, position, end, der.INTEGER, what)
    if stop != end:
        raise FormatError(f"{what}: bytes after the end", code="trailing_data")
    return ca, der.Element(der.INTEGER, value[start:stop]).integer(255, what)


@lru_cache(maxsize=64)
def _usage(value: bytes | None, what: str) -> KeyUsage | None:
    if value is None:
        return None
    what = f"{what}.key usage"
    start, end = der.within(value, 0, len(value), der.BIT_STRING, what)
    content = value[start:end]
    if end != len(value) or not 2 <= len(content) <= 3 or content[0] > 7:
        raise FormatError(f"{what}: want a bit string of 1 or 2 bytes", code="bad_encoding")
    if content[-1] & (1 << content[0]) - 1:
        raise FormatError(f"{what}: unused bits must be zero", code="bad_encoding")
    bits = 0
    for index, byte in enumerate(content[1:]):
        # Bit 0 is the first byte's highest.
        bits |= int(f"{byte:08b}"[::-1], 2) << 8 * index
    return KeyUsage(bits)


@lru_cache(maxsize=64)
def _names(name: bytes, what: str) -> Mapping[bytes, str]:
    """Common name and organizational unit, each at most once. Cached: a vendor has few names for all
    platforms.
    """
    names: dict[bytes, str] = {}
    position, end = der.within(name, 0, len(name), der.SEQUENCE, what)
    while position < end:
        one, position = der.within(name, position, end, der.SET, what)
        while one < position:
            start, stop = der.within(name, one, position, der.SEQUENCE, what)
            _, key_end = der.within(name, start, stop, der.OID, what)
            key = name[start:key_end]
            tag, text, text_end = der.bounds(name, key_end, stop, what)
            if text_end != stop:
                raise FormatError(f"{what}: bytes after a name's attribute", code="trailing_data")
            if key in (_COMMON_NAME, _UNIT):
                if key in names:
                    raise FormatError(f"{what}: subject has 2 of one attribute, want 1", code="cert_profile")
                names[key] = _text(tag, name[text:text_end], what)
            one = stop
    return names


def _text(tag: int, raw: bytes, what: str) -> str:
    try:
        return raw.decode(_TEXT[tag])
    except (KeyError, UnicodeDecodeError):
        raise FormatError(f"{what}: subject's name is not text", code="bad_encoding") from None
