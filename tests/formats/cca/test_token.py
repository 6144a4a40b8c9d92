"""CCA tokens: two parts under tag 399 or 907, and nothing else; what parses is written back."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.cca import token as cca_token
from kluis.formats.cca.token import MAX_SIZE, Token
from tests.strategies import PROPERTY, mutations

PARTS: dict[Any, Any] = {44234: b"platform", 44241: b"realm"}


def tagged(parts: Any, tag: int = 399) -> bytes:
    """Parts under a tag."""
    return cbor2.dumps(cbor2.CBORTag(tag, parts))


def test_reads() -> None:
    """Both parts are given as they are, in either order."""
    for first in (True, False):
        data = tagged(PARTS if first else dict(reversed(PARTS.items())))
        read = Token.parse(data)
        assert (read.platform, read.realm, read.platform_first) == (b"platform", b"realm", first)
        assert (read.encode(), read.tag) == (data, 399)
        assert cca_token.matches(data)


def test_collection() -> None:
    """As a collection of messages, each has the type of an EAT in CBOR."""
    for first in (True, False):
        parts = {key: [263, part] for key, part in PARTS.items()}
        data = tagged(parts if first else dict(reversed(parts.items())), 907)
        read = Token.parse(data)
        assert (read.platform, read.realm, read.platform_first) == (b"platform", b"realm", first)
        assert (read.encode(), read.tag) == (data, 907)
        assert cca_token.matches(data)


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (cbor2.dumps(PARTS), "CCA token: want tag 399 or 907, got none", "bad_type"),
        (tagged(PARTS, 398), "CCA token at 0x0: tag 398 is not used here", "bad_type"),
        (tagged([]), "CCA token: want a map, got a list", "bad_type"),
        (tagged({44234: b"p"}), "CCA token: realm is missing", "bad_type"),
        (tagged({44241: b"r"}), "CCA token: platform is missing", "bad_type"),
        (tagged({**PARTS, 1: b""}), "CCA token: key 1 is not known here", "bad_type"),
        (tagged({**PARTS, 44241: "r"}), "CCA token.realm: want bytes, got text", "bad_type"),
        (tagged({**PARTS, 44234: b""}), "CCA token.platform: is 0 bytes, want 1 to 32767", "bad_length"),
        (tagged(PARTS) + b"\0", "CCA token at 0x19: 1 bytes after the end", "trailing_data"),
        (tagged(PARTS)[:-1], "CCA token at 0x14: needs 5 bytes, 4 left", "truncated"),
        (tagged(PARTS, 907), "CCA token.platform: want a list, got bytes", "bad_type"),
        (
            tagged({44234: [263, b"p"], 44241: b"r"}, 907),
            "CCA token.realm: want a list, got bytes",
            "bad_type",
        ),
        (tagged({**PARTS, 44234: [263, b"p"]}), "CCA token.platform: want bytes, got a list", "bad_type"),
        *[
            (
                tagged({44234: [263, b"p"], 44241: part}, 907),
                "CCA token.realm: want content format 263, and bytes",
                "bad_type",
            )
            for part in ([264, b"r"], ["application/eat+cwt", b"r"], [263, "r"], [263, b""], [True, b"r"])
        ],
        (
            tagged({44234: [263, b"p", 2], 44241: [263, b"r"]}, 907),
            "CCA token.platform: has 3 items, want 2 to 2",
            "bad_length",
        ),
        (bytes(MAX_SIZE + 1), "CCA token: is 32769 bytes, must be at most 32768", "too_large"),
    ],
)
def test_refused(data: bytes, message: str, code: str) -> None:
    """Another tag, a part too few or too many, and bytes after the end are refused."""
    with pytest.raises(FormatError) as caught:
        Token.parse(data)
    assert (str(caught.value), caught.value.code) == (message, code)


@given(
    mutations(
        tagged(PARTS),
        tagged(dict(reversed(PARTS.items()))),
        tagged({key: [263, part] for key, part in PARTS.items()}, 907),
    )
)
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = Token.parse(data)
    except FormatError:
        return
    assert read.encode() == data


def part(protected: Any, unprotected: Any, size: int) -> bytes:
    """A part whose signature is no one's."""
    return cbor2.dumps([cbor2.dumps(protected), unprotected, b"payload", bytes(size)])


@pytest.mark.parametrize(("algorithm", "size"), [(-7, 64), (-35, 96)])
def test_parts(algorithm: int, size: int) -> None:
    """A part names ES256 or ES384, and its signature has that size."""
    data = part({1: algorithm}, {}, size)
    for raw in (data, b"\xd2" + data):
        assert cca_token.message(raw, "part").encode() == raw


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (part({1: -7}, {}, 96), FormatError, "part.signature: is 96 bytes, want 64"),
        (part({1: -35}, {}, 64), FormatError, "part.signature: is 64 bytes, want 96"),
        (part({1: -36}, {}, 132), UnsupportedError, "part.protected: want algorithm -7 or -35, got -36"),
        (part({}, {}, 96), UnsupportedError, "part.protected: want algorithm -7 or -35, got null"),
        (part({1: -35, 4: b"k"}, {}, 96), FormatError, "part: want an algorithm, and no other header"),
        (part({1: -35}, {4: b"k"}, 96), FormatError, "part: want an algorithm, and no other header"),
    ],
)
def test_parts_refused(data: bytes, error: type[FormatError], message: str) -> None:
    """Another algorithm, another header, another size: refused."""
    with pytest.raises(FormatError) as caught:
        cca_token.message(data, "part")
    assert (type(caught.value), str(caught.value)) == (error, message)
