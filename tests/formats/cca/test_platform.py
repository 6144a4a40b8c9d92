"""CCA platform claims: each typed and bounded, of a known profile."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.cca.platform import PROFILES, Component, Lifecycle, Platform
from tests.strategies import PROPERTY, mutations

INSTANCE = b"\x01" + bytes(32)
COMPONENT: dict[int, Any] = {1: "BL", 2: b"m" * 32, 4: "1.0", 5: b"s" * 32, 6: "sha-256"}
GOOD: dict[int, Any] = {
    265: PROFILES[1],
    10: b"n" * 32,
    2396: b"i" * 32,
    256: INSTANCE,
    2401: b"\xcf",
    2395: 0x3001,
    2399: [COMPONENT],
    2400: "https://example",
    2402: "sha-256",
}


def payload(change: dict[int, Any]) -> bytes:
    """Good claims, with some changed; those set to ``...`` are left out."""
    return cbor2.dumps({key: value for key, value in {**GOOD, **change}.items() if value is not ...})


def test_reads() -> None:
    """Each claim is given as it is."""
    read = Platform.parse(payload({}))
    assert (read.profile, read.challenge) == (PROFILES[1], b"n" * 32)
    assert (read.implementation_id, read.instance_id, read.config) == (b"i" * 32, INSTANCE, b"\xcf")
    assert (read.state, read.lifecycle) == (0x3001, Lifecycle.SECURED)
    whole = Component(
        kind="BL", measurement=b"m" * 32, version="1.0", signer=b"s" * 32, hash_algorithm="sha-256"
    )
    assert read.components == (whole,)
    assert (read.verification_service, read.hash_algorithm) == ("https://example", "sha-256")


def test_optional() -> None:
    """Service and digests' names may be absent; so may a component's kind, version and hash."""
    read = Platform.parse(payload({2400: ..., 2402: ..., 2399: [{2: b"m" * 48, 5: b"s" * 64}] * 64}))
    assert read.verification_service is read.hash_algorithm is None
    bare = Component(kind=None, measurement=b"m" * 48, version=None, signer=b"s" * 64, hash_algorithm=None)
    assert read.components == (bare,) * 64


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("lifecycle", Lifecycle)
def test_lifecycles(profile: str, lifecycle: Lifecycle) -> None:
    """Every state of the table is read, from its first to its last number, in both generations."""
    for low in (0, 0xFF):
        state = lifecycle.value << 8 | low
        assert Platform.parse(payload({265: profile, 2395: state})).lifecycle is lifecycle


P = "CCA platform token"
REFUSED: list[tuple[dict[int, Any], type[FormatError], str]] = [
    *[
        ({key: ...}, FormatError, f"{P}: {name} is missing")
        for key, name in {
            10: "challenge",
            256: "ueid",
            2395: "lifecycle",
            2396: "implementation_id",
            2399: "components",
            2401: "config",
        }.items()
    ],
    ({265: ...}, UnsupportedError, f"{P}.profile: want {' or '.join(PROFILES)}, got None"),
    (
        {265: "http://arm.com/CCA-SSD/1.1.0"},
        UnsupportedError,
        f"{P}.profile: want {' or '.join(PROFILES)}, got 'http://arm.com/CCA-SSD/1.1.0'",
    ),
    ({1: "issuer"}, FormatError, f"{P}: key 1 is not known here"),
    ({10: b"n" * 33}, FormatError, f"{P}.challenge: is 33 bytes, want 32 or 48 or 64"),
    ({256: b"\x02" + bytes(32)}, FormatError, f"{P}.ueid: want type 0x01, got 0x02"),
    ({256: bytes(17)}, FormatError, f"{P}.ueid: is 17 bytes, want 33"),
    ({2396: bytes(31)}, FormatError, f"{P}.implementation_id: is 31 bytes, want 32"),
    ({2401: b""}, FormatError, f"{P}.config: is 0 bytes, want 1 to 4096"),
    ({2395: 0x3100}, FormatError, f"{P}.lifecycle: 0x3100 is no state"),
    ({2395: 0x0100}, FormatError, f"{P}.lifecycle: 0x0100 is no state"),
    ({2395: 0x13000}, FormatError, f"{P}.lifecycle: want 0..65535, got 77824"),
    ({2395: "secured"}, FormatError, f"{P}.lifecycle: want an integer, got text"),
    ({2399: []}, FormatError, f"{P}.components: has 0 items, want 1 to 64"),
    ({2399: [COMPONENT] * 65}, FormatError, f"{P}.components: has 65 items, want 1 to 64"),
    ({2399: [b""]}, FormatError, f"{P}.components: want a map, got bytes"),
    ({2399: [{5: bytes(32)}]}, FormatError, f"{P}.components: measurement is missing"),
    ({2399: [{2: bytes(32)}]}, FormatError, f"{P}.components: signer is missing"),
    ({2399: [{**COMPONENT, 3: 1}]}, FormatError, f"{P}.components: key 3 is not known here"),
    (
        {2399: [{**COMPONENT, 2: bytes(20)}]},
        FormatError,
        f"{P}.components.measurement: is 20 bytes, want 32 or 48 or 64",
    ),
    ({2399: [{**COMPONENT, 4: 1}]}, FormatError, f"{P}.components.version: want text, got an integer"),
    ({2400: b"url"}, FormatError, f"{P}.verification_service: want text, got bytes"),
    ({2402: "s" * 513}, FormatError, f"{P}.hash_algorithm: is 513 long, want 1 to 512"),
]


@pytest.mark.parametrize(("change", "error", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_refused(change: dict[int, Any], error: type[FormatError], message: str) -> None:
    """A claim too few or too many, of another type or out of bounds is refused by name."""
    with pytest.raises(FormatError) as caught:
        Platform.parse(payload(change))
    assert (type(caught.value), str(caught.value)) == (error, message)


@given(mutations(payload({})))
@PROPERTY
def test_only_our_errors(data: bytes) -> None:
    """Whatever the bytes, claims or our errors."""
    try:
        read = Platform.parse(data)
    except FormatError:
        return
    assert read.lifecycle in Lifecycle
