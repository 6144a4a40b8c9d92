"""Releases are read strictly: no part of them can be misread."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.encoding import b64
from kluis.formats.kluis.released_key import ALGORITHMS, ReleasedKey
from kluis.services.keyvault.release import wrapping
from tests.strategies import PROPERTY, mutations

HEADER: dict[str, Any] = {
    "alg": "RS256",
    "x5c": ["AAAA"],
    "x-kluis-vault": "ab" * 32,
    "x-kluis-certificate": "AAAA",
}
SEALED: dict[str, Any] = {
    "schema_version": "1.0",
    "header": {"kid": "r", "alg": "dir", "enc": "RSA_AES_KEY_WRAP_256"},
    "ciphertext": "AAAA",
}
KEY: dict[str, Any] = {"kid": "https://vault:1/keys/k/0f", "kty": "oct-HSM", "key_ops": []}


def text(header: dict[str, Any] = HEADER, key: dict[str, Any] = KEY, sealed: Any = SEALED) -> str:
    """A release."""
    shown = {**key, "key_hsm": b64.encode_url(json.dumps(sealed).encode())}
    payload = {"request": {"nonce": "n"}, "response": {"key": {"key": shown, "attributes": {}}}}
    parts = [b64.encode_url(json.dumps(each).encode()) for each in (header, payload)]
    return ".".join([*parts, "AAAA"])


def test_reads() -> None:
    """Every member is where Azure has it."""
    read = ReleasedKey.parse(text())
    assert read.signed.decode() == text().rpartition(".")[0]
    assert (read.signature, read.chain, read.vault) == (bytes(3), (bytes(3),), b"\xab" * 32)
    assert read.certificate == bytes(3)
    of_another = ReleasedKey.parse(text({"alg": "RS256"}))
    assert (of_another.chain, of_another.vault, of_another.certificate) == ((), None, None)
    assert (read.url, read.name, read.version, read.kty) == ("https://vault:1", "k", "0f", "oct-HSM")
    assert (read.public, read.nonce, read.recipient) == ({}, "n", "r")
    assert (read.algorithm, read.ciphertext) == ("RSA_AES_KEY_WRAP_256", bytes(3))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("a.b", "released key: want a JWS of three parts, at most 262144 bytes"),
        (text({**HEADER, "alg": "none"}), "released key.header: want alg RS256 without crit, got another"),
        (text({**HEADER, "crit": []}), "released key.header: want alg RS256 without crit, got another"),
        (
            text(key={**KEY, "kid": "https://vault:1/keys/k/0f/more"}),
            "released key.kid: want https://HOST/keys/NAME/VERSION, got another",
        ),
        (
            text(sealed={**SEALED, "header": {"kid": "r", "enc": "dir"}}),
            "released key.enc: want one of CKM_RSA_AES_KEY_WRAP, RSA_AES_KEY_WRAP_256, RSA_AES_KEY_WRAP_384, "
            "got 'dir'",
        ),
        (text(sealed=[]), "released key.key_hsm: want an object, got a list"),
    ],
)
def test_refuses(changed: str, message: str) -> None:
    """Whatever is signed, wrapped or named in another way is refused."""
    with pytest.raises(FormatError) as refused:
        ReleasedKey.parse(changed)
    assert refused.value.message == message


def test_mechanisms() -> None:
    """The mechanisms that are read are those that the key service writes, each with its hash."""
    assert {name: digest.name for name, digest in wrapping.ALGORITHMS.items()} == dict(ALGORITHMS)


@PROPERTY
@given(mutations(text().encode()))
def test_hostile(data: bytes) -> None:
    """Only our errors leave the reader."""
    try:
        ReleasedKey.parse(data.decode("latin-1"))
    except KluisError:
        return
