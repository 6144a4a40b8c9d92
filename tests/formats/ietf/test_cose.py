"""COSE: what is signed, by whom, and what nobody reads from an unprotected header."""

from __future__ import annotations

import dataclasses
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given

from kluis.errors import AuthenticityError, FormatError, UnsupportedError, UsageError
from kluis.formats.encoding import cbor
from kluis.formats.ietf import cose
from kluis.formats.ietf.cose import Sign1
from kluis.formats.x509 import KeyKind, PublicKey, Scheme
from tests.strategies import PROPERTY, mutations

CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
ALGORITHMS = {"ES256": -7, "ES384": -35, "ES512": -36}
KEYS = {name: ec.generate_private_key(curve) for name, curve in CURVES.items()}
GOOD = cose.sign1(b"payload", KEYS["ES384"], {cose.KEY_ID: b"key"})


def message(*parts: Any) -> bytes:
    """A message of these parts, encoded by cbor2."""
    return cbor2.dumps(cbor2.CBORTag(18, list(parts)))


@pytest.mark.parametrize("name", KEYS)
def test_the_other_signature(name: str) -> None:
    """Another signature of the same message verifies, and its mirror is the first one."""
    key = KEYS[name]
    read = Sign1.parse(cose.sign1(b"payload", key, {}), "token")
    other = dataclasses.replace(read, signature=cose.mirror(read))
    assert other.signature != read.signature
    cose.check(other, key.public_key(), "token")
    assert cose.mirror(other) == read.signature


@pytest.mark.parametrize("name", KEYS)
def test_signs_and_checks(name: str) -> None:
    """A signed message reads back and is checked by its key, and by no other."""
    key = KEYS[name]
    raw = cose.sign1(b"payload", key, {cose.KEY_ID: b"key", "who": "me"})
    read = Sign1.parse(raw, "token")
    assert read.encode() == raw
    assert (read.payload, read.tagged) == (b"payload", True)
    assert read.scheme("token", tuple(cose.SCHEMES)) is Scheme[name]
    assert read.headers == {1: ALGORITHMS[name], 4: b"key", "who": "me"}
    assert len(read.signature) == 2 * cose.CURVES[Scheme[name]].size
    cose.check(read, key.public_key(), "token")
    for other in (ec.generate_private_key(CURVES[name]), *(KEYS[n] for n in KEYS if n != name)):
        with pytest.raises(AuthenticityError) as caught:
            cose.check(read, other.public_key(), "token")
        assert (str(caught.value), caught.value.code) == (
            "token: is not signed by the key it should be",
            "sig_cose",
        )


def test_what_is_signed() -> None:
    """The signature covers a Sig_structure of RFC 9052: context, protected header, nothing, payload."""
    read = Sign1.parse(GOOD, "token")
    assert read.signed_bytes() == cbor2.dumps(["Signature1", read.protected, b"", b"payload"])
    long = dataclasses.replace(read, payload=bytes(70_000))
    assert long.signed_bytes() == cbor2.dumps(["Signature1", read.protected, b"", bytes(70_000)])


@pytest.mark.parametrize(
    "change",
    [
        {"payload": b"payloae"},
        {"protected": cbor.dumps({1: -35, 4: b"kex"})},
        {"signature": bytes(96)},
        {"signature": b"\xff" * 96},
        {"signature": b""},
        {"signature": bytes(64)},
        {"headers": {1: -7}},
        {"headers": {1: True}},
        {"headers": {}},
    ],
    ids=str,
)
def test_changed(change: dict[str, Any]) -> None:
    """A zero, short or garbage signature is a clean refusal, as is a change of what was signed."""
    read = dataclasses.replace(Sign1.parse(GOOD, "token"), **change)
    with pytest.raises(AuthenticityError) as caught:
        cose.check(read, KEYS["ES384"].public_key(), "token")
    assert caught.value.code == "sig_cose"


def test_tag_is_no_identity() -> None:
    """The same message with and without its tag is one message: bytes of evidence identify nothing."""
    plain = Sign1.parse(GOOD[1:], "token")
    assert plain.encode() == GOOD[1:]
    assert not plain.tagged
    cose.check(plain, KEYS["ES384"].public_key(), "token")


A = b"\xa1\x01\x38\x22"


@pytest.mark.parametrize(
    ("raw", "error", "text", "code"),
    [
        (message(A, {}, b"", b"", b""), FormatError, "token: want a list of 4, got a list", "bad_type"),
        (cbor2.dumps({}), FormatError, "token: want a list of 4, got a map", "bad_type"),
        (message(A, {}, None, b""), UnsupportedError, "token.payload: is detached", "bad_type"),
        (
            message(A, {}, "p", b""),
            FormatError,
            "token: want protected header, payload and signature as bytes",
            "bad_type",
        ),
        (
            message({1: -35}, {}, b"p", b""),
            FormatError,
            "token: want protected header, payload and signature as bytes",
            "bad_type",
        ),
        (
            message(A, {}, b"p", None),
            FormatError,
            "token: want protected header, payload and signature as bytes",
            "bad_type",
        ),
        (message(b"\x80", {}, b"p", b""), FormatError, "token: want two headers that are maps", "bad_type"),
        (message(A, [], b"p", b""), FormatError, "token: want two headers that are maps", "bad_type"),
        (
            message(b"\xa2\x01\x26\x01\x26", {}, b"p", b""),
            FormatError,
            "token.protected at 0x3: key 1 appears twice",
            "duplicate_key",
        ),
        (
            message(b"\xa1\x02\x80", {}, b"p", b""),
            UnsupportedError,
            "token: critical headers are not known here",
            "bad_type",
        ),
        (
            message(A, {2: []}, b"p", b""),
            UnsupportedError,
            "token: critical headers are not known here",
            "bad_type",
        ),
        (
            message(b"", {1: -7}, b"p", b""),
            FormatError,
            "token.unprotected: holds what must be protected",
            "duplicate_key",
        ),
        (
            message(b"\xa1\x04\x41a", {4: b"b"}, b"p", b""),
            FormatError,
            "token.unprotected: holds what must be protected",
            "duplicate_key",
        ),
        (GOOD + b"\0", FormatError, f"token at {len(GOOD):#x}: 1 bytes after the end", "trailing_data"),
        (b"\xd2" + GOOD, FormatError, "token: want a list of 4, got a tag", "bad_type"),
        (b"\xd1" + GOOD[1:], FormatError, "token at 0x0: tag 17 is not used here", "bad_type"),
    ],
)
def test_refused(raw: bytes, error: type[FormatError], text: str, code: str) -> None:
    """A message that readers could disagree on is refused."""
    with pytest.raises(error) as caught:
        Sign1.parse(raw, "token")
    assert (type(caught.value), str(caught.value), caught.value.code) == (error, text, code)


@pytest.mark.parametrize(
    ("protected", "got"), [(b"", "null"), (A[:1] + b"\x01\x38\x23", "-36"), (b"\xa1\x01\x65ES256", "text")]
)
def test_algorithm_from_the_evidence(protected: bytes, got: str) -> None:
    """An algorithm that is not named, or not used here, has no scheme."""
    read = Sign1.parse(message(protected, {4: b"key"}, b"p", b""), "token")
    with pytest.raises(UnsupportedError) as caught:
        read.scheme("token")
    assert str(caught.value) == f"token.protected: want algorithm -7 or -35, got {got}"


@pytest.mark.parametrize("name", KEYS)
def test_detached(name: str) -> None:
    """A detached payload is left out of the message, and signed: the caller has it from elsewhere."""
    key = KEYS[name]
    raw = cose.sign1(b"payload", key, {cose.KEY_ID: b"key"}, detached=True)
    assert cbor2.loads(raw).value[2] is None
    read = Sign1.parse(raw, "token", detached=True)
    assert (read.payload, read.detached, read.encode()) == (b"", True, raw)
    cose.check(read.over(b"payload"), key.public_key(), "token")
    assert read.over(b"payload").encode() == raw
    for payload in (b"", b"Payload"):
        with pytest.raises(AuthenticityError):
            cose.check(read.over(payload), key.public_key(), "token")


def test_detached_or_not() -> None:
    """A payload is where the caller expects it, or the message is refused."""
    with pytest.raises(UnsupportedError) as caught:
        Sign1.parse(GOOD, "token", detached=True)
    assert str(caught.value) == "token.payload: is attached"


def test_usage() -> None:
    """Other curves, and headers that would name another algorithm, are the caller's mistake."""
    other = ec.generate_private_key(ec.SECP256K1())
    for work in (
        lambda: cose.sign1(b"", other),
        lambda: cose.check(Sign1.parse(GOOD, "token"), other.public_key(), "token"),
    ):
        with pytest.raises(UsageError) as caught:
            work()
        assert str(caught.value) == "COSE: want a key on P-256, P-384 or P-521, got one on secp256k1"
    for label in (cose.ALGORITHM, cose.CRITICAL):
        with pytest.raises(UsageError):
            cose.sign1(b"", KEYS["ES256"], {label: 1})


@given(mutations(GOOD, GOOD[1:], message(A, {4: b"b"}, b"p" * 30, bytes(96))))
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape, the check's included."""
    try:
        read = Sign1.parse(data, "token")
    except FormatError:
        return
    assert read.encode() == data
    try:
        cose.check(read, KEYS["ES384"].public_key(), "token")
    except AuthenticityError:
        return
    # ECDSA is malleable: (r, n - s) verifies, too. What was signed is what is the same.
    assert (read.protected, read.payload) == (Sign1.parse(GOOD, "token").protected, b"payload")


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    """DER of the public key."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("name", ["ES256", "ES384"])
def test_keys(name: str) -> None:
    """A COSE_Key is the key it was written from."""
    point = KEYS[name].public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    key = PublicKey.of_point(cose.CURVES[Scheme[name]], point)
    raw = cose.encode_key(key)
    read = cose.parse_key(raw, "key")
    assert (read, read.spki) == (key, spki(KEYS[name]))
    assert cose.encode_key(read) == raw
    numbers = cbor2.loads(raw)
    assert cose.parse_key(cbor2.dumps({**numbers, 2: b"kid", 3: -35, 4: [2]}), "key") == key


GOOD_KEY: dict[int, Any] = {1: 2, -1: 2, -2: bytes(48), -3: bytes(48)}


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({1: 1}, UnsupportedError, "key: want a key of type 2 on curve 1 or 2"),
        ({-1: 3}, UnsupportedError, "key: want a key of type 2 on curve 1 or 2"),
        ({-1: 1}, FormatError, "key.x: is 48 bytes, want 32"),
        ({-2: bytes(47)}, FormatError, "key.x: is 47 bytes, want 48"),
        ({-3: True}, FormatError, "key.y: want bytes, got a boolean"),
        ({-4: bytes(48)}, FormatError, "key: key -4 is not known here"),
        ({-1: "P-384"}, FormatError, "key.crv: want an integer, got text"),
        ({-2: None}, FormatError, "key.x: want bytes, got null"),
    ],
    ids=str,
)
def test_keys_refused(change: dict[int, Any], error: type[FormatError], text: str) -> None:
    """Private parts, compressed points, other curves and types are refused."""
    with pytest.raises(FormatError) as caught:
        cose.parse_key(cbor2.dumps({**GOOD_KEY, **change}), "key")
    assert (type(caught.value), str(caught.value)) == (error, text)


def test_keys_without_a_coordinate() -> None:
    """A key with only one coordinate is refused."""
    with pytest.raises(FormatError) as caught:
        cose.parse_key(cbor2.dumps({1: 2, -1: 2, -2: bytes(48)}), "key")
    assert str(caught.value) == "key: y is missing"


def test_keys_not_written() -> None:
    """RSA keys have no COSE_Key here."""
    with pytest.raises(UsageError) as caught:
        cose.encode_key(PublicKey.of_rsa(1 << 2047 | 1, 65537))
    assert str(caught.value) == f"COSE_Key: want a key on P-256 or P-384, got one of kind {KeyKind.RSA.value}"
