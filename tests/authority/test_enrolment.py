"""A platform's request to be certified: whatever was changed in it is refused, by an error of ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from kluis.authority import enrolment
from kluis.authority.enrolment import Enrolment
from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
PCK = ec.generate_private_key(ec.SECP256R1())
ROOT = bytes(range(32))
ASKS = Enrolment(
    ppid=bytes(range(16)),
    key=enrolment.point(PCK.public_key()),
    cpusvn=bytes([1] * 16),
    pcesvn=7,
    level="process",
    root=ROOT,
    made="2026-06-01T12:00:00Z",
)
GOOD = ASKS.sign(PCK)


def opened(data: bytes) -> Enrolment:
    return Enrolment.open(data, root=ROOT, level="process", now=NOW)


def test_what_was_signed_is_read() -> None:
    """A request is read as it was made, key and all."""
    assert opened(GOOD) == ASKS
    assert ASKS.public_key().public_numbers() == PCK.public_key().public_numbers()
    assert len(enrolment.name_of(ASKS.key)) == 32


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_one_byte_changed(at: int, flip: int) -> None:
    """One byte changed anywhere is refused, and only by our errors."""
    changed = GOOD[:at] + bytes((GOOD[at] ^ flip,)) + GOOD[at + 1 :]
    with pytest.raises(KluisError):
        opened(changed)


@given(st.binary(max_size=64), st.integers(0, len(GOOD)))
def test_bytes_put_in(more: bytes, at: int) -> None:
    """Bytes put in anywhere are refused, too; a request cut short likewise."""
    if more:
        with pytest.raises(KluisError):
            opened(GOOD[:at] + more + GOOD[at:])
    if at < len(GOOD):
        with pytest.raises(KluisError):
            opened(GOOD[:at])


def test_the_last_moment() -> None:
    """Ten minutes are allowed either way, and a second more is not."""
    for minutes in (-10, 10):
        at = NOW + timedelta(minutes=minutes)
        assert Enrolment.open(GOOD, root=ROOT, level="process", now=at) == ASKS
        with pytest.raises(FreshnessError):
            Enrolment.open(GOOD, root=ROOT, level="process", now=at + timedelta(seconds=minutes / 10))


def test_more_than_a_request() -> None:
    """A document that is too large, or has unknown members, is refused."""
    with pytest.raises(FormatError) as caught:
        opened(b"{" + b" " * enrolment.MAX_SIZE)
    assert caught.value.code == "too_large"
    with pytest.raises(FormatError):
        opened(GOOD.replace(b'{"cpusvn"', b'{"and":1,"cpusvn"'))


def test_signed_for_something_else() -> None:
    """A signature of the same key over the same document, for another purpose, is worth nothing here."""
    from kluis.authority import issuing
    from kluis.formats.encoding import jcs

    said = jcs.loads(GOOD, "request")
    assert isinstance(said, dict)
    said.pop("signature")
    other = issuing.sign(PCK, jcs.dumps(said))
    with pytest.raises(AuthenticityError) as caught:
        opened(jcs.dumps({**said, "signature": other.hex()}))
    assert caught.value.code == "enrolment_signature"
