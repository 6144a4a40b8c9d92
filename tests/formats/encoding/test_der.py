"""DER: the few types, strictly."""

from __future__ import annotations

import pytest
from cryptography import x509

from kluis.errors import FormatError
from kluis.formats.encoding import der


@pytest.mark.parametrize("dotted", ["1.2.840.113741.1.13.1.2.18", "2.5.29.15", "0.9.2342.19200300.100.1.1"])
def test_oid_is_what_the_library_writes(dotted: str) -> None:
    """Identifiers are encoded as cryptography encodes them."""
    name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(dotted), "x")])
    assert der.oid(dotted) in name.public_bytes()


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255, 256, 65535])
def test_integers(value: int) -> None:
    """Integers are minimal, and read back."""
    data = der.integer(value)
    assert der.parse(data, "it").integer(65535, "it") == value


def test_long_contents() -> None:
    """Lengths of one, two and three bytes read back."""
    for size in (0, 127, 128, 255, 256, 70000):
        data = der.element(der.OCTET_STRING, bytes(size))
        assert der.parse(data, "it").octets(size, "it") == bytes(size)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("04", "it at 0x0: element is cut short"),
        ("0402aa", "it at 0x0: needs 2 bytes, 1 left"),
        ("040100ff", "it at 0x3: 1 bytes after the end"),
        ("1f0100", "it at 0x0: long tags are not used here"),
        ("048100", "it at 0x0: length is not minimal"),
        ("04817f" + "00" * 127, "it at 0x0: length is not minimal"),
        ("04820080" + "00" * 128, "it at 0x0: length is not minimal"),
        ("0480", "it at 0x0: length is not minimal"),
        ("0485ffffffffff", "it at 0x0: length is not minimal"),
        ("0484ffffff", "it at 0x0: length is not minimal"),
        ("0484ffffffff", "it at 0x0: needs 4294967295 bytes, 0 left"),
    ],
)
def test_refuses_elements(data: str, message: str) -> None:
    """Lengths that lie or have another form are refused."""
    with pytest.raises(FormatError) as caught:
        der.parse(bytes.fromhex(data), "it")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("0400", "it: want tag 0x02, got 0x04"),
        ("0200", "it: integer is not minimal"),
        ("020200ff", None),
        ("0202007f", "it: integer is not minimal"),
        ("020180", "it: want 0..255, got 80"),
        ("02020100", "it: want 0..255, got 0100"),
    ],
)
def test_refuses_integers(data: str, message: str | None) -> None:
    """Negative, large and padded integers are refused; 255 takes two bytes and is not."""
    element = der.parse(bytes.fromhex(data), "it")
    if message is None:
        assert element.integer(255, "it") == 255
        return
    with pytest.raises(FormatError) as caught:
        element.integer(255, "it")
    assert str(caught.value) == message


def test_refuses_booleans_and_octets() -> None:
    """A boolean is 00 or ff, an octet string has its size."""
    assert der.parse(der.boolean(True), "it").boolean("it") is True
    assert der.parse(der.boolean(False), "it").boolean("it") is False
    with pytest.raises(FormatError, match=r"^it: boolean must be 00 or ff, found 01$"):
        der.parse(b"\x01\x01\x01", "it").boolean("it")
    with pytest.raises(FormatError, match=r"^it: want 2 bytes, got 1$"):
        der.parse(b"\x04\x01\x01", "it").octets(2, "it")


def test_pairs() -> None:
    """A list of identifiers and values is bounded, and each entry is exactly two elements."""
    pair = der.element(der.SEQUENCE, der.oid("1.2.3"), der.integer(5))
    (found,) = der.parse(der.element(der.SEQUENCE, pair), "it").pairs("it")
    assert (found[0], found[1].integer(9, "it")) == (der.oid("1.2.3"), 5)
    with pytest.raises(FormatError, match=r"^it: more than 64 entries$"):
        der.parse(der.element(der.SEQUENCE, *[pair] * 65), "it").pairs("it")
    for bad, problem in (
        (
            der.element(der.SEQUENCE, der.oid("1.2.3"), der.integer(5), der.integer(5)),
            "it at 0x0: want a sequence of an identifier and one value",
        ),
        (
            der.element(der.SEQUENCE, der.integer(5), der.integer(5)),
            "it at 0x2: want tag 0x06, got 0x02",
        ),
        (
            der.element(der.OCTET_STRING, der.oid("1.2.3"), der.integer(5)),
            "it at 0x0: want tag 0x30, got 0x04",
        ),
    ):
        with pytest.raises(FormatError) as caught:
            der.parse(der.element(der.SEQUENCE, bad), "it").pairs("it")
        assert str(caught.value) == problem
