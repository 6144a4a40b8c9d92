"""Whatever a body is, the answer is one that clients of Azure Key Vault can read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kluis.formats.encoding import b64
from tests.services.keyvault.world import RELEASER, World, claims, policy, sign
from tests.strategies import examples

WORLD = World()
WORLD.ok("POST", "/keys/rsa/create", {"kty": "RSA"})
WORLD.exportable("out")
WORLD.ok(
    "POST",
    "/keys/aes/create",
    {"kty": "oct-HSM", "key_ops": ["encrypt", "decrypt", "wrapKey", "unwrapKey", "sign", "verify"]},
)
PATHS = [
    ("POST", "/keys/new/create"),
    ("PUT", "/keys/new"),
    ("PATCH", "/keys/rsa/"),
    ("PUT", "/keys/rsa/rotationpolicy"),
    ("POST", "/keys/restore"),
    ("POST", "/rng"),
    ("POST", "/keys/out/release"),
    *[
        ("POST", f"/keys/{name}//{verb}")
        for name in ("rsa", "aes")
        for verb in ("encrypt", "decrypt", "wrapkey", "unwrapkey", "sign", "verify")
    ],
]
NAMES = [
    "kty",
    "key_size",
    "key_ops",
    "attributes",
    "exportable",
    "enabled",
    "nbf",
    "exp",
    "tags",
    "release_policy",
    "data",
    "immutable",
    "contentType",
    "key",
    "Hsm",
    "hsm",
    "crv",
    "k",
    "n",
    "e",
    "d",
    "alg",
    "value",
    "digest",
    "iv",
    "aad",
    "tag",
    "target",
    "enc",
    "nonce",
    "count",
    "lifetimeActions",
    "trigger",
    "action",
    "type",
    "timeAfterCreate",
    "expiryTime",
]
WORDS = [
    "EC",
    "oct",
    "oct-HSM",
    "EC-HSM",
    "P-256",
    "A256GCM",
    "A256CBC",
    "A256KW",
    "RS256",
    "HS256",
    "RSA-OAEP",
    "sign",
    "AAAA",
    "A" * 43,
    "P90D",
    "Rotate",
    "CKM_RSA_AES_KEY_WRAP",
    b64.encode_url(policy()),
    sign(claims()),
    "\ud83d\ude00",
]
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.sampled_from(WORDS)
    | st.text(max_size=6)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=14,
)
bodies = values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PATHS), bodies)
def test_any_body_gets_an_answer(place: tuple[str, str], body: bytes) -> None:
    """No body makes the service fail: it does what was requested, or returns an error in one form."""
    answer = WORLD.send(*place, body, roles=("Key Vault Administrator",))
    assert answer.status_code in (200, 400, 403, 404, 409, 413), answer.text
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error["code"] in ("BadParameter", "Forbidden", "KeyNotFound", "Conflict", "RequestTooLarge")
        assert error["message"]


@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b'{"a":' * 50_000, b'{"target":"' + b"a." * 100_000 + b'"}']
)
def test_bombs(body: bytes) -> None:
    """Deep and long bodies are refused in bounded time."""
    for path in ("/keys/new/create", "/keys/out/release", "/keys/rsa//sign"):
        answer = WORLD.send("POST", path, body, roles=("Key Vault Administrator",))
        assert answer.status_code in (400, 403, 413)


def test_a_nonce_is_bounded() -> None:
    """A nonce comes back as it was, and is not long."""
    asked: dict[str, Any] = {"target": sign(claims()), "nonce": "n" * 1025}
    assert WORLD.refused("POST", "/keys/out/release", asked, roles=(RELEASER,))[2] == (
        "nonce: want at most 1024 characters, got 1025"
    )
    assert WORLD.refused("POST", "/keys/out/release", {**asked, "nonce": "", "enc": "x"}, roles=(RELEASER,))[
        2
    ] == ("enc: want one of CKM_RSA_AES_KEY_WRAP, RSA_AES_KEY_WRAP_256, RSA_AES_KEY_WRAP_384, got 'x'")
    assert WORLD.refused("POST", "/keys/out/release", {}, roles=(RELEASER,))[2] == (
        "target: want the environment's attestation token, got none"
    )
