"""Runtime data: the document behind report data, in one form only."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.encoding import jcs
from kluis.formats.kluis import runtime_data
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData, okp_key, okp_public, rsa_key
from kluis.hashes import sha256
from tests.strategies import PROPERTY, mutations

GOOD = RuntimeData(
    purpose=Purpose.RELEASE_KEY,
    image_id=bytes(range(32)),
    nonce=b"\x9f\x02",
    keys=(okp_key("X25519", bytes(range(32))),),
    payload=b"hello",
)
TEXT = GOOD.encode()


def test_document() -> None:
    """The document is canonical JSON, and reads back."""
    assert RuntimeData.parse(TEXT) == GOOD
    assert json.loads(TEXT) == {
        "version": 1,
        "purpose": "release-key",
        "image_id": bytes(range(32)).hex(),
        "nonce": "9f02",
        "keys": [{"kty": "OKP", "crv": "X25519", "x": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}],
        "payload": "aGVsbG8",
    }


def test_report_data() -> None:
    """Report data are the document's SHA-256 and 32 zero bytes."""
    assert runtime_data.report_data(TEXT) == sha256(TEXT) + bytes(32)


def _changed(**changes: object) -> bytes:
    return jcs.dumps({**json.loads(TEXT), **changes})


MEMBERS = "['image_id', 'keys', 'nonce', 'payload', 'purpose', 'version']"
REFUSED = {
    "version": (_changed(version=2), "runtime data.version: want one of [1], got 2"),
    "version that is true": (_changed(version=True), "runtime data.version: want one of [1], got a boolean"),
    "purpose": (
        _changed(purpose="all"),
        "runtime data.purpose: want one of ['app', 'cli', 'channel', 'release-key', 'receipt',"
        " 'ledger-node', 'store-key', 'platform', 'devices'], got 'all'",
    ),
    "image id": (_changed(image_id="00"), "runtime data.image_id: want size 32..32, got 1"),
    "image id in capitals": (_changed(image_id="AA" * 32), "runtime data.image_id: is not lower-case hex"),
    "nonce": (_changed(nonce="00" * 65), "runtime data.nonce: want size 0..64, got 65"),
    "nonce that is no hex": (_changed(nonce="0g"), "runtime data.nonce: is not hex"),
    "keys": (_changed(keys={}), "runtime data.keys: want a list, got an object"),
    "nine keys": (_changed(keys=[{"kty": "x"}] * 9), "runtime data.keys: has 9 items, must be at most 8"),
    "key that is no object": (_changed(keys=["x"]), "runtime data.keys: want objects of text"),
    "key with a number": (_changed(keys=[{"kty": 1}]), "runtime data.keys: want objects of text"),
    "key with a list of numbers": (
        _changed(keys=[{"kty": "x", "key_ops": [1]}]),
        "runtime data.keys: want objects of text",
    ),
    "key with nine operations": (
        _changed(keys=[{"kty": "x", "key_ops": ["a"] * 9}]),
        "runtime data.keys: want objects of text",
    ),
    "key without a type": (_changed(keys=[{"x": "a"}]), "runtime data.keys: want member 'kty'"),
    "private key": (
        _changed(keys=[{"kty": "OKP", "d": "a"}]),
        "runtime data.keys: a public key has no member 'd'",
    ),
    "payload": (
        _changed(payload="a="),
        "runtime data.payload: is not base64url, or not the one of its bytes",
    ),
    "payload in other base64": (
        _changed(payload="+/+/"),
        "runtime data.payload: is not base64url, or not the one of its bytes",
    ),
    "payload outside ASCII": (
        _changed(payload="é"),
        "runtime data.payload: is not base64url, or not the one of its bytes",
    ),
    "another member": (
        _changed(extra=1),
        f"runtime data: want members {MEMBERS}, got ['extra', {MEMBERS[1:]}",
    ),
    "no object": (b"[]", "runtime data: want an object, got a list"),
    "spaces": (TEXT.replace(b",", b", ", 1), "runtime data: is not in canonical form (RFC 8785)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """A document in another form, with other members or out of bounds is refused."""
    data, message = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        RuntimeData.parse(data)
    assert str(caught.value) == message
    assert isinstance(caught.value, UnsupportedError) is (name.split()[0] in ("version", "purpose"))


def test_does_not_write_what_it_would_not_read() -> None:
    """Bounds hold for the writer, too."""
    with pytest.raises(FormatError, match=r"^runtime data\.payload: want size 0\.\.131072, got 131073$"):
        RuntimeData(purpose=Purpose.APP, image_id=bytes(32), nonce=b"", payload=bytes((1 << 17) + 1)).encode()


@PROPERTY
@given(mutations(TEXT))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        parsed = RuntimeData.parse(data)
    except KluisError:
        return
    assert parsed.encode() == data


def test_rsa_key() -> None:
    """An RSA key to encrypt to is named by its thumbprint, and reads back as it was written."""
    key = rsa_key((1 << 3071) + 1, 65537)
    said = RuntimeData(purpose=Purpose.RELEASE_KEY, image_id=bytes(32), nonce=b"", keys=(key,))
    assert RuntimeData.parse(said.encode()).keys == (key,)
    assert (key["use"], key["key_ops"], key["e"]) == ("enc", ["encrypt"], "AQAB")
    assert key["kid"] == "VdLkLTItmob8hSPEqelZMNL_m0Ggl-5kUEk4ISuasM8"
    with pytest.raises(FormatError, match="want an OKP key on X25519, got 'RSA' None"):
        okp_public(key, "X25519")
    with pytest.raises(FormatError, match="want 32 bytes, got 0"):
        okp_public({"kty": "OKP", "crv": "X25519", "x": ["a"]}, "X25519")


def test_okp_keys() -> None:
    """A public key converts to a JWK and back, by its curve."""
    key = okp_key("Ed25519", bytes(32))
    assert okp_public(key, "Ed25519") == bytes(32)
    for bad, message in (
        (key | {"crv": "X25519"}, "runtime data.keys: want an OKP key on Ed25519, got 'OKP' 'X25519'"),
        ({"kty": "RSA"}, "runtime data.keys: want an OKP key on Ed25519, got 'RSA' None"),
        (key | {"x": "AA"}, "runtime data.keys: want 32 bytes, got 1"),
        ({"kty": "OKP", "crv": "Ed25519"}, "runtime data.keys: want 32 bytes, got 0"),
    ):
        with pytest.raises(FormatError) as caught:
            okp_public(bad, "Ed25519")
        assert str(caught.value) == message
