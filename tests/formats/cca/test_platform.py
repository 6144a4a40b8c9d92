"""CCA platform claims: each typed and bounded, of a known profile."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.cca.devices import Device, Encryption, RootKey
from kluis.formats.cca.platform import LATEST, PROFILES, Component, Lifecycle, Platform
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
DEVICE: dict[int, Any] = {
    1: "sha-384",
    2: b"d" * 48,
    3: b"c" * 64,
    4: True,
    5: "spdm-1.3.0",
    6: b"v" * 32,
    7: "cxl-type-3",
    8: 1,
}
ROOT_KEY: dict[int, Any] = {1: "DM", 2: 0, 3: 2, 4: b"r" * 32}
NEW: dict[int, Any] = {265: LATEST, 2394: 1}
WHOLE: dict[int, Any] = {
    **NEW,
    2399: [{**COMPONENT, 7: True, 8: [b"x" * 32, b"y" * 48]}],
    2403: b"made",
    2404: [DEVICE, {key: DEVICE[key] for key in (2, 3, 4, 5)}],
    2405: [ROOT_KEY],
    2406: b"peers",
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


def test_latest() -> None:
    """The latest generation also has the hardware joined to the platform, and the owners of its boot keys."""
    read = Platform.parse(payload(WHOLE))
    assert (read.profile, read.manufacturing_config, read.peer_signers) == (LATEST, b"made", b"peers")
    assert (read.components[0].live_activation, read.components[0].countersigners) == (
        True,
        (b"x" * 32, b"y" * 48),
    )
    whole, bare = read.devices
    assert whole == Device(
        hash_algorithm="sha-384",
        measurements=b"d" * 48,
        certificates=b"c" * 64,
        uses_ide=True,
        protocol="spdm-1.3.0",
        negotiation=b"v" * 32,
        kind="cxl-type-3",
        encryption=Encryption.DEVICE,
    )
    assert bare.hash_algorithm is bare.negotiation is bare.kind is bare.encryption is None
    assert read.root_keys == (RootKey(name="DM", active_array=0, index=2, digest=b"r" * 32),)


def test_latest_optional() -> None:
    """All of that may be absent, except the challenge and the digest algorithm."""
    read = Platform.parse(payload({**NEW, 2400: ...}))
    assert (read.devices, read.root_keys, read.components[0].countersigners) == ((), (), ())
    assert read.manufacturing_config is read.peer_signers is read.components[0].live_activation is None


@pytest.mark.parametrize("profile", [{}, {265: PROFILES[0]}, NEW])
@pytest.mark.parametrize("lifecycle", Lifecycle)
def test_lifecycles(profile: dict[int, Any], lifecycle: Lifecycle) -> None:
    """Every state of the table is read, from its first to its last number, in every generation."""
    for low in (0, 0xFF):
        state = lifecycle.value << 8 | low
        assert Platform.parse(payload({**profile, 2395: state})).lifecycle is lifecycle


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
    *[
        ({key: value}, FormatError, f"{P}: key {key} is not known here")
        for key, value in WHOLE.items()
        if key not in (265, 2399)
    ],
    ({2399: [{**COMPONENT, 7: True}]}, FormatError, f"{P}.components: key 7 is not known here"),
    ({**NEW, 2394: ...}, FormatError, f"{P}: client_id is missing"),
    ({**NEW, 2394: 2}, FormatError, f"{P}.client_id: want 1..1, got 2"),
    ({**NEW, 2402: ...}, FormatError, f"{P}: hash_algorithm is missing"),
    ({**NEW, 2403: b""}, FormatError, f"{P}.manufacturing_config: is 0 bytes, want 1 to 4096"),
    ({**NEW, 2406: "peers"}, FormatError, f"{P}.peer_signers: want bytes, got text"),
    (
        {**NEW, 2399: [{**COMPONENT, 7: 1}]},
        FormatError,
        f"{P}.components.live_activation: want a boolean, got an integer",
    ),
    (
        {**NEW, 2399: [{**COMPONENT, 8: []}]},
        FormatError,
        f"{P}.components.countersigners: has 0 items, want 1 to 16",
    ),
    ({**NEW, 2404: []}, FormatError, f"{P}.devices: has 0 items, want 1 to 64"),
    ({**NEW, 2404: [DEVICE] * 65}, FormatError, f"{P}.devices: has 65 items, want 1 to 64"),
    ({**NEW, 2404: [{**DEVICE, 9: 0}]}, FormatError, f"{P}.devices: key 9 is not known here"),
    ({**NEW, 2404: [{**DEVICE, 4: 1}]}, FormatError, f"{P}.devices.uses_ide: want a boolean, got an integer"),
    (
        {**NEW, 2404: [{**DEVICE, 6: b"v" * 20}]},
        FormatError,
        f"{P}.devices.negotiation: is 20 bytes, want 32 or 48 or 64",
    ),
    ({**NEW, 2404: [{**DEVICE, 8: 3}]}, FormatError, f"{P}.devices.encryption: want 0..2, got 3"),
    (
        {**NEW, 2405: [{**ROOT_KEY, 4: b"r" * 8}]},
        FormatError,
        f"{P}.root_keys.digest: is 8 bytes, want 32 or 48 or 64",
    ),
    ({**NEW, 2405: [{1: "DM", 2: 0, 4: bytes(32)}]}, FormatError, f"{P}.root_keys: index is missing"),
]


@pytest.mark.parametrize(("change", "error", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_refused(change: dict[int, Any], error: type[FormatError], message: str) -> None:
    """A missing, additional, mistyped or out-of-range claim is refused, with its name."""
    with pytest.raises(FormatError) as caught:
        Platform.parse(payload(change))
    assert (type(caught.value), str(caught.value)) == (error, message)


@given(mutations(payload({}), payload(WHOLE)))
@PROPERTY
def test_only_our_errors(data: bytes) -> None:
    """Whatever the bytes, claims or our errors."""
    try:
        read = Platform.parse(data)
    except FormatError:
        return
    assert read.lifecycle in Lifecycle
