"""Lists of revoked certificates: the pattern for the usual entry reads what the reader of any entry reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given

from kluis.authority import issuing
from kluis.errors import FormatError
from kluis.formats import x509
from kluis.formats.encoding import der
from kluis.formats.x509 import crl
from tests.pace import within
from tests.strategies import PROPERTY, mutations

NOW = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = issuing.issue("a CA", KEY.public_key(), None, KEY, NOW, path_length=0)


def _made(*serials: int, when: datetime = NOW) -> x509.Crl:
    revoked = [(serial, when) for serial in serials]
    return x509.parse_crl(issuing.crl(ISSUER, KEY, NOW, life=timedelta(days=30), revoked=revoked), "it")


USUAL = ((1 << 159) - 1, (1 << 158) | 5, 1 << 151, (1 << 127) + 3, (1 << 128) - 1)


def test_usual_serials() -> None:
    """Serial numbers of 16 to 20 bytes, with and without a sign byte, are read as they are."""
    assert _made(*USUAL).revoked == USUAL


@pytest.mark.parametrize("serial", [1, 255, 1 << 62, (1 << 120) - 1])
def test_short_serials(serial: int) -> None:
    """A short serial number among the usual ones is read, too."""
    assert _made(*USUAL, serial).revoked == (*USUAL, serial)


@pytest.mark.parametrize("day", [(2024, 2, 29), (2025, 12, 31), (2049, 1, 1), (2050, 6, 30)])
def test_days(day: tuple[int, int, int]) -> None:
    """Any day that there is, in either form of time."""
    assert _made(*USUAL, when=datetime(*day, tzinfo=UTC)).revoked == USUAL


def _entry(serial: int = 1 << 158, when: bytes = b"\x17\x0d260131120000Z", rest: bytes = b"") -> bytes:
    return der.element(der.SEQUENCE, der.integer(serial), when, rest)


REASON = bytes.fromhex("300c300a0603551d1504030a0101")


def _entries(entries: bytes) -> x509.Crl:
    """A list of these entries, whose signature is of another."""
    data = issuing.crl(ISSUER, KEY, NOW, life=timedelta(days=30), revoked=[(1 << 158, NOW)])
    outer = der.parse(data, "list").content
    start, end = der.within(outer, 0, len(outer), der.SEQUENCE, "list")
    old = der.element(der.SEQUENCE, x509.parse_crl(data, "list").entries)
    body = outer[start:end].replace(old, der.element(der.SEQUENCE, entries))
    return x509.parse_crl(der.element(der.SEQUENCE, der.element(der.SEQUENCE, body), outer[end:]), "it")


ENTRIES = b"".join((_entry(rest=REASON), _entry(1 << 159), _entry((1 << 159) - 7, rest=REASON)))


@pytest.mark.parametrize(
    "entry",
    [
        _entry(when=b"\x17\x0d260231120000Z"),
        _entry(when=b"\x17\x0d261301120000Z"),
        _entry(when=b"\x17\x0d260131250000Z"),
        _entry(rest=REASON + b"\0"),
        b"\x30\x80" + _entry()[2:],
        b"\0",
    ],
    ids=["day", "month", "hour", "more", "length", "between"],
)
def test_refuses(entry: bytes) -> None:
    """An entry with no such day, a wrong length, or bytes between two, is refused."""
    for data in (entry + ENTRIES, ENTRIES + entry, ENTRIES + entry + ENTRIES):
        with pytest.raises(FormatError):
            _entries(data)


def test_serials_of_160_bits() -> None:
    """A serial number of 160 bits, whose first byte is a sign, is not cut."""
    read = _entries(ENTRIES)
    assert read.entries == ENTRIES
    assert read.revoked == (1 << 158, 1 << 159, (1 << 159) - 7)
    assert all(read.lists(serial) for serial in read.revoked)


@PROPERTY
@given(mutations(ENTRIES))
def test_usual_entries_are_entries(data: bytes) -> None:
    """Whatever the pattern of usual entries takes, the reader of any entry takes, too."""
    try:
        crl._serials(data, 0, len(data), "it")
    except FormatError:
        assert not crl._USUAL.fullmatch(data)


@pytest.mark.parametrize("serial", [0, 1, 127, 128, 255, 256, 1 << 62, (1 << 127) - 1])
def test_lists(serial: int) -> None:
    """A serial number is listed where an entry holds it, and not where its bytes are part of another's."""
    longer = 1 << 158 | serial << 8
    made = _entries(_entry(longer))
    assert made.lists(longer)
    assert not made.lists(serial)
    assert _entries(_entry(longer) + _entry(serial)).lists(serial)


def test_other_extensions_of_an_entry() -> None:
    """An entry with another extension than a reason is read."""
    entry = (
        pyca.RevokedCertificateBuilder()
        .serial_number(1 << 158)
        .revocation_date(NOW)
        .add_extension(pyca.InvalidityDate(NOW.replace(tzinfo=None)), critical=False)
        .build()
    )
    builder = (
        pyca.CertificateRevocationListBuilder()
        .issuer_name(ISSUER.subject)
        .last_update(NOW)
        .next_update(NOW + timedelta(days=1))
        .add_extension(pyca.CRLNumber(1), critical=False)
        .add_extension(pyca.AuthorityKeyIdentifier.from_issuer_public_key(KEY.public_key()), critical=False)
        .add_revoked_certificate(entry)
    )
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    data = builder.sign(KEY, SHA256()).public_bytes(Encoding.DER)
    assert x509.parse_crl(data, "it").revoked == (1 << 158,)


def test_serials_of_one_hash() -> None:
    """Serial numbers chosen to have one hash cost no more than any others: nobody has signed the list yet."""
    entries = b"".join(_entry(((1 << 61) - 1) * ((1 << 50) + index)) for index in range(28_000))
    with within(1):
        read = _entries(entries)
        assert read.lists(((1 << 61) - 1) * (1 << 50))
        assert not read.lists((1 << 61) - 1)
