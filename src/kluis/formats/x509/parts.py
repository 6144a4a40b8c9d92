"""Parse the parts that certificates and revocation lists share: signature, serial numbers, extensions.

Spec: RFC 5280, "Basic Certificate Fields", "Certificate Extensions".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import der
from kluis.formats.x509.scheme import Scheme, bits_of, scheme_of

MAX_EXTENSIONS: Final = 64
BASIC_CONSTRAINTS: Final = "2.5.29.19"
KEY_USAGE: Final = "2.5.29.15"
EXTENDED_KEY_USAGE: Final = "2.5.29.37"
# A certificate with a critical extension that is not evaluated here is refused. Alternative names and
# policies restrict nothing that a vendor's chain is used for.
_CRITICAL: Final = frozenset({BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE, "2.5.29.17", "2.5.29.32"})


def read_signature(data: bytes, position: int, end: int, what: str) -> tuple[Scheme, bytes]:
    """Read the algorithm and signature after the signed part; nothing may follow.

    Raises:
        UnsupportedError: an unknown algorithm.
        FormatError: malformed, or bytes after it.
    """
    _, algorithm_end = der.within(data, position, end, der.SEQUENCE, what)
    scheme = scheme_of(data[position:algorithm_end], what)
    bits_start, bits_end = der.within(data, algorithm_end, end, der.BIT_STRING, what)
    if bits_end != end:
        raise FormatError(f"{what} at {bits_end:#x}: bytes after the signature", code="trailing_data")
    return scheme, bits_of(data, bits_start, bits_end, what)


def read_inner_algorithm(data: bytes, position: int, end: int, outer: int, what: str) -> int:
    """Check that the signed part names the same algorithm as at ``outer``; return its end offset.

    Raises:
        FormatError: it names another.
    """
    _, stop = der.within(data, position, end, der.SEQUENCE, what)
    inner = data[position:stop]
    if data[outer : outer + len(inner)] != inner:
        raise FormatError(f"{what} at {position:#x}: names two signature algorithms", code="bad_encoding")
    return stop


def read_serial(data: bytes, start: int, end: int, what: str) -> int:
    """Read a serial number: an INTEGER's contents, not negative, at most 20 bytes of value.

    Raises:
        FormatError: it is negative, longer, or not minimal.
    """
    if start == end or end - start > 21 or data[start] >= 0x80:
        raise FormatError(f"{what} at {start:#x}: want a serial number of 0 to 160 bits", code="bad_encoding")
    if end - start > 1 and data[start] == 0 and data[start + 1] < 0x80:
        raise FormatError(f"{what} at {start:#x}: integer is not minimal", code="bad_encoding")
    if end - start == 21 and data[start] != 0:
        raise FormatError(f"{what} at {start:#x}: want a serial number of 0 to 160 bits", code="bad_encoding")
    return int.from_bytes(data[start:end], "big")


def read_extensions(data: bytes, position: int, end: int, tag: int, what: str) -> dict[str, bytes]:
    """Read the optional extensions at the end of a signed part, under the context tag ``tag``.

    Raises:
        UnsupportedError: a critical extension that is not evaluated here.
        FormatError: malformed, a repeated extension, or more than 64.
    """
    if position == end:
        return {}
    wrapped, wrapped_end = der.within(data, position, end, tag, what)
    if wrapped_end != end:
        raise FormatError(f"{what} at {wrapped_end:#x}: bytes after the extensions", code="trailing_data")
    position, last = der.within(data, wrapped, wrapped_end, der.SEQUENCE, what)
    if last != end:
        raise FormatError(f"{what} at {last:#x}: bytes after the extensions", code="trailing_data")
    extensions: dict[str, bytes] = {}
    while position < end:
        if len(extensions) == MAX_EXTENSIONS:
            raise FormatError(f"{what}: more than {MAX_EXTENSIONS} extensions", code="too_large")
        name, critical, value, stop = _extension(data, position, end, what)
        if critical and name not in _CRITICAL:
            raise UnsupportedError(f"{what}: critical extension {name} is not known", code="bad_type")
        if name in extensions:
            raise FormatError(f"{what}: extension {name} appears twice", code="duplicate_key")
        extensions[name] = data[value:stop]
        position = stop
    return extensions


# Most extensions are like this: short, with an identifier of X.509's own.
_USUAL: Final = re.compile(
    rb"\x30([\x00-\x7f])(\x06\x03\x55\x1d.)(\x01\x01\xff)?\x04([\x00-\x7f])", re.DOTALL
)


def _extension(data: bytes, position: int, end: int, what: str) -> tuple[str, bool, int, int]:
    """Read one extension: its identifier, whether it is critical, and the start and end of its value."""
    usual = _USUAL.match(data, position)
    if usual is not None:
        size, oid, truth, value_size = usual.groups()
        stop = position + 2 + size[0]
        if stop <= end and usual.end() + value_size[0] == stop:
            return format_oid(oid), truth is not None, usual.end(), stop
    start, stop = der.within(data, position, end, der.SEQUENCE, what)
    _, name_end = der.within(data, start, stop, der.OID, what)
    critical = data[name_end : name_end + 2] == b"\x01\x01"
    if critical and (name_end + 3 > stop or data[name_end + 2] != 0xFF):
        raise FormatError(f"{what} at {name_end:#x}: boolean must be ff or absent", code="bad_encoding")
    value, value_end = der.within(data, name_end + 3 if critical else name_end, stop, der.OCTET_STRING, what)
    if value_end != stop:
        raise FormatError(f"{what} at {value_end:#x}: bytes after an extension", code="trailing_data")
    return format_oid(data[start:name_end]), critical, value, stop


@lru_cache(maxsize=256)
def format_oid(oid: bytes) -> str:
    """Convert an OBJECT IDENTIFIER's element to dotted numbers, at most 64 bytes.

    Raises:
        FormatError: it is longer, or not minimal.
    """
    content = oid[2:]
    if not content or len(content) > 64 or content[-1] >= 0x80:
        raise FormatError("object identifier: is cut short, or too long", code="bad_encoding")
    arcs, value, fresh = [], 0, True
    for byte in content:
        if fresh and byte == 0x80:
            raise FormatError("object identifier: is not minimal", code="bad_encoding")
        value, fresh = value << 7 | byte & 0x7F, byte < 0x80
        if fresh:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))
