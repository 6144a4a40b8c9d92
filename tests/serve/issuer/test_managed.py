"""A managed identity's endpoints: whom they answer, in Azure's shape, and whom not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from kluis.serve.issuer import APPLICATION_PATH, DevelopmentIssuer
from kluis.services.web import Bearer, Issuer
from tests.serve.issuer.asserting import AT, URL, claims_of, issuer_of
from tests.services.asking import ask
from tests.services.web.issuer import NOW

HOST = "127.0.0.1:8447"
PATH = "/metadata/identity/oauth2/token"
RESOURCE = "https://vault.example"


@pytest.fixture
def issuer(tmp_path: Path) -> DevelopmentIssuer:
    """The issuer as ``kluis serve`` has it."""
    return issuer_of(tmp_path)


def machine(
    issuer: DevelopmentIssuer,
    headers: dict[str, str] | None = None,
    host: str = HOST,
    method: str = "GET",
    **asked: Any,
) -> httpx.Response:
    """Call the machine's endpoint; a parameter with value None is left out."""
    parameters = {"api-version": "2018-02-01", "resource": RESOURCE, **asked}
    return ask(
        issuer.insecure_managed_identity(frozenset({HOST, "localhost:8447"})),
        method,
        PATH,
        base=f"http://{host}",
        params={name.replace("_v", "-v"): one for name, one in parameters.items() if one is not None},
        headers={"Metadata": "true"} if headers is None else headers,
    )


def application(
    issuer: DevelopmentIssuer, secret: str | bytes, headers: dict[str, str] | None = None, **asked: Any
) -> httpx.Response:
    """Ask the application's endpoint."""
    shown = {b"X-IDENTITY-HEADER": secret, **(headers or {})}
    return _asked(issuer, shown, {"api-version": "2019-08-01", **asked})


def _asked(
    issuer: DevelopmentIssuer, headers: Mapping[Any, str | bytes], asked: Mapping[str, Any]
) -> httpx.Response:
    params = {"resource": RESOURCE, **asked}
    return ask(issuer.application(), "GET", APPLICATION_PATH, base=URL, params=params, headers=headers)


def test_the_machines_answer_is_azures(issuer: DevelopmentIssuer) -> None:
    """Its members are Azure's, numbers as text; the token verifies, and states that no credential was
    used.
    """
    for asked in ({}, {"client_id": "workload"}):
        answer = machine(issuer, host="localhost:8447", **asked).json()
        token = answer.pop("access_token")
        assert answer == {
            "client_id": "workload",
            "expires_in": "3600",
            "ext_expires_in": "3600",
            "expires_on": str(AT + 3600),
            "not_before": str(AT),
            "resource": RESOURCE,
            "token_type": "Bearer",
        }
        caller = Bearer(Issuer(issuer.issuer, (RESOURCE,), json.dumps(issuer.jwks()))).check(
            f"Bearer {token}", NOW
        )
        assert caller.subject == "workload"
        assert caller.roles == {"Attestation Reader", "Key Vault Crypto Service Release User"}
        assert claims_of(token)["appidacr"] == "0"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"client_id": "admin"}, "client_id: want workload or none, got 'admin'"),
        ({"client_id": ["workload", "admin"]}, "query: want each parameter once, got one twice"),
        ({"object_id": "1"}, "object_id: want an identity by client_id, or none, got this"),
        ({"principalId": "1"}, "principalId: want an identity by client_id, or none, got this"),
        ({"msi_res_id": "1"}, "msi_res_id: want an identity by client_id, or none, got this"),
        ({"resource": None}, "resource: want one, of at most 1024 characters"),
        ({"resource": "x" * 1025}, "resource: want one, of at most 1024 characters"),
        ({"api_version": "2017-01-01"}, "api-version: want 2018-02-01, got '2017-01-01'"),
        ({"api_version": None}, "api-version: want 2018-02-01, got None"),
    ],
)
def test_what_the_machine_is_asked(issuer: DevelopmentIssuer, asked: dict[str, Any], why: str) -> None:
    """Another identity, or a request that is not Azure's, is refused in MSAL's shape."""
    if "api_version" in asked:
        asked = {"api-version": asked["api_version"]}
    answer = machine(issuer, **asked)
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "invalid_request", "error_description": why},
    )


def test_the_machine_is_read_only(issuer: DevelopmentIssuer) -> None:
    """It only answers GET, and at no other path; the issuer over TLS has no such path."""
    assert machine(issuer, method="POST").status_code == 405
    assert ask(issuer.application(), "GET", PATH, base=URL, headers={"Metadata": "true"}).status_code == 404


@pytest.mark.parametrize("name", ["workload", "reader"])
def test_an_applications_answer(issuer: DevelopmentIssuer, name: str) -> None:
    """The header is the secret of the requested client, workload by default."""
    asked = {} if name == "workload" else {"client_id": name}
    answer = application(issuer, issuer.clients[name].secret, **asked).json()
    assert (answer["client_id"], answer["expires_on"]) == (name, str(AT + 3600))
    said = claims_of(answer["access_token"])
    assert (said["sub"], said["appidacr"]) == (name, "1")


def test_an_applications_refusal(issuer: DevelopmentIssuer) -> None:
    """Another secret, another's, or none: refused in App Service's shape."""
    secret = issuer.clients["workload"].secret
    told = {
        "statusCode": 401,
        "message": "X-IDENTITY-HEADER: want the secret, in clients.json, of the requested client, got"
        " another",
    }
    for given, asked in (
        ("guess", {}),
        ("", {}),
        (b"\xe9", {}),
        (secret, {"client_id": "admin"}),
        (secret, {"client_id": "nobody"}),
    ):
        answer = application(issuer, given, **asked)
        assert (answer.status_code, answer.json()) == (401, told)
    answer = application(issuer, secret, {"X-Forwarded-For": "10.0.0.1"})
    assert answer.json()["message"] == "X-Forwarded-For: want none, for nothing here is for others, got one"
    answer = application(issuer, secret, resource="")
    assert (answer.status_code, answer.json()["statusCode"]) == (400, 400)


def container(
    issuer: DevelopmentIssuer, secret: str, headers: dict[str, str] | None = None, **asked: Any
) -> httpx.Response:
    """Ask as the sidecar of confidential containers does in Container Instances."""
    return _asked(issuer, {"secret": secret, **(headers or {})}, asked)


@pytest.mark.parametrize("name", ["workload", "reader"])
def test_a_containers_answer(issuer: DevelopmentIssuer, name: str) -> None:
    """Its header, its identity and any version are accepted; every member is text, as Go reads it."""
    asked = {} if name == "workload" else {"principalId": name}
    secret = issuer.clients[name].secret
    for more in ({}, {"api-version": "1.0"}):
        answer = container(issuer, secret, **asked, **more).json()
        assert all(isinstance(each, str) for each in answer.values())
        assert (answer["client_id"], answer["not_before"], answer["resource"]) == (name, str(AT), RESOURCE)
        assert claims_of(answer["access_token"])["sub"] == name


def test_a_containers_refusal(issuer: DevelopmentIssuer) -> None:
    """Another secret, another's name, an identity by another parameter, or both headers: refused."""
    secret = issuer.clients["workload"].secret
    told = "SECRET: want the secret, in clients.json, of the requested client, got another"
    for given, asked in (("guess", {}), ("", {}), (secret, {"principalId": "admin"})):
        answer = container(issuer, given, **asked)
        assert (answer.status_code, answer.json()) == (401, {"statusCode": 401, "message": told})
    answer = container(issuer, secret, client_id="workload")
    assert answer.json()["message"] == "client_id: want an identity by principalId, or none, got this"
    for name in ("X-IDENTITY-HEADER", "X-Identity-Header"):
        answer = container(issuer, secret, {name: secret})
        assert (answer.status_code, answer.json()["message"]) == (
            400,
            "X-IDENTITY-HEADER, secret: want one of them, once",
        )
