"""The strict reader, byte by byte: what DER and RFC 5280 leave no room for is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import FormatError, UnsupportedError, UsageError
from kluis.formats import x509
from kluis.formats.encoding import der
from kluis.formats.x509 import KeyKind, PublicKey, certificate
from kluis.formats.x509.instant import read_instant
from kluis.formats.x509.parts import format_oid, read_extensions, read_serial
from kluis.formats.x509.scheme import bits_of
from tests.evidence.forge import Forge

FORGE = Forge()
LEAF = FORGE.leaf().public_bytes(Encoding.DER)
CRL = FORGE.crl("root", 5)


def _instant(tag: int, text: bytes) -> datetime:
    return read_instant(bytes((tag, len(text))) + text, 0, 2 + len(text), "it")[0]


@pytest.mark.parametrize(
    ("tag", "text", "want"),
    [
        (0x17, b"491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (0x17, b"500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
        (0x18, b"99991231235959Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_times(tag: int, text: bytes, want: datetime) -> None:
    """Two digits of a year mean 1950 to 2049; four mean themselves."""
    assert _instant(tag, text) == want


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x17, b"491331235959Z"),
        (0x17, b"4912312359Z"),
        (0x17, b"491231235959+"),
        (0x17, b"49123123595 Z"),
        (0x18, b"20491231235959.5Z"),
        (0x0C, b"491231235959Z"),
        (0x17, b""),
    ],
)
def test_times_refused(tag: int, text: bytes) -> None:
    """No fractions, no zones, no time without seconds, no thirteenth month."""
    with pytest.raises(FormatError):
        _instant(tag, text)


@pytest.mark.parametrize(
    ("raw", "want"),
    [(b"\0", 0), (b"\x7f", 127), (b"\0\x80", 128), (b"\0" + b"\xff" * 20, (1 << 160) - 1)],
    ids=["zero", "seven bits", "eight bits", "160 bits"],
)
def test_serials(raw: bytes, want: int) -> None:
    """A serial number has 0 to 160 bits; AMD's leaves have 0."""
    assert read_serial(raw, 0, len(raw), "it") == want


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\0\x7f", b"\1" * 21, b"\0" * 22], ids=len)
def test_serials_refused(raw: bytes) -> None:
    """Negative, padded, or longer than RFC 5280 allows."""
    with pytest.raises(FormatError):
        read_serial(raw, 0, len(raw), "it")


def test_identifiers() -> None:
    """Object identifiers read as numbers with dots, in one way only."""
    for text in ("2.5.29.19", "1.2.840.113741.1.13.1", "0.9.2342", "2.999.3"):
        assert format_oid(der.oid(text)) == text
    for raw in (b"\6\0", b"\6\1\x80", b"\6\3\x2a\x80\1", b"\6\x41" + b"\1" * 65):
        with pytest.raises(FormatError):
            format_oid(raw)


@pytest.mark.parametrize("raw", [b"", b"\0", b"\1\xfe"], ids=["empty", "no bits", "unused bits"])
def test_bit_strings(raw: bytes) -> None:
    """Signatures and keys are whole bytes."""
    with pytest.raises(FormatError):
        bits_of(raw, 0, len(raw), "it")


def _extension(name: str, value: bytes, critical: bytes = b"") -> bytes:
    return der.element(der.SEQUENCE, der.oid(name), critical, der.element(der.OCTET_STRING, value))


def _extensions(*each: bytes) -> bytes:
    return der.element(0xA3, der.element(der.SEQUENCE, *each))


CRITICAL = b"\1\1\xff"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            _extensions(_extension("1.2.3", b""), _extension("1.2.3", b"")),
            "it: extension 1.2.3 appears twice",
        ),
        (_extensions(_extension("1.2.3", b"", CRITICAL)), "it: critical extension 1.2.3 is not known"),
        (_extensions(_extension("1.2.3", b"", b"\1\1\1")), "it at 0xa: boolean must be ff or absent"),
        (_extensions(_extension("1.2.3", b"")[:-1] + b""), None),
        (
            _extensions(*[_extension(f"1.2.{index}", b"") for index in range(65)]),
            "it: more than 64 extensions",
        ),
        (_extensions(_extension("1.2.3", b"")) + b"\0", "it at 0xc: bytes after the extensions"),
        (der.element(0xA3, der.element(der.SEQUENCE), b"\0"), "it at 0x4: bytes after the extensions"),
        (
            _extensions(der.element(der.SEQUENCE, der.oid("1.2.3"), der.element(4, b""), b"\5\0")),
            "it at 0xc: bytes after an extension",
        ),
    ],
    ids=range(8),
)
def test_extensions_refused(data: bytes, message: str | None) -> None:
    """One of each, nothing critical that nobody evaluates, nothing after."""
    with pytest.raises(FormatError) as caught:
        read_extensions(data, 0, len(data), 0xA3, "it")
    assert message is None or str(caught.value) == message


def test_no_extensions() -> None:
    """A certificate may have none."""
    assert read_extensions(b"", 0, 0, 0xA3, "it") == {}
    assert read_extensions(_extensions(_extension("2.5.29.19", b"x", CRITICAL)), 0, 17, 0xA3, "it") == {
        "2.5.29.19": b"x"
    }


@pytest.mark.parametrize(
    ("value", "want"),
    [("3000", (False, None)), ("30030101ff", (True, None)), ("30060101ff020100", (True, 0))],
)
def test_constraints(value: str, want: tuple[bool, int | None]) -> None:
    """CA is false by default."""
    assert certificate._constraints(bytes.fromhex(value), "it") == want


@pytest.mark.parametrize(
    "value", ["", "3000ff", "30060101ff0201ff", "30090101ff0201000101ff", "3003010101", "30060101ff020200"]
)
def test_constraints_refused(value: str) -> None:
    """Bytes after, a negative length, a boolean that is neither."""
    with pytest.raises(FormatError):
        certificate._constraints(bytes.fromhex(value), "it")


@pytest.mark.parametrize(
    ("value", "want"), [("03020780", 1), ("03020106", 1 << 5 | 1 << 6), ("0303078080", 1 | 1 << 8)]
)
def test_usage(value: str, want: int) -> None:
    """Bit 0 is the first byte's highest."""
    usage = certificate._usage(bytes.fromhex(value), "it")
    assert usage is not None
    assert usage.bits == want
    assert usage.digital_signature is bool(want & 1)


@pytest.mark.parametrize("value", ["030100", "0302078000", "03020881", "03020781", "030500000000", "0402"])
def test_usage_refused(value: str) -> None:
    """Unused bits are zero, and there are one or two bytes."""
    with pytest.raises(FormatError):
        certificate._usage(bytes.fromhex(value), "it")


@pytest.mark.parametrize("data", [LEAF, CRL], ids=["certificate", "CRL"])
def test_every_byte_counts(data: bytes) -> None:
    """What follows the end is refused, and so is every cut."""
    read = x509.parse if data is LEAF else x509.parse_crl
    with pytest.raises(FormatError, match="after the end"):
        read(data + b"\0", "it")
    for size in range(0, len(data), 7):
        with pytest.raises(FormatError):
            read(data[:size], "it")


def test_versions_and_algorithms() -> None:
    """Version 1 has no extensions to trust; two names for one algorithm are one too many."""
    with pytest.raises(UnsupportedError, match="certificate of version 3"):
        x509.parse(LEAF.replace(b"\xa0\3\2\1\2", b"\xa0\3\2\1\1", 1), "it")
    with pytest.raises(UnsupportedError, match="want a CRL of version 2"):
        x509.parse_crl(CRL.replace(b"\2\1\1\x30", b"\2\1\0\x30", 1), "it")
    inner = bytes.fromhex("300a06082a8648ce3d040302")
    with pytest.raises(FormatError, match="names two signature algorithms"):
        x509.parse(LEAF.replace(inner, inner[:-1] + b"\3", 1), "it")


def test_names() -> None:
    """A name is text, or it is refused."""
    subject = x509.parse(LEAF, "it").subject
    assert certificate._names(subject, "it")
    with pytest.raises(FormatError, match="subject's name is not text"):
        certificate._text(0x0C, b"\xff", "it")
    with pytest.raises(FormatError, match="subject's name is not text"):
        certificate._text(0x05, b"", "it")
    odd = der.element(der.SEQUENCE, der.oid("2.5.4.3"), der.element(0x0C, b"x"), b"\5\0")
    with pytest.raises(FormatError, match="bytes after a name's attribute"):
        certificate._names(der.element(der.SEQUENCE, der.element(der.SET, odd)), "it")


POINT = b"\4" + bytes(range(64))


def test_public_keys() -> None:
    """Keys made from their numbers are those that certificates carry; odd ones are refused."""
    made = PublicKey.of_point(KeyKind.P256, POINT)
    assert x509.parse_public_key(made.spki, "key") == made
    with pytest.raises(FormatError):
        PublicKey.of_point(KeyKind.P384, POINT)
    with pytest.raises(UsageError):
        PublicKey.of_point(KeyKind.RSA, POINT)
    for data in (
        bytes(5000),
        made.spki + b"\0",
        made.spki.replace(b"\4\0\1\2", b"\3\0\1\2"),
        der.element(der.SEQUENCE, made.spki[2:], b"\5\0"),
        b"-----BEGIN PUBLIC KEY-----\nAAA\n-----END PUBLIC KEY-----\n",
    ):
        with pytest.raises(FormatError):
            x509.parse_public_key(data, "key")
