"""Wrappers in CBOR: records, tags and collections, written back as the same bytes."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.encoding import cbor, der
from kluis.formats.encoding.cbor import Tagged
from kluis.formats.ietf import cmw_cbor
from kluis.formats.ietf.cmw import MAX_PARTS, Indicator, Part
from kluis.formats.ietf.cmw_cbor import Collection, Record, format_of, parse, tag_of
from tests.strategies import PROPERTY, mutations

# Of RFC 9999, "Examples": content format 30001, as a record and as a tag.
RECORD = bytes.fromhex("82197531442347da55")
TAG = bytes.fromhex("da637476a7442347da55")
COLLECTION = cbor.dumps(
    {
        "__cmwc_t": "tag:example.com,2024:another-composite-attester",
        "attester A": [30001, bytes.fromhex("2347da55"), 4],
        "attester B": Tagged(tag_of(30001), bytes.fromhex("2347da55")),
        7: ['application/eat+cwt; eat_profile="tag:a.b,2025:c/d"', b"x", 8],
        "more": {"inner": [42, b"y"]},
    }
)


def test_record() -> None:
    """The RFC's record and tag say the same, each in its form."""
    for data in (RECORD, TAG):
        found = parse(data)
        assert isinstance(found, Record)
        assert found.part == Part(30001, bytes.fromhex("2347da55"))
        assert found.encode() == data
    assert parse(cbor.dumps(["b/c", b"", 31])).encode() == cbor.dumps(["b/c", b"", 31])


def test_collection() -> None:
    """Parts have labels that are text or integers; a nested collection is its own CBOR."""
    found = parse(COLLECTION)
    assert isinstance(found, Collection)
    assert found.type == "tag:example.com,2024:another-composite-attester"
    assert list(found.parts) == ["attester A", "attester B", 7, "more"]
    assert found.parts["attester A"].indicator is Indicator.EVIDENCE
    assert found.parts["attester B"] == Part(30001, bytes.fromhex("2347da55"))
    inner = parse(found.parts["more"].value)
    assert isinstance(inner, Collection)
    assert inner.parts["inner"] == Part(42, b"y")
    assert found.encode() == COLLECTION


def test_tagged_collection() -> None:
    """A collection may have its tag, and is distinguished from a record with another."""
    tagged = cbor.dumps(Tagged(tag_of(273), {"a": [42, b"x"]}))
    found = parse(tagged)
    assert isinstance(found, Collection)
    assert (found.type, found.encode()) == (None, tagged)
    oid = parse(cbor.dumps({"__cmwc_t": b"\x2a\x03", "a": [42, b"x"]}))
    assert isinstance(oid, Collection)
    assert oid.type == b"\x2a\x03"


def test_tags() -> None:
    """Each content format has a tag, as RFC 9277 has it, and no tag has two."""
    assert [tag_of(number) for number in (0, 254, 255, 273, 65024)] == [
        1668546817,
        1668547071,
        1668547073,
        1668547091,
        1668612095,
    ]
    assert all(format_of(tag_of(number)) == number for number in range(65025))
    assert format_of(1668547072) is None


def test_matches() -> None:
    """Records and tags are recognised by their beginnings."""
    assert all(map(cmw_cbor.matches, (RECORD, TAG, cbor.dumps(["b/c", b""]))))
    assert not any(map(cmw_cbor.matches, (b"", b"\x82", b"\x82\x40\x40", b"\x84\x01", COLLECTION)))


REFUSED: dict[str, cbor.Writable] = {
    "no type": [b"x", b"y"],
    "type that is none": ["b", b"y"],
    "type past the formats": [65536, b"y"],
    "type true": [True, b"y"],
    "value that is text": [42, "y"],
    "indicator nought": [42, b"y", 0],
    "indicator past its bits": [42, b"y", 32],
    "indicator true": [42, b"y", "4"],
    "a fourth": [42, b"y", 4, 4],
    "nothing": {},
    "type of a collection alone": {"__cmwc_t": "tag:a"},
    "type of a collection that is none": {"__cmwc_t": 1, "a": [42, b"y"]},
    "empty type of a collection": {"__cmwc_t": "", "a": [42, b"y"]},
    "a part that is none": {"a": b"y"},
    "a tag that is nobody's": Tagged(1668547072, b"y"),
    "another tag around a map": Tagged(tag_of(42), {"a": [42, b"y"]}),
    "a tag around text": Tagged(tag_of(42), "y"),
    "too many parts": {index: [42, b"y"] for index in range(MAX_PARTS + 1)},
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """Whatever is no message is refused."""
    with pytest.raises(FormatError):
        parse(cbor.dumps(REFUSED[case]))


def test_signed() -> None:
    """A signed message is well formed, and not handled."""
    with pytest.raises(UnsupportedError):
        parse(cbor.dumps(Tagged(tag_of(274), [b"", {}, b"", b""])))


def test_depth() -> None:
    """Collections in collections end somewhere."""
    record = cbor.dumps([42, b"y"])
    assert parse(b"\xa1\x61\x61" * 7 + record).encode() == b"\xa1\x61\x61" * 7 + record
    with pytest.raises(FormatError) as caught:
        parse(b"\xa1\x61\x61" * 8 + record)
    assert caught.value.code == "too_deep"


def test_extension() -> None:
    """A certificate's extension holds a message as text or as bytes; what holds none is not looked at."""
    text, octets = b'["b/c","AA"]', der.element(der.OCTET_STRING, RECORD)
    assert cmw_cbor.of_extension(b"\x0c" + bytes([len(text)]) + text) == text
    assert cmw_cbor.of_extension(octets) == RECORD
    assert cmw_cbor.of_extension(der.element(der.OCTET_STRING, b"\xa1\x01\x02")) == b"\xa1\x01\x02"
    assert cmw_cbor.of_extension(TAG) == TAG
    for other in (b"", b"\x30\x00", der.element(der.OCTET_STRING, b"a quote"), b"\xd9\xea\x60"):
        assert cmw_cbor.of_extension(other) is None
    with pytest.raises(FormatError) as caught:
        cmw_cbor.of_extension(octets + b"\0")
    assert caught.value.code == "trailing_data"


@PROPERTY
@given(mutations(RECORD, TAG, COLLECTION))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    try:
        parsed = parse(data)
    except KluisError:
        return
    assert parsed.encode() == data
