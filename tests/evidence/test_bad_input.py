"""Bytes that mean harm, to every verifier: one of our errors, at once, and in little memory."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, FreshnessError, InternalError, KluisError, UsageError
from kluis.evidence import Claims
from tests.evidence.forge import Forge
from tests.evidence.samples import MAKERS, REGISTERED, Sample, sample
from tests.pace import within
from tests.strategies import PROPERTY, mutations

KINDS = sorted(MAKERS)
LARGEST = 32 << 20
MOST_SECONDS = 1.0
MOST_MEMORY = 24 << 20
CUTS = 60
END = b"-----END CERTIFICATE-----\n"

each = pytest.mark.parametrize("kind", KINDS)


def ends(call: Callable[[], Claims]) -> KluisError | None:
    """How a call ends: with an error of ours, or none; in less than a second of this processor."""
    with within(MOST_SECONDS):
        try:
            call()
        except InternalError:
            raise
        except KluisError as error:
            return error
    return None


def refused(call: Callable[[], Claims]) -> KluisError:
    error = ends(call)
    assert error is not None
    return error


def test_every_kind_is_here() -> None:
    """No kind of evidence is registered that these tests do not know."""
    assert sorted(MAKERS) == REGISTERED


@each
def test_good(kind: str) -> None:
    """What is damaged here was good."""
    assert sample(kind).verify().verified_at == sample(kind).now


@each
def test_what_was_verified_stays_as_it_is(kind: str) -> None:
    """A holder of claims cannot change them for later readers."""
    claims = sample(kind).verify()
    with pytest.raises(dataclasses.FrozenInstanceError):
        claims.debug = True  # type: ignore[misc]
    with pytest.raises(TypeError):
        claims.registers["rtmr0"] = claims.measurement  # type: ignore[index]


@each
def test_cut_short(kind: str) -> None:
    """Evidence cut at any length, none at all included, is refused."""
    good = sample(kind)
    for at in sorted({*range(0, len(good.data), max(len(good.data) // CUTS, 1)), 1, 2, 3, 4, 8}):
        refused(lambda at=at: good.verify(good.data[:at]))


FILLERS = (
    *(
        b"\0",
        b"\xff",
        b"A",
        b" ",
        b"[",
        b'{"a":',
        b'"',
        b'["a/b","',
        b"\x30\x84\x03\xff\xff\xff",
        b"\x30\x80",
    ),
    *(b"\x81", b"\x9f", b"\xa1\x00", b"\xd9\x01\x8f", b"\xc6", b"-----BEGIN CERTIFICATE-----\n"),
)


@pytest.mark.parametrize("filler", FILLERS, ids=repr)
def test_as_large_as_can_be(filler: bytes) -> None:
    """32 MiB of anything, bare or after a good beginning, is refused at once and not copied."""
    whole = filler * (LARGEST // len(filler))
    rest = whole[48:]
    for kind in KINDS:
        good = sample(kind)
        for data in (whole, good.data[:48] + rest):
            tracemalloc.start()
            try:
                refused(lambda data=data, good=good: good.verify(data))
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < MOST_MEMORY, (kind, peak)


@each
def test_itself_again_and_again(kind: str) -> None:
    """Good evidence, repeated to 32 MiB, is not good."""
    good = sample(kind)
    data = good.data * (LARGEST // len(good.data))
    refused(lambda: good.verify(data))


@each
@pytest.mark.parametrize("size", [100, 5_000, 60_000])
def test_nested(kind: str, size: int) -> None:
    """Nesting that fits the sizes allowed is refused too, and no stack is used up."""
    good = sample(kind)
    for filler in FILLERS:
        for kept in (0, len(good.data) // 2):
            data = good.data[:kept] + filler * (size // len(filler))
            refused(lambda data=data: good.verify(data))


def collections() -> list[str]:
    return [kind for kind in KINDS if sample(kind).data.startswith(b"{")]


@pytest.mark.parametrize("kind", collections())
def test_a_part_twice(kind: str) -> None:
    """A collection with a part twice is refused, whichever came first."""
    good = sample(kind)
    parts = json.loads(good.data)
    for name, part in parts.items():
        other = json.dumps({name: part}, separators=(",", ":")).encode()
        twice = good.data[:-1] + b"," + other[1:]
        assert refused(lambda twice=twice: good.verify(twice)).code in {"duplicate_key", "bad_encoding"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if sample(kind).data[:1] in (b"\x84", b"\xd9")])
def test_longer_than_needed(kind: str) -> None:
    """CBOR whose first head is written longer than it must be is refused."""
    good = sample(kind)
    head = {0x84: b"\x98\x04", 0xD9: b"\xda\0\0\x01\x8f"}[good.data[0]]
    rest = good.data[1:] if good.data[0] == 0x84 else good.data[3:]
    assert isinstance(refused(lambda: good.verify(head + rest)), FormatError)


def byte_fields(good: Sample) -> list[str]:
    if good.collateral is None:
        return []
    fields = dataclasses.fields(good.collateral)
    return [field.name for field in fields if isinstance(getattr(good.collateral, field.name), bytes)]


HOSTILE = (
    b"",
    b"\0",
    b"\x30",
    b"\x30\x80",
    b"\x30\x82\xff\xff",
    b"\x30\x84\xff\xff\xff\xff",
    b"\x30" * 5000,
    b"[" * 5000,
    b'{"version":3,"version":3}',
    b"\xff" * 5000,
    b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" * 4,
    b"-----BEGIN CERTIFICATE-----\n" * 5000,
    b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
)


@each
def test_endorsements_that_are_none(kind: str) -> None:
    """Every part of the collateral replaced by hostile bytes, cut, or 32 MiB long, is refused."""
    good = sample(kind)
    for name in byte_fields(good):
        part = getattr(good.collateral, name)
        for bad in (*HOSTILE, part[:-3], part[: len(part) // 2], part + b"\x01", bytes(LARGEST)):
            changed = dataclasses.replace(good.collateral, **{name: bad})
            error = ends(lambda changed=changed: good.verify(collateral=changed))
            assert error is not None or bad == b"", (name, bad[:40])


def longer(der: bytes) -> bytes:
    """The same DER element, its length written in a byte more than it needs."""
    assert der[:2] == b"\x30\x82"
    return b"\x30\x83\0" + der[2:]


@each
def test_lengths_longer_than_needed(kind: str) -> None:
    """Certificates and CRLs whose length is not minimal are refused, though readers of BER take them."""
    good = sample(kind)
    for name in byte_fields(good):
        part = getattr(good.collateral, name)
        if part[:2] == b"\x30\x82":
            changed = dataclasses.replace(good.collateral, **{name: longer(part)})
            assert isinstance(
                refused(lambda changed=changed: good.verify(collateral=changed)),
                FormatError,
            ), name


@each
def test_collateral_of_another(kind: str) -> None:
    """Endorsements of another vendor's evidence, or another platform's, do not endorse this."""
    good = sample(kind)
    others = [sample(other).collateral for other in KINDS if other != kind]
    others += [MAKERS[kind]().collateral]
    for other in others:
        if other is not None and good.collateral is not None:
            refused(lambda other=other: good.verify(collateral=other))


@each
def test_evidence_of_another(kind: str) -> None:
    """Evidence of every other kind, under these anchors and this collateral, is refused."""
    good = sample(kind)
    for other in KINDS:
        if other != kind:
            refused(lambda other=other: good.verify(sample(other).data))


TIMELESS = {"cca.token"}  # neither a token nor the platform's key has a time


@each
@pytest.mark.parametrize(
    "when",
    [
        datetime.min.replace(tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1),
    ],
    ids=["year 1", "epoch", "year 9999", "and a little before"],
)
def test_clocks(kind: str, when: datetime) -> None:
    """A clock before or after every window is reported; no extreme time breaks the arithmetic."""
    error = ends(lambda: sample(kind).verify(now=when))
    assert isinstance(error, FreshnessError) or (kind in TIMELESS and error is None)


@each
def test_a_clock_without_a_zone(kind: str) -> None:
    """A naive time could be any of two dozen; it is the caller's fault."""
    assert isinstance(refused(lambda: sample(kind).verify(now=datetime(2026, 6, 1))), UsageError)


@each
def test_chains_out_of_order(kind: str) -> None:
    """A chain reversed, doubled, or with a certificate fewer ends as ours do: never twice as believed."""
    good = sample(kind)
    for name in byte_fields(good):
        part = getattr(good.collateral, name)
        if part.count(b"-----BEGIN CERTIFICATE-----") > 1:
            pieces = [
                piece + b"-----END CERTIFICATE-----\n"
                for piece in part.split(b"-----END CERTIFICATE-----\n")[:-1]
            ]
            for chain in (pieces[::-1], pieces + pieces, pieces[:-1], pieces[1:], pieces + pieces[:1]):
                changed = dataclasses.replace(good.collateral, **{name: b"".join(chain)})
                error = ends(lambda changed=changed: good.verify(collateral=changed))
                assert error is not None or chain == pieces[::-1]


@pytest.mark.parametrize("count", [1, 70, 1000])
@pytest.mark.parametrize("critical", [False, True], ids=["", "critical"])
def test_surprising_extensions(count: int, critical: bool) -> None:
    """An extension that nobody knows is refused where it is critical, and many of them anywhere."""
    forge = Forge()
    oids = [x509.ObjectIdentifier(f"1.3.6.1.4.1.99999.{index}") for index in range(count)]
    builder = x509.CertificateBuilder(
        subject_name=forge.leaf().subject,
        issuer_name=forge.leaf().issuer,
        public_key=forge.leaf().public_key(),
        serial_number=7,
        not_valid_before=forge.leaf().not_valid_before_utc,
        not_valid_after=forge.leaf().not_valid_after_utc,
        extensions=[
            *forge.leaf().extensions,
            *(x509.Extension(oid, critical, x509.UnrecognizedExtension(oid, b"\x05\0")) for oid in oids),
        ],
    )
    leaf = builder.sign(forge.keys.platform_ca, hashes.SHA256())
    error = ends(lambda: forge.verify(forge.with_chain(leaf, forge.ca, forge.root)))
    assert (error is None) is (count == 1 and not critical), error
    assert error is None or isinstance(error, FormatError)


@each
def test_only_our_errors_escape(kind: str) -> None:
    """Evidence changed in a few places anywhere ends with an error of ours, or has exactly the same claims.

    Vendor-specific claims are ignored: a TPM's log is text until its registers prove it.
    """
    good = sample(kind)
    meant = good.verify()

    @PROPERTY
    @given(data=mutations(good.data, most=4))
    def changed(data: bytes) -> None:
        found: list[Claims] = []
        if ends(lambda: found.append(good.verify(data)) or meant) is None:
            assert dataclasses.replace(found[0], vendor=meant.vendor) == meant

    changed()


@each
def test_only_our_errors_escape_from_collateral(kind: str) -> None:
    """So does collateral, whichever part of it is changed."""
    good = sample(kind)
    meant = good.verify()
    names = byte_fields(good)
    if not names:
        return

    @PROPERTY
    @given(data=st.data())
    def changed(data: Any) -> None:
        name = data.draw(st.sampled_from(names))
        part = data.draw(mutations(getattr(good.collateral, name), most=4))
        found: list[Claims] = []
        given = dataclasses.replace(good.collateral, **{name: part})
        if ends(lambda: found.append(good.verify(collateral=given)) or meant) is None:
            assert dataclasses.replace(found[0], vendor=meant.vendor) == meant

    changed()
