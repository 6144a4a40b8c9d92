"""Armor: the same bytes are read in one way, whatever they arrive in."""

from __future__ import annotations

import base64
import binascii
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError
from kluis.formats.encoding import armor
from kluis.formats.encoding.armor import Armor, hex_of_groups, open_armor
from tests.pace import within
from tests.strategies import PROPERTY

DATA = bytes(range(256)) * 3


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (DATA, ()),
        (DATA.hex().encode(), (Armor.HEX,)),
        (b"0x" + DATA.hex().upper().encode() + b"\n", (Armor.HEX,)),
        (b"\n".join(DATA.hex().encode()[at : at + 60] for at in range(0, 1536, 60)), (Armor.HEX,)),
        (base64.b64encode(DATA), (Armor.BASE64,)),
        (base64.encodebytes(DATA).replace(b"\n", b"\r\n"), (Armor.BASE64,)),
        (base64.urlsafe_b64encode(DATA).rstrip(b"="), (Armor.BASE64URL,)),
        (json.dumps(base64.b64encode(DATA).decode()).encode(), (Armor.JSON, Armor.BASE64)),
        (b'"' + base64.b64encode(DATA).replace(b"/", b"\\/") + b'"', (Armor.JSON, Armor.BASE64)),
        (b'"' + DATA.hex().encode() + b'\\n"', (Armor.JSON, Armor.HEX)),
        (
            b"-----BEGIN SGX QUOTE-----\n" + base64.encodebytes(DATA) + b"-----END SGX QUOTE-----\n",
            (Armor.PEM,),
        ),
    ],
)
def test_kinds(text: bytes, kinds: tuple[Armor, ...]) -> None:
    """Each encoding gives the same bytes, and is reported."""
    assert open_armor(text) == (DATA, kinds)


def grouped(size: int, between: bytes, *, line: int = 16, indent: bytes = b"", end: bytes = b"") -> bytes:
    """DATA in lines of groups of hex."""
    lines = (DATA[at : at + line] for at in range(0, len(DATA), line))
    groups = ([each[at : at + size].hex().encode() for at in range(0, len(each), size)] for each in lines)
    return b"".join(indent + between.join(each) + end + b"\n" for each in groups)


@pytest.mark.parametrize(
    "text",
    [
        DATA.hex(":").encode(),
        DATA.hex(":").upper().encode() + b"\n",
        grouped(1, b":", line=15, indent=b" " * 20, end=b":").removesuffix(b":\n"),  # openssl x509 -text
        grouped(1, b" ", indent=b" "),  # od -An -tx1
        grouped(1, b" ", end=b" ").replace(b"\n", b"\r\n"),
        grouped(2, b" "),
        grouped(4, b" ", line=15),
        grouped(32, b" ", line=64),
        b'"' + DATA.hex(":").encode() + b'"',
    ],
)
def test_hex_in_groups(text: bytes) -> None:
    """Hex is read with colons or single spaces between bytes or groups, as other tools print it."""
    opened = open_armor(text)
    assert (opened.data, opened.armor[-1]) == (DATA, Armor.HEX)


@pytest.mark.parametrize(
    "text",
    [
        b"ab:cd ef",
        b"ab::cd",
        b":ab:cd",
        b"ab  cd",
        b"abc:def",
        b"ab cdef",
        b"abcd ab abcd",
        b"ab cd e",
        b"ab:cd:0",
        b"00000000: 0300 0200",
        b"0000   03 00 02 00",
        b"0x03 0x00",
        b"ab\tcd",
        b"deed: face b00c",
        b"a" * 66 + b" " + b"a" * 66,
        b": :",
    ],
)
def test_what_only_looks_like_groups(text: bytes) -> None:
    """Both marks, two of one, groups of several sizes, offsets and odd digits are no hex: text stays."""
    assert open_armor(text) == (text, ())


def test_large_texts_of_groups_cost_their_length() -> None:
    """A text of many groups, whole or broken at its very end, is read in one pass."""
    for text in (
        b"ab " * 1_000_000,
        b"ab:" * 1_000_000 + b"x",
        b"ab\n " * 500_000 + b"a",
        b"ab" + b"\n" * 10**6,
    ):
        with within(2):
            hex_of_groups(text)


def test_padding_of_base64url() -> None:
    """RFC 4648 pads base64url as base64, and lets it be left away: both are read."""
    for size in (766, 767, 768):
        padded = base64.urlsafe_b64encode(DATA[:size])
        for text in (padded, padded.rstrip(b"=")):
            assert open_armor(text) == (DATA[:size], (Armor.BASE64URL,))
    with pytest.raises(FormatError, match="is base64url that is broken"):
        open_armor(base64.urlsafe_b64encode(DATA[:767]) + b"=")


def test_a_mark_before_text() -> None:
    """The byte order mark before UTF-8 is not part of the text; before other bytes it is kept."""
    mark = b"\xef\xbb\xbf"
    assert open_armor(mark + DATA.hex().encode() + b"\r\n") == (DATA, (Armor.HEX,))
    assert open_armor(mark + b'{"a":1}') == (b'{"a":1}', ())
    assert open_armor(mark + DATA) == (mark + DATA, ())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"a":"00"}',
        b"[1,2]",
        b"a sentence.",
        b"eyJhbGciOiJFUzM4NCJ9.e30.AAAA",
        b"a+b-c",
        b"-----BEGIN A-----\nAA==\n-----END A-----\n-----BEGIN A-----\nAA==\n-----END A-----",
        b"===",
    ],
)
def test_text_stays(text: bytes) -> None:
    """Documents, texts of no kind, and chains of PEM come as they are, without the space around them."""
    assert open_armor(b" " + text + b"\n") == (text, ())


@pytest.mark.parametrize(
    "text",
    [
        b"abc",
        b"abcde",
        b"=a=",
        b"AAAAA",
        b"AB==",
        b"AA=",
        b"_B",
        b'"AA\\u0041"',
        b'"AA"AA"',
        b"-----BEGIN A-----\nAA==\n-----END B-----",
        b"-----BEGIN A-----\nAB==\n-----END A-----",
        b"-----BEGIN A-----",
    ],
)
def test_broken(text: bytes) -> None:
    """Odd hex, base64 with unused bits or a letter too few, PEM that does not end: refused, never guessed."""
    with pytest.raises(FormatError) as caught:
        open_armor(text)
    assert caught.value.code == "bad_encoding"


def test_hex_before_base64() -> None:
    """Text that is both is hex."""
    assert open_armor(b"deadbeef") == (bytes.fromhex("deadbeef"), (Armor.HEX,))


def test_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is read than the bound."""
    monkeypatch.setattr(armor, "MAX_SIZE", 4)
    with pytest.raises(FormatError) as caught:
        open_armor(bytes(5))
    assert caught.value.code == "too_large"


@PROPERTY
@given(st.binary(max_size=48))
def test_there_and_back(data: bytes) -> None:
    """Binary data survive each armor."""
    marked = b"\0" + data
    for text in (
        marked,
        marked.hex().encode(),
        marked.hex(":").encode(),
        marked.hex(" ", -2).encode(),
        binascii.b2a_base64(b"\xfb\xff" + marked),
    ):
        assert open_armor(text).data.endswith(marked)


@PROPERTY
@given(st.text(st.sampled_from('ABab01+/-_=" :\n\\{'), max_size=24))
def test_only_our_errors(text: str) -> None:
    """Only our errors escape."""
    try:
        open_armor(text.encode())
    except FormatError:
        return
