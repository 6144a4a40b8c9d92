"""One certificate revocation list, cut into its fields. Spec: RFC 5280, "CRL and CRL Extensions Profile"."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats import der
from kluis.formats.x509.certificate import read_extensions, read_inner_algorithm, read_serial, read_signature
from kluis.formats.x509.instant import read_instant
from kluis.formats.x509.scheme import Scheme

MAX_CRL: Final = 1 << 20
CRL_NUMBER: Final = "2.5.29.20"
AUTHORITY_KEY: Final = "2.5.29.35"
_VERSION_2: Final = b"\x02\x01\x01"


@dataclasses.dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Crl:
    """A version 2 certificate revocation list, taken apart.

    Attributes:
        der: the bytes.
        issuer: DER of the name.
        this_update: aware.
        next_update: aware; a CRL without one is refused.
        revoked: serial numbers.
        extensions: the value of each, by dotted identifier.
        scheme: of ``signature``.
        signed: the bytes that ``signature`` covers.
        signature: as the scheme has it: DER for ECDSA.
    """

    der: bytes
    issuer: bytes
    this_update: datetime
    next_update: datetime
    revoked: frozenset[int]
    extensions: Mapping[str, bytes]
    scheme: Scheme
    signed: bytes
    signature: bytes


def parse_crl(data: bytes, what: str) -> Crl:
    """Read one CRL.

    Args:
        data: DER, at most 1 MiB.
        what: what it claims to be, for messages.

    Raises:
        UnsupportedError: a signature or a critical extension of no known kind.
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
    revoked: frozenset[int] = frozenset()
    if data[position : position + 1] == b"\x30" and position < body_end:
        entries, position = der.within(data, position, body_end, der.SEQUENCE, what)
        revoked = _revoked(data, entries, position, what)
    extensions = read_extensions(data, position, body_end, 0xA0, what)
    if not {CRL_NUMBER, AUTHORITY_KEY} <= extensions.keys():
        raise FormatError(f"{what}: has no CRL number or authority key identifier", code="cert_profile")
    return Crl(
        der=data,
        issuer=issuer,
        this_update=this_update,
        next_update=next_update,
        revoked=revoked,
        extensions=extensions,
        scheme=scheme,
        signed=data[start:body_end],
        signature=signature,
    )


def _serials() -> bytes:
    """A pattern of an INTEGER's length and contents, of 16 to 21 bytes, minimal and positive."""
    forms = [
        rb"%s(?:[\x01-\x7f][\x00-\xff]{%d}|\x00[\x80-\xff][\x00-\xff]{%d})"
        % (re.escape(bytes([size])), size - 1, size - 2)
        for size in range(16, 21)
    ]
    return b"|".join([*forms, rb"\x15\x00[\x80-\xff][\x00-\xff]{19}"])


_DAY: Final = (
    rb"(?:(?:0[13578]|1[02])(?:0[1-9]|[12]\d|3[01])"
    rb"|(?:0[469]|11)(?:0[1-9]|[12]\d|30)|02(?:0[1-9]|1\d|2[0-8]))"
)
# One revoked certificate as makers write them: its length, serial, day, and perhaps a reason.
_ENTRY: Final = re.compile(
    rb"\x30([\x21-\x34])\x02(" + _serials() + rb")(\x17\x0d\d\d" + _DAY + rb"(?:[01]\d|2[0-3])[0-5]\d[0-5]\dZ"
    rb"(?:\x30\x0c\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01[\x00-\x0a])?)"
)


def _revoked(data: bytes, position: int, end: int, what: str) -> frozenset[int]:
    found = _ENTRY.findall(data, position, end)
    if sum([2 + size[0] for size, _, _ in found]) == end - position and all(
        size[0] == 1 + len(serial) + len(rest) for size, serial, rest in found
    ):
        # They fill the list, each as long as it says: nothing stands between them.
        return frozenset([int.from_bytes(serial[1:], "big") for _, serial, _ in found])
    return _revoked_of_any_form(data, position, end, what)


def _revoked_of_any_form(data: bytes, position: int, end: int, what: str) -> frozenset[int]:
    found = set()
    while position < end:
        start, stop = der.within(data, position, end, der.SEQUENCE, what)
        serial_start, serial_end = der.within(data, start, stop, der.INTEGER, what)
        found.add(read_serial(data, serial_start, serial_end, what))
        _, rest = read_instant(data, serial_end, stop, what)
        if rest != stop and der.within(data, rest, stop, der.SEQUENCE, what)[1] != stop:
            raise FormatError(f"{what} at {rest:#x}: bytes after a revoked certificate", code="trailing_data")
        position = stop
    return frozenset(found)
