"""Those who want a token of the development issuer that is not theirs: each gets none, and reads why."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.formats.encoding import b64
from kluis.serve.issuer import TENANT, DevelopmentIssuer
from tests.serve.issuer.asserting import (
    AT,
    URL,
    Client,
    cluster_token,
    federated,
    form_of,
    issuer_of,
    jwk_of,
    post,
    sign,
    told,
)
from tests.services.asking import ask

WORKLOAD, READER, STRANGER = Client("workload"), Client("reader"), Client("workload", "stranger")
HOSTS = frozenset({"127.0.0.1:8447", "localhost:8447"})


@pytest.fixture
def issuer(tmp_path: Path) -> DevelopmentIssuer:
    """One with certificates of two clients, and an account of a cluster."""
    return issuer_of(tmp_path, WORKLOAD, READER, federated())


@pytest.mark.parametrize("known", [WORKLOAD.assertion(), cluster_token()], ids=["certificate", "cluster"])
@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "RS256 ", "ES256", None, ["RS256"]])
def test_an_algorithm_without_the_clients_key(issuer: DevelopmentIssuer, known: str, algorithm: Any) -> None:
    """No signature, a MAC under a key that all have, another kind of key: refused by the algorithm's name."""
    header, claims = (json.loads(b64.decode_url(part, "part")) for part in known.split(".")[:2])
    pem = WORKLOAD.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    keys = {"HS256": pem, "ES256": ec.generate_private_key(ec.SECP256R1())}
    signed = sign({**header, "alg": "none"}, claims, None)
    if algorithm in ("HS256", "ES256"):
        signed = sign({**header, "alg": algorithm}, claims, keys[algorithm])
    else:
        head = b64.encode_url(json.dumps({**header, "alg": algorithm}).encode())
        signed = f"{head}.{signed.split('.', 1)[1]}"
    want = "RS256 or PS256" if "x5t" in header else "RS256"
    assert told(issuer, signed) == f"invalid_client: client assertion alg: want {want}, got {algorithm!a}"


def test_the_certificate_of_another_client(issuer: DevelopmentIssuer) -> None:
    """A client that is known signs for another: its certificate is not that one's."""
    forged = READER.assertion(iss="workload", sub="workload")
    assert told(issuer, forged).startswith(
        "invalid_client: AADSTS700027: client assertion header: want a certificate registered for workload"
    )
    named = READER.assertion({"x5t": WORKLOAD.x5t}, iss="workload", sub="workload")
    assert told(issuer, named).startswith("invalid_client: AADSTS700027: client assertion: want it signed by")
    both = READER.assertion(
        {"x5t": WORKLOAD.x5t, "x5t#S256": READER.x5t_s256}, iss="workload", sub="workload"
    )
    assert told(issuer, both).startswith("invalid_client: AADSTS700027: client assertion header: want")


def test_a_key_that_the_assertion_brings_along(issuer: DevelopmentIssuer) -> None:
    """``x5c``, ``jwk`` and ``jku`` of a header count for nothing, and nothing is fetched."""
    brought = {"x5c": STRANGER.x5c, "jwk": jwk_of(STRANGER.key), "jku": "https://stranger.example/keys"}
    forged = STRANGER.assertion({"x5t": WORKLOAD.x5t, **brought})
    assert "want it signed by the key" in told(issuer, forged)
    assert "want a certificate registered for workload" in told(issuer, STRANGER.assertion(brought))
    assert "want it signed by the key one" in told(issuer, cluster_token("stranger", header=brought))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_bit_that_is_flipped(issuer: DevelopmentIssuer, part: int) -> None:
    """In the header, the claims or the signature: each is refused."""
    parts = WORKLOAD.assertion(x="x").split(".")
    data = bytearray(b64.decode_url(parts[part], "part"))
    data[-3] ^= 1
    parts[part] = b64.encode_url(bytes(data))
    assert told(issuer, ".".join(parts)) != "token"
    assert told(issuer, WORKLOAD.assertion(x="x")) == "token"


@pytest.mark.parametrize("known", [WORKLOAD.assertion(jti="one"), cluster_token()], ids=["own", "cluster"])
def test_assertions_that_are_changed_at_random(issuer: DevelopmentIssuer, known: str) -> None:
    """Of a hundred, each is refused with a word of OAuth's, and none makes the issuer fail."""
    chance = random.Random(0)
    for _ in range(100):
        parts = [bytearray(b64.decode_url(part, "part")) for part in known.split(".")]
        changed = chance.choice(parts)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        forged = ".".join(b64.encode_url(bytes(part)) for part in parts)
        if forged != known:
            assert told(issuer, forged).startswith("invalid_client: ")


def test_an_assertion_that_was_overheard(issuer: DevelopmentIssuer) -> None:
    """Shown again it is a replay, however it is written; and it names no other client."""
    overheard = WORKLOAD.assertion(jti="one")
    assert told(issuer, overheard) == "token"
    head, body, signature = overheard.split(".")
    other = signature.replace("-", "+").replace("_", "/")
    for again in (overheard, f"{overheard}==", f"{head}.{body}.{other}"):
        said = told(issuer, again)
        assert said.endswith("client assertion jti: want one that was not shown before, got 'one' again")
    assert "AADSTS700027" in told(issuer, overheard, "reader")


def test_those_who_show_it_at_once(issuer: DevelopmentIssuer) -> None:
    """Of many who show one assertion in the same moment, one gets a token."""
    form = form_of(WORKLOAD.assertion())

    async def show() -> list[int]:
        transport = httpx.ASGITransport(issuer.application())
        async with httpx.AsyncClient(transport=transport, base_url=URL, timeout=120) as client:
            asked = [client.post(f"/{TENANT}/oauth2/v2.0/token", data=form) for _ in range(8)]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert sorted(asyncio.run(show())) == [200] + [401] * 7


def test_the_issuers_own_token_is_no_assertion(issuer: DevelopmentIssuer) -> None:
    """What it issued proves nothing to it: its issuer is registered for nobody."""
    token = post(issuer, form_of(WORKLOAD.assertion())).json()["access_token"]
    assert told(issuer, token).startswith("invalid_client: AADSTS700211: client assertion iss: want ")


def test_a_clusters_other_accounts_and_other_audiences(issuer: DevelopmentIssuer) -> None:
    """An account that is not registered, and a token that was meant for another service, are refused."""
    other = told(issuer, cluster_token(sub="system:serviceaccount:sums:other"))
    assert other.startswith("invalid_client: AADSTS700213: ")
    for audience in ("https://kubernetes.default.svc", [], ["api://AzureADTokenExchange"] * 2, [[]], {}):
        assert told(issuer, cluster_token(aud=audience)).startswith("invalid_client: AADSTS700212: ")
    assert "AADSTS700027" not in told(issuer, cluster_token(iss="workload"))
    assert told(issuer, cluster_token(), "reader") != "token"


def test_a_cluster_that_calls_itself_a_client(issuer: DevelopmentIssuer) -> None:
    """A token of the cluster that has the client as issuer is held to the client's certificate."""
    forged = cluster_token(iss="workload", sub="workload", exp=AT + 600, jti="one")
    assert told(issuer, forged) == "invalid_client: client assertion header: want x5t or x5t#S256, got none"


@pytest.mark.parametrize("size", [17_000, 4_000_000])
def test_a_body_without_end(issuer: DevelopmentIssuer, size: int) -> None:
    """It is refused at 16 KiB, whatever it is."""
    answer = post(issuer, form_of("a" * size))
    assert answer.status_code == 413
    assert answer.json()["error_description"] == "body: want at most 16384 bytes, got more"


def machine(issuer: DevelopmentIssuer, host: str, headers: list[tuple[str, str]]) -> httpx.Response:
    """Ask the machine's own endpoint."""
    application = issuer.insecure_managed_identity(HOSTS)
    path = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.example"
    return ask(application, "GET", path, base=f"http://{host}", headers=headers)


@pytest.mark.parametrize(
    ("host", "headers", "why"),
    [
        ("127.0.0.1:8447", [], "Metadata header: want true, got []"),
        ("127.0.0.1:8447", [("Metadata", "True")], "Metadata header: want true, got ['True']"),
        ("127.0.0.1:8447", [("Metadata", "true")] * 2, "Metadata header: want true, got ['true', 'true']"),
        (
            "127.0.0.1:8447",
            [("Metadata", "true"), ("x-forwarded-for", "10.0.0.1")],
            "X-Forwarded-For: want none, for nothing here is for others, got one",
        ),
        (
            "127.0.0.1:8447",
            [("Metadata", "true"), ("Forwarded", "for=10.0.0.1")],
            "Forwarded: want none, for nothing here is for others, got one",
        ),
        (
            "rebound.example:8447",
            [("Metadata", "true")],
            "Host: want 127.0.0.1:8447 or localhost:8447, got 'rebound.example:8447'",
        ),
        (
            "127.0.0.1",
            [("Metadata", "true")],
            "Host: want 127.0.0.1:8447 or localhost:8447, got '127.0.0.1'",
        ),
    ],
    ids=["fetched", "capital", "twice", "proxied", "forwarded", "rebound", "other-port"],
)
def test_a_server_or_a_page_that_is_made_to_ask(
    issuer: DevelopmentIssuer, host: str, headers: list[tuple[str, str]], why: str
) -> None:
    """A server that fetches for others, a proxy, a page by its own name: none has the machine's token."""
    answer = machine(issuer, host, headers)
    assert (answer.status_code, answer.json()["error_description"]) == (400, why)
    assert machine(issuer, "127.0.0.1:8447", [("Metadata", "true")]).status_code == 200


def test_a_page_may_not_ask_across_origins(issuer: DevelopmentIssuer) -> None:
    """A browser's preflight request for the header gets no permission."""
    application = issuer.insecure_managed_identity(HOSTS)
    path = "/metadata/identity/oauth2/token"
    asked = {"Origin": "https://page.example", "Access-Control-Request-Headers": "metadata"}
    answer = ask(application, "OPTIONS", path, base="http://127.0.0.1:8447", headers=asked)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
