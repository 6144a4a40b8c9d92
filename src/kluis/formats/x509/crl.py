"""Parse one certificate revocation list into its fields. Spec: RFC 5280, "CRL and CRL Extensions Profile"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import der
from kluis.formats.x509.instant import read_instant
from kluis.formats.x509.parts import read_extensions, read_inner_algorithm, read_serial, read_signature
from kluis.formats.x509.scheme import Scheme
from kluis.frozen import frozen

MAX_CRL: Final = 1 << 20
CRL_NUMBER: Final = "2.5.29.20"
AUTHORITY_KEY: Final = "2.5.29.35"
_VERSION_2: Final = b"\x02\x01\x01"


@frozen(kw_only=True, eq=False)
class Crl:
    """A parsed version 2 certificate revocation list.

    Attributes:
        der: the bytes.
        issuer: DER of the name.
        this_update: aware.
        next_update: aware; a CRL without one is refused.
        entries: bytes of the revoked certificates' entries, concatenated; each is complete.
        extensions: the value of each, by dotted identifier.
        scheme: of ``signature``.
        signed: the bytes that ``signature`` covers.
        signature: in the scheme's encoding: DER for ECDSA.
    """

    der: bytes
    issuer: bytes
    this_update: datetime
    next_update: datetime
    entries: bytes
    extensions: Mapping[str, bytes]
    scheme: Scheme
    signed: bytes
    signature: bytes

    @property
    def revoked(self) -> tuple[int, ...]:
        """Revoked serial numbers in the list's order, parsed again at each use."""
        return _serials(self.entries, 0, len(self.entries), "CRL")

    def lists(self, serial: int) -> bool:
        """Whether the certificate of this serial number, 0 or more, is revoked."""
        # An entry contains the serial as exactly these bytes; if they occur nowhere, it is not revoked.
        written = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
        return written in self.entries and serial in self.revoked


def parse_crl(data: bytes, what: str) -> Crl:
    """Parse one CRL.

    Args:
        data: DER, at most 1 MiB.
        what: what it claims to be, for messages.

    Raises:
        UnsupportedError: an unknown kind of signature or critical extension.
        FormatError: not a CRL, or without next update, number or authority key identifier.
    """
    if len(data) > MAX_CRL:
        raise FormatError(f"{what}: is {len(data)} bytes, must be at most {MAX_CRL}", code="too_large")
    start, end = der.within(data, 0, len(data), der.SEQUENCE, what)
    if end != len(data):
        raise FormatError(f"{what} at {end:#x}: {len(data) - end} bytes after the end", code="trailing_data")
    body, body_end = der.within(data, start, end, der.SEQUENCE, what)
    scheme, signature = read_signature(data, body_end, end, what)
    if data[body : body + 3] != _VERSION_2:
        raise UnsupportedError(f"{what} at {body:#x}: want a CRL of version 2", code="bad_version")
    position = read_inner_algorithm(data, body + 3, body_end, body_end, what)
    issuer_start = position
    _, position = der.within(data, position, body_end, der.SEQUENCE, what)
    issuer = data[issuer_start:position]
    this_update, position = read_instant(data, position, body_end, what)
    if data[position : position + 1] not in (b"\x17", b"\x18"):
        raise FormatError(f"{what}: has no next update", code="crl_expired")
    next_update, position = read_instant(data, position, body_end, what)
    entries = b""
    if data[position : position + 1] == b"\x30" and position < body_end:
        start_of_entries, position = der.within(data, position, body_end, der.SEQUENCE, what)
        if not _USUAL.fullmatch(data, start_of_entries, position):
            _serials(data, start_of_entries, position, what)
        entries = data[start_of_entries:position]
    extensions = read_extensions(data, position, body_end, 0xA0, what)
    if not {CRL_NUMBER, AUTHORITY_KEY} <= extensions.keys():
        raise FormatError(f"{what}: has no CRL number or authority key identifier", code="cert_profile")
    return Crl(
        der=data,
        issuer=issuer,
        this_update=this_update,
        next_update=next_update,
        entries=entries,
        extensions=extensions,
        scheme=scheme,
        signed=data[start:body_end],
        signature=signature,
    )


def _serials(data: bytes, position: int, end: int, what: str) -> tuple[int, ...]:
    """Read the serial numbers in ``data[position:end]``; entries may have any complete form.

    They are not put into a set: an attacker who chooses them could make all hashes collide.
    """
    serials = []
    while position < end:
        start, stop = der.within(data, position, end, der.SEQUENCE, what)
        serial_start, serial_end = der.within(data, start, stop, der.INTEGER, what)
        serials.append(read_serial(data, serial_start, serial_end, what))
        _, rest = read_instant(data, serial_end, stop, what)
        if rest != stop and der.within(data, rest, stop, der.SEQUENCE, what)[1] != stop:
            raise FormatError(f"{what} at {rest:#x}: bytes after a revoked certificate", code="trailing_data")
        position = stop
    return tuple(serials)


# Vendors write entries in one way: a serial of 16 to 21 bytes, minimal and positive, a day that every year
# has, and perhaps a reason. One pattern finds all of a list in order, each with its stated length.
_TIME: Final = (
    rb"\x17\x0d\d\d(?:(?:0[1-9]|1[0-2])(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])(?:29|30)"
    rb"|(?:0[13578]|1[02])31)(?:[01]\d|2[0-3])[0-5]\d[0-5]\dZ"
)
_REASON: Final = rb"\x30\x0c\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01[\x00-\x0a]"


def _usual_entry(rest: bytes, rest_size: int) -> bytes:
    """A pattern for one entry that ends with ``rest``, which has that many bytes."""
    serials = []
    for size in (20, 21, 19, 18, 17, 16):
        lengths = bytes([2 + size + rest_size, der.INTEGER, size])
        signed = rb"\x00[\x80-\xff].{%d}" % (size - 2)
        plain = rb"[\x01-\x7f].{%d}" % (size - 1)
        contents = signed if size == 21 else rb"(?:%s|%s)" % (plain, signed)
        serials.append(re.escape(lengths) + contents)
    return rb"\x30(?:%s)%s" % (b"|".join(serials), rest)


_USUAL: Final = re.compile(
    rb"(?:%s|%s)*+" % (_usual_entry(_TIME + _REASON, 15 + 14), _usual_entry(_TIME, 15)), re.DOTALL
)
