"""The development issuer: whom it gives a token, and that a service accepts it."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from kluis.errors import FormatError
from kluis.serve.issuer import CLAIMS_WANTED, TENANT, DevelopmentIssuer
from kluis.services.web import Bearer, Issuer
from tests.serve.issuer.asserting import claims_of, issuer_in, jwk_of, key_of
from tests.services.asking import ask
from tests.services.web.issuer import NOW, FixedClock

URL = "https://localhost:8446"
ROLES = {"admin": ("Attestation Contributor", "Key Vault Crypto Officer"), "reader": ("Attestation Reader",)}
RESOURCE = "https://vault.example"
PUBLIC = json.dumps(jwk_of(key_of("admin"))).encode()


@pytest.fixture
def issuer(tmp_path: Path) -> DevelopmentIssuer:
    """One with two clients."""
    return issuer_in(tmp_path, ROLES)


def post(issuer: DevelopmentIssuer, form: dict[str, Any]) -> httpx.Response:
    """Ask for a token."""
    return ask(issuer.application(), "POST", f"/{TENANT}/oauth2/v2.0/token", base=URL, data=form)


def get(issuer: DevelopmentIssuer, path: str) -> Any:
    """Read a document."""
    return ask(issuer.application(), "GET", f"/{TENANT}{path}", base=URL).json()


def form(issuer: DevelopmentIssuer, name: str = "admin", **changed: Any) -> dict[str, Any]:
    """What a client posts."""
    given = {
        "grant_type": "client_credentials",
        "client_id": name,
        "client_secret": issuer.clients[name].secret,
        "scope": f"{RESOURCE}/.default",
    }
    return {**given, **changed}


def test_a_service_accepts_its_tokens(issuer: DevelopmentIssuer) -> None:
    """A token of the issuer verifies with its published keys, for the requested resource, with its roles."""
    answer = post(issuer, form(issuer)).json()
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3600)
    keys = get(issuer, "/discovery/v2.0/keys")
    bearer = Bearer(Issuer(issuer.issuer, (RESOURCE,), json.dumps(keys)))
    caller = bearer.check(f"Bearer {answer['access_token']}", NOW)
    assert (caller.subject, caller.roles) == ("admin", set(ROLES["admin"]))
    assert "d" not in keys["keys"][0]


def test_its_metadata_names_its_endpoints(issuer: DevelopmentIssuer) -> None:
    """The discovery document has what a client needs, under the tenant."""
    document = get(issuer, "/v2.0/.well-known/openid-configuration")
    assert document["issuer"] == issuer.issuer == f"{URL}/{TENANT}/v2.0"
    assert document["token_endpoint"] == f"{URL}/{TENANT}/oauth2/v2.0/token"
    assert get(issuer, "/.well-known/openid-configuration") == document


@pytest.mark.parametrize(
    ("scope", "audience"),
    [
        (f"{RESOURCE}/.default openid offline_access profile", RESOURCE),
        (f"openid profile offline_access {RESOURCE}/.default", RESOURCE),
        (f"{RESOURCE}//.default", f"{RESOURCE}/"),
    ],
)
def test_what_others_write_of_scopes(issuer: DevelopmentIssuer, scope: str, audience: str) -> None:
    """MSAL for Go and Java also requests a user's scopes; a resource's name may end with a slash."""
    token = post(issuer, form(issuer, scope=scope)).json()["access_token"]
    assert claims_of(token)["aud"] == audience


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"client_secret": "guess"}, 401, "invalid_client"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"client_secret": "é"}, 401, "invalid_client"),
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"scope": RESOURCE}, 400, "invalid_scope"),
        ({"scope": f"{RESOURCE}/.default other/.default"}, 400, "invalid_scope"),
        ({"scope": "/.default"}, 400, "invalid_scope"),
        ({"scope": f"https://{'x' * 1024}/.default"}, 400, "invalid_scope"),
        ({"scope": "openid profile"}, 400, "invalid_scope"),
        ({"filler": "x" * 20_000}, 413, "invalid_request"),
        ({"client_id": ["reader", "admin"]}, 400, "invalid_request"),
        ({f"f{number}": "x" for number in range(64)}, 400, "invalid_request"),
    ],
)
def test_nobody_else_gets_one(
    issuer: DevelopmentIssuer, changed: dict[str, str], status: int, code: str
) -> None:
    """A wrong secret, grant or scope is refused with the code that OAuth has for it."""
    answer = post(issuer, form(issuer, **changed))
    assert (answer.status_code, answer.json()["error"]) == (status, code)


@pytest.mark.parametrize("name", ["grant_type", "client_id", "scope"])
def test_what_every_request_has(issuer: DevelopmentIssuer, name: str) -> None:
    """A missing parameter is reported first, by Entra's number."""
    answer = post(issuer, {**form(issuer), "client_secret": "guess", name: ""})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert answer.json()["error_description"].startswith("AADSTS900144: ")
    assert f"'{name}'" in answer.json()["error_description"]


def test_clients_are_the_same_at_the_next_start(tmp_path: Path) -> None:
    """Key and secrets are kept, a new client is added, and all files are private to this user."""
    issuer = DevelopmentIssuer.load_or_create(tmp_path, URL, ROLES, FixedClock())
    again = DevelopmentIssuer.load_or_create(tmp_path, URL, {**ROLES, "new": ()}, FixedClock())
    assert again.jwks() == issuer.jwks()
    assert {name: again.clients[name] for name in ROLES} == dict(issuer.clients)
    assert "new" in again.clients
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_secret_is_not_shown(issuer: DevelopmentIssuer) -> None:
    """No repr has a client's secret."""
    assert issuer.clients["admin"].secret not in repr(issuer.clients)


def test_a_stale_clients_tokens_are_marked_until_claims_are_asked_for(tmp_path: Path) -> None:
    """A client that is marked stale gets marked tokens, and an unmarked one after the claims challenge."""
    issuer = issuer_in(tmp_path, {"stale": (), "other": ()}, stale=frozenset({"stale"}))
    assert not issuer.clients["other"].stale
    bearer = Bearer(Issuer(issuer.issuer, (RESOURCE,), json.dumps(issuer.jwks())))
    marked = post(issuer, form(issuer, "stale")).json()["access_token"]
    claims = '{"access_token": {"nbf": {"essential": true, "value": "1"}}}'
    fresh = post(issuer, form(issuer, "stale", claims=claims)).json()
    odd = post(issuer, form(issuer, "stale", claims="[" * 4000)).json()
    assert bearer.check(f"Bearer {marked}", NOW).claims[CLAIMS_WANTED].startswith('{"access_token"')
    assert CLAIMS_WANTED not in bearer.check(f"Bearer {fresh['access_token']}", NOW).claims
    assert CLAIMS_WANTED in bearer.check(f"Bearer {odd['access_token']}", NOW).claims


def test_another_tenant_is_unknown(issuer: DevelopmentIssuer) -> None:
    """Every endpoint refuses it in the shape that clients read, before anything else is looked at."""
    other = "11111111-1111-4111-8111-111111111111"
    for method, path in (
        ("GET", "/v2.0/.well-known/openid-configuration"),
        ("GET", "/discovery/v2.0/keys"),
        ("POST", "/oauth2/v2.0/token"),
    ):
        answer = ask(issuer.application(), method, f"/{other}{path}", base=URL)
        assert (answer.status_code, answer.json()) == (
            400,
            {
                "error": "invalid_tenant",
                "error_description": f"AADSTS90002: tenant: want {TENANT}, got '{other}'",
                "error_codes": [90002],
            },
        )


def test_a_body_that_is_no_form(issuer: DevelopmentIssuer) -> None:
    """Bytes beyond ASCII are refused, and for a secret in a form the token states that credential."""
    path = f"/{TENANT}/oauth2/v2.0/token"
    answer = ask(issuer.application(), "POST", path, base=URL, content=b"\xff")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert claims_of(post(issuer, form(issuer)).json()["access_token"])["appidacr"] == "1"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"1",
        b"[" * 100_000,
        b'{"kty": "oct", "k": "AAAA"}',
        b'{"kty": "RSA"}',
        PUBLIC,
    ],
)
def test_a_key_that_is_another(tmp_path: Path, data: bytes) -> None:
    """What is no private key is refused by the file's name, and not replaced."""
    path = tmp_path / "signing.jwk"
    path.touch(0o600)
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        DevelopmentIssuer.load_or_create(tmp_path, URL, ROLES, FixedClock())
    assert caught.value.message == f"{path}: want the JSON Web Key of an RSA private key, got another"
    assert path.read_bytes() == data


@pytest.mark.parametrize("data", [b"{", b"{}", b'[{"id": "admin"}]', b"[" * 100_000])
def test_clients_that_are_others(tmp_path: Path, data: bytes) -> None:
    """What is no list of clients is refused likewise."""
    path = tmp_path / "clients.json"
    path.touch(0o600)
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        DevelopmentIssuer.load_or_create(tmp_path, URL, ROLES, FixedClock())
    assert caught.value.message.startswith(f"{path}: ")


def test_it_lives(issuer: DevelopmentIssuer) -> None:
    """It answers health requests of anyone."""
    assert ask(issuer.application(), "GET", "/health/live", base=URL).json() == {"status": "live"}


@pytest.mark.parametrize(
    ("method", "path", "status", "why"),
    [
        ("GET", "/", 404, "path: want one of the issuer's, got '/'"),
        (
            "GET",
            f"/{TENANT}/oauth2/token",
            404,
            f"path: want one of the issuer's, got '/{TENANT}/oauth2/token'",
        ),
        ("GET", f"/{TENANT}/oauth2/v2.0/token", 405, "method: want POST, got 'GET'"),
        ("PUT", "/health/live", 405, "method: want GET or HEAD, got 'PUT'"),
    ],
)
def test_what_there_is_not(issuer: DevelopmentIssuer, method: str, path: str, status: int, why: str) -> None:
    """A path and a method that it does not have are refused in the shape of every refusal."""
    answer = ask(issuer.application(), method, path, base=URL)
    assert (answer.status_code, answer.json()) == (
        status, {"error": "invalid_request", "error_description": why},
    )  # fmt: skip
    assert ("allow" in answer.headers) is (status == 405)


class Stopped(FixedClock):
    """A clock that does not work."""

    def now(self) -> datetime:
        """Nothing."""
        raise ZeroDivisionError("the spring is broken")


def test_a_bug_of_its_own(tmp_path: Path) -> None:
    """It is reported in the same form, without details."""
    issuer = issuer_in(tmp_path, ROLES, Stopped())
    transport = httpx.ASGITransport(issuer.application(), raise_app_exceptions=False)

    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url=URL, timeout=120) as client:
            return await client.post(f"/{TENANT}/oauth2/v2.0/token", data=form(issuer))

    answer = asyncio.run(run())
    assert (answer.status_code, answer.json()) == (
        500, {"error": "server_error", "error_description": "the issuer could not answer"},
    )  # fmt: skip
