"""Hostile inputs for parsers, each with the name of its attack."""

from __future__ import annotations

import base64
from collections.abc import Iterator

BEGIN, END = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
FILLERS = (
    *(b"\0", b"\xff", b"A", b" ", b"\n", b"\r\n", b"[", b"{", b'{"a":', b'"', b'\\"', b"0", b"-", b".", b"="),
    *(b"\x30\x80", b"\x30\0", b"\x06\x01\0", b"\x30\x84\x03\xff\xff\xff", b"\x02\x01\x01", b"\x05\0"),
    *(b"\x81", b"\x9f", b"\xa1\0", b"\xd9\x01\x8f", b"\xc6", b"\xf6", b"\x5f", b"\x40"),
    *(BEGIN, END, b"-----", b"\xc3\x28", b"0x", b"a.", b"a=1\n", b"\0\1", b"\1\0\0\0", b"ab", b"QUFB\n"),
)
# So many bytes of small pieces: a list of them is many times as large.
MANY = 4_000_000
DEPTHS = (9, 33, 100, 1000, 20_000)
_ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")
_NAME = bytes.fromhex("300c310a300806035504030c0161")
_WINDOW = b"\x17\x0d250101000000Z\x17\x0d260101000000Z"
_NUMBERS = bytes.fromhex("a0173015300a0603551d1404030201013007") + b"\x06\x03\x55\x1d\x23\x04\x00"
_SIGNATURE = b"\x03\x09\0\x30\x06\x02\x01\x01\x02\x01\x01"


def der(tag: int, body: bytes) -> bytes:
    """One element of DER."""
    size = len(body)
    if size < 128:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def head(major: int, number: int) -> bytes:
    """The head of one item of CBOR."""
    if number < 24:
        return bytes((major << 5 | number,))
    width = next(width for width in (1, 2, 4, 8) if number < 1 << 8 * width)
    return bytes((major << 5 | 23 + width.bit_length(),)) + number.to_bytes(width, "big")


def hostile(size: int) -> Iterator[tuple[str, bytes]]:
    """Inputs, with their names.

    Args:
        size: in bytes, of those that are large.
    """
    for filler in FILLERS:
        yield f"{filler!r} and nothing else", filler * (size // len(filler))
    yield from _json(size)
    yield from _cbor(size)
    yield from _der(size)
    yield from _text(size)
    for depth in DEPTHS:
        yield f"lists {depth} deep", b"[" * depth + b"]" * depth
        yield f"objects {depth} deep", b'{"a":' * depth + b"1" + b"}" * depth
        yield f"CBOR {depth} deep", b"\x81" * depth + b"\0"
        yield f"tags {depth} deep", b"\xc1" * depth + b"\0"
        nested = b"\x05\0"
        for _ in range(min(depth, 1000)):
            nested = der(0x30, nested)
        yield f"DER {depth} deep", nested


def _json(size: int) -> Iterator[tuple[str, bytes]]:
    keys = [b'"%d":0' % index for index in range(min(size, MANY) // 12)]
    yield "many keys", b"{" + b",".join(keys) + b"}"
    yield "many keys, and the last twice", b"{" + b",".join((*keys, keys[-1])) + b"}"
    yield "one key very often", b"{" + b",".join(keys[:1] * len(keys)) + b"}"
    yield (
        "many numbers",
        b"[" + b",".join(b"%d" % (index * 7919) for index in range(min(size, MANY) // 12)) + b"]",
    )
    yield "many objects", b"[" + b'{"a":"b"},' * (size // 10) + b'{"a":"b"}]'
    yield "a number of many digits", b'{"version":' + b"1" * (size - 12) + b"}"
    yield "numbers of many digits", b"[" + b",".join([b"1" * 4000] * (size // 4001)) + b"]"
    yield "a float of many digits", b'{"version":0.' + b"9" * (size - 14) + b"}"
    yield "a great exponent", b'{"version":1e999999999}'
    yield "escapes", b'{"a":"' + rb"\u0041" * (size // 6) + b'"}'
    yield "halves of characters", b'{"a":"' + rb"\ud800" * (size // 6) + b'"}'
    yield "no numbers", b'{"a":NaN,"b":-Infinity}'
    yield "a long key", b'{"' + b"a" * (size - 5) + b'":0}'


def _cbor(size: int) -> Iterator[tuple[str, bytes]]:
    yield "a long array", head(4, size // 2) + bytes(size // 2)
    for major in (2, 3, 4, 5):
        yield f"a length of nobody's, major type {major}", head(major, 1 << 62) + b"\0"
    entries = [head(0, 70_000 + index) + b"\0" for index in range(min(size, MANY) // 8)]
    yield "a large map", head(5, len(entries)) + b"".join(entries)
    yield "a large map, and its last key twice", head(5, len(entries) + 1) + b"".join((*entries, entries[-1]))
    yield "pieces without end", b"\x5f" + b"\x40" * (size - 2) + b"\xff"
    yield "a large number", b"\xc2" + head(2, size - 10) + b"\xff" * (size - 10)
    yield "a decimal fraction", b"\xc4\x82\x1b" + b"\x7f" * 8 + b"\x01"
    yield "a large payload", b"\xd2\x84\x40\xa0" + head(2, size) + bytes(size) + b"\x58\x40" + bytes(64)


def _der(size: int) -> Iterator[tuple[str, bytes]]:
    yield "a large integer", der(2, b"\x7f" * size)
    yield "a large integer within", der(0x30, der(2, b"\x7f" * size))
    yield "an identifier with a large arc", der(6, b"\xff" * size + b"\x7f")
    yield "an identifier with a large arc within", der(0x30, der(6, b"\xff" * size + b"\x7f"))
    yield "an identifier of many arcs", der(0x30, der(6, b"\x01" * size))
    for name, piece in (("nulls", b"\x05\0"), ("integers", b"\x02\x01\x01"), ("sequences", b"\x30\0")):
        yield f"many {name}", der(0x30, piece * (size // len(piece)))
    body = b"\xa0\x03\x02\x01\x02" + der(2, b"\x01" + b"\xff" * (size // 2)) + _ALGORITHM
    yield "a serial number that is large", der(0x30, der(0x30, body) + _ALGORITHM + _SIGNATURE)
    prime = (1 << 61) - 1  # numbers that are equal modulo this have one hash
    entries = b"".join(
        der(0x30, der(2, (prime * ((1 << 50) + index)).to_bytes(15, "big")) + _WINDOW[:15])
        for index in range(min(size, 1_020_000) // 34)
    )
    listed = b"\x02\x01\x01" + _ALGORITHM + _NAME + _WINDOW + der(0x30, entries) + _NUMBERS
    yield "serial numbers of one hash", der(0x30, der(0x30, listed) + _ALGORITHM + _SIGNATURE)


def _text(size: int) -> Iterator[tuple[str, bytes]]:
    yield "a large certificate", BEGIN + base64.encodebytes(b"\x30" * (size * 3 // 4)) + END
    yield "a certificate in one line", BEGIN + base64.b64encode(b"\x30" * (size * 3 // 4)) + b"\n" + END
    yield "a certificate of blank lines", BEGIN + b"\n" * size + END
    yield "a certificate and blank lines", BEGIN + b"AAAA\n" + END + b"\n" * size
    yield "a certificate and other blank lines", BEGIN + b"AAAA\n" + END + b"\r\n" * (size // 2)
    yield "many certificates", (BEGIN + b"AAAA\n" + END) * (size // 60)
    yield "a large token", b"eyJhbGciOiJFUzI1NiJ9." + b"A" * size + b"." + b"A" * 86
    yield "a key of very many parts", b"a" + b".a" * (min(size, 1_000_000) // 2 - 4) + b" = 1"
    yield "keys of many parts", (b".".join([b"a"] * 19) + b"=1\n") * (min(size, 1_000_000) // 40)
    yield "many tables", b"".join(b"[a%d]\n" % index for index in range(min(size, 1_000_000) // 10))
    yield "one table very often", b"[[a]]\n" * (min(size, 1_000_000) // 6)
