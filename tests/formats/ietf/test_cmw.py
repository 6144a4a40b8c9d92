"""Wrappers of several parts: one form only, bounded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError, UsageError
from kluis.formats.ietf import cmw
from kluis.formats.ietf.cmw import OCTETS, Collection, Indicator, Nested, Part
from tests.strategies import PROPERTY, mutations

GOOD = Collection(
    {
        "report": Part(OCTETS, bytes(range(7)), Indicator.EVIDENCE),
        "cert_chain": Part("application/pem-certificate-chain", b"-----BEGIN"),
        "empty": Part("application/eat+cwt; eat_profile=tag:a.b", b""),
    },
    "tag:kluis.example,2026:gpu",
)
TEXT = GOOD.encode()


def test_document() -> None:
    """A collection is compact JSON, and reads back in its order."""
    assert TEXT.startswith(
        b'{"__cmwc_t":"tag:kluis.example,2026:gpu","report":["application/octet-stream","AA'
    )
    assert json.loads(TEXT)["report"][2] == 4
    assert Collection.parse(TEXT) == GOOD
    assert list(Collection.parse(TEXT).parts) == ["report", "cert_chain", "empty"]


def test_record() -> None:
    """A record is accepted outside a collection."""
    part = GOOD.parts["report"]
    assert Part.parse(part.encode()) == part
    assert part.encode() == b'["application/octet-stream","AAECAwQFBg",4]'


def test_matches() -> None:
    """Both are recognised by their beginnings, and other JSON is not."""
    assert cmw.matches(TEXT)
    assert cmw.matches(b'{"a":["b/c","')
    assert cmw.matches_record(GOOD.parts["empty"].encode())
    for other in (b"", b'{"quote":"aa"}', b'{"a":[1]}', b"[1]", b'["a"]', b'[{"imr":0}]'):
        assert not cmw.matches(other)
        assert not cmw.matches_record(other)


def test_values() -> None:
    """The caller names a collection's labels: a missing or unknown one is refused."""
    assert GOOD.values(["report", "cert_chain"], ["empty"])["cert_chain"] == b"-----BEGIN"
    for required, optional in ((["report"], ["empty"]), (["report", "cert_chain", "empty", "more"], [])):
        with pytest.raises(FormatError) as caught:
            GOOD.values(required, optional)
        assert caught.value.code == "bad_type"


REFUSED = {
    "nothing": (b"", "bad_encoding"),
    "no label": (b"{}", "bad_encoding"),
    "no part": (b'{"__cmwc_t":"tag:a"}', "bad_encoding"),
    "type that is no name": (b'{"__cmwc_t":"a","a":["b/c","AA"]}', "bad_encoding"),
    "type behind a part": (b'{"a":["b/c","AA"],"__cmwc_t":"tag:a"}', "bad_encoding"),
    "type twice": (b'{"__cmwc_t":"tag:a","__cmwc_t":"tag:a","a":["b/c","AA"]}', "bad_encoding"),
    "label twice": (b'{"a":["b/c","AA"],"a":["b/c","AA"]}', "duplicate_key"),
    "label with a space": (b'{"a b":["b/c","AA"]}', "bad_encoding"),
    "escape": (b'{"\\u0061":["b/c","AA"]}', "bad_encoding"),
    "spaces": (b'{"a": ["b/c","AA"]}', "bad_encoding"),
    "type alone": (b'{"__cmwc_t":"tag:a",}', "bad_encoding"),
    "no media type": (b'{"a":["bc","AA"]}', "bad_encoding"),
    "padding": (b'{"a":["b/c","AA=="]}', "bad_encoding"),
    "unused bits": (b'{"a":["b/c","AB"]}', "bad_encoding"),
    "one letter": (b'{"a":["b/c","A"]}', "bad_encoding"),
    "indicator past its bits": (b'{"a":["b/c","AA",32]}', "bad_encoding"),
    "indicator nought": (b'{"a":["b/c","AA",0]}', "bad_encoding"),
    "cut": (TEXT[:-1], "bad_encoding"),
    "more": (TEXT + b"\n", "trailing_data"),
    "not ASCII": (b'{"\xc3\xa9":["b/c","AA"]}', "bad_encoding"),
    "comma at the end": (b'{"a":["b/c","AA"],}', "bad_encoding"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """Whatever would not be written as the same bytes is refused."""
    data, code = REFUSED[case]
    with pytest.raises(FormatError) as caught:
        Collection.parse(data)
    assert caught.value.code == code
    assert caught.value.message.startswith("CMW collection at ")


def test_tunnel() -> None:
    """A tunnel, which drafts before the RFC had, is not handled."""
    for read, data in (
        (Collection.parse, b'{"a":["#cmw-c2j-tunnel","AA"]}'),
        (Part.parse, b'["#cmw-c2j-tunnel","AA"]'),
    ):
        with pytest.raises(UnsupportedError):
            read(data)


def test_content_format() -> None:
    """A type may be the number of a content format."""
    data = b'{"a":[30001,"AA",4],"b":[0,""],"c":[65535,""]}'
    found = Collection.parse(data)
    assert [part.media_type for part in found.parts.values()] == [30001, 0, 65535]
    assert found.encode() == data
    assert Part.parse(b'[42,"AA"]') == Part(42, b"\0")
    for wrong in (b'{"a":[65536,"AA"]}', b'{"a":[042,"AA"]}', b'{"a":[-1,"AA"]}', b'{"a":[4.2,"AA"]}'):
        with pytest.raises(FormatError):
            Collection.parse(wrong)


def test_quoted_parameter() -> None:
    """A media type may have a parameter in quotation marks, as those of EATs have a profile."""
    kind = 'application/eat+cwt; eat_profile="tag:github.com,2025:veraison/ratsd/cmw"'
    data = Part(kind, b"x").encode()
    assert json.loads(data)[0] == kind
    assert Part.parse(data) == Part(kind, b"x")
    assert cmw.matches_record(data)


def test_nested() -> None:
    """A collection in a collection is its own compact JSON, and there are at most 4 within each other."""
    data = b'{"__cmwc_t":"tag:a","a":{"__cmwc_t":"1.2.3","b":["b/c","AA"]},"d":["b/c",""]}'
    found = Collection.parse(data)
    assert found.parts["a"] == Nested(cmw.NESTED, b'{"__cmwc_t":"1.2.3","b":["b/c","AA"]}')
    assert found.encode() == data
    assert cmw.matches(data)
    deep = b'{"a":' * 3 + b'{"b":["b/c","AA"]}' + b"}" * 3
    assert Collection.parse(deep).encode() == deep
    assert cmw.matches(deep)
    with pytest.raises(FormatError) as caught:
        Collection.parse(b'{"a":' + deep + b"}")
    assert caught.value.code == "too_deep"
    for wrong in (b'{"a":{}}', b'{"a":{"b":["b/c","AA"]}', b'{"a":{"b":["b/c","AA"]}}}'):
        with pytest.raises(FormatError):
            Collection.parse(wrong)


def test_bounds() -> None:
    """At most 16 MiB and 32 parts are read."""
    members = [f'"p{i}":["b/c","AA"]' for i in range(33)]
    assert len(Collection.parse(("{" + ",".join(members[:32]) + "}").encode()).parts) == 32
    for data in (("{" + ",".join(members) + "}").encode(), b"{" * (cmw.MAX_SIZE + 1)):
        with pytest.raises(FormatError) as caught:
            Collection.parse(data)
        assert caught.value.code == "too_large"


def test_record_refused() -> None:
    """A bare record allows no trailing bytes."""
    with pytest.raises(FormatError, match="1 bytes after the end"):
        Part.parse(b'["b/c","AA"]]')
    with pytest.raises(FormatError, match="want a part with a media type or a content format"):
        Part.parse(b'["b","AA"]')


def test_made_wrong() -> None:
    """What could not be read back cannot be made."""
    for make in (
        lambda: Part("nothing", b""),
        lambda: Part(65536, b""),
        lambda: Part(True, b""),
        lambda: Part(OCTETS, b"", Indicator(32)),
        lambda: Collection({}),
        lambda: Collection({"a b": Part(OCTETS, b"")}),
        lambda: Collection({"a": Part(OCTETS, b"")}, "no name"),
    ):
        with pytest.raises(UsageError):
            make()


@PROPERTY
@given(mutations(TEXT, b'{"a":["b/c","AA",16]}', b'{"a":{"b":[42,"AA"]},"c":["b/c;d=\\\\"e\\\\"","AA"]}'))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    try:
        parsed = Collection.parse(data)
    except KluisError:
        return
    assert parsed.encode() == data
