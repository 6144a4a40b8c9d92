"""A client authenticated by another issuer: what is accepted, and what each step refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import UsageError
from kluis.serve.issuer import DevelopmentIssuer, Federated
from tests.serve.issuer.asserting import (
    AT,
    CLUSTER,
    SUBJECT,
    claims_of,
    cluster_token,
    document,
    federated,
    form_of,
    issuer_of,
    jwk_of,
    key_of,
    post,
    told,
)


@pytest.fixture
def issuer(tmp_path: Path) -> DevelopmentIssuer:
    """One that knows an account of a cluster."""
    return issuer_of(tmp_path, federated())


@pytest.mark.parametrize("audience", ["api://AzureADTokenExchange", ["api://AzureADTokenExchange"]])
def test_a_clusters_token_is_used_until_it_expires(issuer: DevelopmentIssuer, audience: object) -> None:
    """The file is read again and again: it is no replay."""
    token = cluster_token(aud=audience, jti="one")
    for _ in range(2):
        said = claims_of(post(issuer, form_of(token)).json()["access_token"])
        assert (said["sub"], said["appidacr"]) == ("workload", "2")


def test_two_subjects_of_one_issuer(tmp_path: Path) -> None:
    """Each is a separate client's; keys of two times, and a custom audience, are accepted."""
    newer = {"keys": [jwk_of(key_of("newer"))]}
    issuer = issuer_of(
        tmp_path,
        federated(),
        federated(subject="other", jwks=newer),
        federated(client="reader", subject="third", audience="api://mine"),
    )
    assert told(issuer, cluster_token()) == "token"
    assert told(issuer, cluster_token("newer", sub="other")) == "token"
    assert told(issuer, cluster_token(sub="third", aud="api://mine"), "reader") == "token"
    assert told(issuer, cluster_token(sub="third")).startswith("invalid_client: AADSTS700213: ")
    assert told(issuer, cluster_token(sub="other")).startswith("invalid_client: AADSTS700213: ")


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        (
            {"iss": f"{CLUSTER}/"},
            f"AADSTS700211: client assertion iss: want {CLUSTER}, as registered for workload,"
            f" got '{CLUSTER}/'",
        ),
        (
            {"sub": SUBJECT.upper()},
            f"AADSTS700213: client assertion sub: want {SUBJECT}, as registered for workload,"
            f" got '{SUBJECT.upper()}'",
        ),
        (
            {"aud": ["api://AzureADTokenExchange", "https://other.example"]},
            "AADSTS700212: client assertion aud: want api://AzureADTokenExchange, as registered for workload,"
            " got ['api://AzureADTokenExchange', 'https://other.example']",
        ),
        (
            {"aud": None},
            "AADSTS700212: client assertion aud: want api://AzureADTokenExchange, as registered for workload,"
            " got None",
        ),
        (
            {"exp": AT - 60},
            f"AADSTS700024: client assertion exp: want after {AT}, got {AT - 60}: has expired",
        ),
        (
            {"nbf": AT + 61},
            f"AADSTS700024: client assertion nbf: want {AT} or before, got {AT + 61}: is not valid yet",
        ),
        ({"exp": None}, "AADSTS700024: client assertion exp: want seconds since 1970, got None"),
    ],
)
def test_each_claim_is_checked(issuer: DevelopmentIssuer, claims: dict[str, Any], why: str) -> None:
    """A claim that is wrong is named with what was wanted and what was there, all else being right."""
    assert told(issuer, cluster_token(**claims)) == f"invalid_client: {why}"


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"alg": "PS256"}, "client assertion alg: want RS256, got 'PS256'"),
        ({"kid": "two"}, "client assertion kid: want one of the registered keys, got 'two'"),
        ({"kid": None}, "client assertion kid: want one of the registered keys, got None"),
        ({"kid": ["one"]}, "client assertion kid: want one of the registered keys, got ['one']"),
    ],
)
def test_the_header_is_checked(issuer: DevelopmentIssuer, header: dict[str, Any], why: str) -> None:
    """Another algorithm, or a key that is not registered, is refused."""
    assert told(issuer, cluster_token(header=header)) == f"invalid_client: {why}"


def test_a_signature_of_another_key(issuer: DevelopmentIssuer) -> None:
    """It is refused with the name of the key."""
    want = "invalid_client: client assertion: want it signed by the key one, got another signature"
    assert told(issuer, cluster_token("another")) == want


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"more": 1}, "Object contains unknown field `more`"),
        ({"jwks": {"keys": []}}, "JWKS: want 1 to 32 keys, got another"),
        ({"jwks": {"keys": [{"kty": "oct", "kid": "one", "k": "AAAA"}]}}, "JWK: want kid and kty, RSA or EC"),
        (
            {"jwks": {"keys": [{**jwk_of(key_of("cluster")), "d": "AQAB"}]}},
            "JWK: want a public key, got a priv",
        ),
        (
            {"jwks": {"keys": [{**jwk_of(key_of("cluster")), "alg": "RS512"}]}},
            "want a key that signs by RS256",
        ),
        (
            {"issuer": "http://cluster.example"},
            "want client, subject, audience, and an issuer that is an https",
        ),
        ({"subject": ""}, "want client, subject, audience, and an issuer that is an https URL"),
        ({"audience": "a" * 601}, "want client, subject, audience, and an issuer that is an https URL"),
    ],
)
def test_a_file_that_registers_nothing(changed: dict[str, Any], why: str) -> None:
    """A file of another shape, or with malformed keys, is named, with the expected form."""
    with pytest.raises(UsageError) as caught:
        federated(**changed)
    assert caught.value.message.startswith(f"federated.json: {why}")


def test_a_file_that_is_no_json() -> None:
    """It is named, however deep it goes; what is left out has a default, or is missed."""
    for data in (b"{", b"[" * 100_000):
        with pytest.raises(UsageError, match=r"^federated\.json: "):
            Federated.of_json(data, "federated.json")
    whole = json.loads(document())
    del whole["jwks"]
    with pytest.raises(UsageError, match="missing required field `jwks`"):
        Federated.of_json(json.dumps(whole).encode(), "federated.json")
    assert federated().audience == "api://AzureADTokenExchange"
