"""CCA realm claims: each typed and bounded; the key is in the form of its generation."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.cca.realm import LATEST, PROFILE, Realm
from kluis.formats.ietf import cose
from kluis.formats.x509 import KeyKind, PublicKey
from tests.strategies import PROPERTY, mutations

POINT = b"\x04" + bytes(range(96))
KEY = PublicKey.of_point(KeyKind.P384, POINT)
GOOD: dict[int, Any] = {
    265: PROFILE,
    10: b"c" * 64,
    44235: b"p" * 64,
    44236: "sha-512",
    44237: cose.encode_key(KEY),
    44238: b"m" * 64,
    44239: [bytes((i,)) * 64 for i in range(4)],
    44240: "sha-256",
}
LEGACY: dict[int, Any] = {265: ..., 44237: POINT}
INSTANCE = b"\x01" + bytes(32)
NEW: dict[int, Any] = {265: LATEST, 44243: "private"}
WHOLE: dict[int, Any] = {**NEW, 256: INSTANCE, 44244: 0, 44257: b"d" * 48}


def payload(change: dict[int, Any]) -> bytes:
    """Good claims, with some changed; those set to ``...`` are left out."""
    return cbor2.dumps({key: value for key, value in {**GOOD, **change}.items() if value is not ...})


@pytest.mark.parametrize("legacy", [False, True])
def test_reads(legacy: bool) -> None:
    """Each claim is given as it is; the key is the same in both generations."""
    read = Realm.parse(payload(LEGACY if legacy else {}))
    assert read.profile == (None if legacy else PROFILE)
    assert (read.challenge, read.personalization_value) == (b"c" * 64, b"p" * 64)
    assert (read.hash_algorithm, read.public_key_hash_algorithm) == ("sha-512", "sha-256")
    assert (read.public_key, read.public_key_bytes) == (KEY, POINT if legacy else cose.encode_key(KEY))
    assert read.initial_measurement == b"m" * 64
    assert read.extensible_measurements == tuple(bytes((i,)) * 64 for i in range(4))
    assert read.instance_id is read.memory is read.live_activation is read.devices is None


def test_latest() -> None:
    """The latest generation also names the realm, and how its memory and firmware are protected."""
    read = Realm.parse(payload(WHOLE))
    assert (read.profile, read.instance_id, read.memory) == (LATEST, INSTANCE, "private")
    assert (read.live_activation, read.devices) == (False, b"d" * 48)
    bare = Realm.parse(payload(NEW))
    assert bare.instance_id is bare.live_activation is bare.devices is None


@pytest.mark.parametrize(
    ("written", "read"), [("shared", "shared"), ("private", "private"), (0, "shared"), (1, "private")]
)
def test_memory(written: Any, read: str) -> None:
    """The memory's policy is a word in the draft, and a number in Arm's own specification."""
    assert Realm.parse(payload({**NEW, 44243: written})).memory == read


R = "CCA realm token"
REFUSED: list[tuple[dict[int, Any], type[FormatError], str]] = [
    *[
        ({key: ...}, FormatError, f"{R}: {name} is missing")
        for key, name in {
            10: "challenge",
            44235: "personalization_value",
            44236: "hash_algorithm",
            44237: "public_key",
            44238: "initial_measurement",
            44239: "extensible_measurements",
            44240: "public_key_hash_algorithm",
        }.items()
    ],
    (
        {265: "tag:arm.com,2026:realm#2.0.0"},
        UnsupportedError,
        f"{R}.profile: want {PROFILE} or {LATEST}, or none, got 'tag:arm.com,2026:realm#2.0.0'",
    ),
    *[
        ({key: value}, FormatError, f"{R}: key {key} is not known here")
        for key, value in WHOLE.items()
        if key != 265
    ],
    ({**NEW, 44243: ...}, FormatError, f"{R}: memory is missing"),
    ({**NEW, 44243: "open"}, FormatError, f"{R}.memory: want shared or private, got 'open'"),
    ({**NEW, 44243: 2}, FormatError, f"{R}.memory: want 0..1, got 2"),
    ({**NEW, 44243: True}, FormatError, f"{R}.memory: want text, got a boolean"),
    ({**NEW, 44244: 2}, FormatError, f"{R}.live_activation: want 0..1, got 2"),
    ({**NEW, 44257: bytes(20)}, FormatError, f"{R}.devices: is 20 bytes, want 32 or 48 or 64"),
    ({**NEW, 256: b"\x02" + bytes(32)}, FormatError, f"{R}.ueid: want type 0x01, got 0x02"),
    ({2395: 0x3000}, FormatError, f"{R}: key 2395 is not known here"),
    ({10: b"c" * 32}, FormatError, f"{R}.challenge: is 32 bytes, want 64"),
    ({44235: b""}, FormatError, f"{R}.personalization_value: is 0 bytes, want 64"),
    (
        {44236: "sha-1"},
        UnsupportedError,
        f"{R}.hash_algorithm: want one of sha-256, sha-384, sha-512, got 'sha-1'",
    ),
    (
        {44240: "md5"},
        UnsupportedError,
        f"{R}.public_key_hash_algorithm: want one of sha-256, sha-384, sha-512, got 'md5'",
    ),
    ({44238: bytes(20)}, FormatError, f"{R}.initial_measurement: is 20 bytes, want 32 or 48 or 64"),
    ({44239: [bytes(32)] * 3}, FormatError, f"{R}.extensible_measurements: has 3 items, want 4 to 4"),
    ({44239: [bytes(32)] * 5}, FormatError, f"{R}.extensible_measurements: has 5 items, want 4 to 4"),
    (
        {44239: [bytes(20)] * 4},
        FormatError,
        f"{R}.extensible_measurements: holds 20 bytes, want 32 or 48 or 64",
    ),
    ({44237: POINT}, FormatError, f"{R}.public_key at 0x1: 96 bytes after the end"),
    ({44237: b""}, FormatError, f"{R}.public_key: is 0 bytes, want 1 to 256"),
    (
        {44237: cose.encode_key(PublicKey.of_point(KeyKind.P256, POINT[:65]))},
        UnsupportedError,
        f"{R}.public_key: want a key on P-384, got one on P-256",
    ),
    (
        {**LEGACY, 44237: cose.encode_key(KEY)},
        FormatError,
        f"{R}.public_key: want 04 and 96 bytes of a point on P-384",
    ),
    (
        {**LEGACY, 44237: b"\x02" + POINT[1:]},
        FormatError,
        f"{R}.public_key: want 04 and 96 bytes of a point on P-384",
    ),
]


@pytest.mark.parametrize(("change", "error", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_refused(change: dict[int, Any], error: type[FormatError], message: str) -> None:
    """A missing, additional, mistyped or out-of-range claim is refused, with its name."""
    with pytest.raises(FormatError) as caught:
        Realm.parse(payload(change))
    assert (type(caught.value), str(caught.value)) == (error, message)


@given(mutations(payload({}), payload(LEGACY), payload(WHOLE)))
@PROPERTY
def test_only_our_errors(data: bytes) -> None:
    """Whatever the bytes, claims or our errors."""
    try:
        read = Realm.parse(data)
    except FormatError:
        return
    assert len(read.extensible_measurements) == 4
