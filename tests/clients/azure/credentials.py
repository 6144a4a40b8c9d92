"""How clients come to a token: azure-identity, challenges, and what the clients refuse themselves."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import requests
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.identity import DefaultAzureCredential, EnvironmentCredential
from azure.identity.aio import ClientSecretCredential as AsyncCredential
from azure.keyvault.keys.aio import KeyClient as AsyncKeys
from azure.security.attestation import AttestationClient
from azure.security.attestation.aio import AttestationClient as AsyncAttester
from scenario import ATTEST, Static, World, fresh, raises, refused, scenario

HELLO = b"hello"
VAULT = "https://vault.azure.net/.default"


@contextmanager
def variables(**given: str) -> Iterator[None]:
    """These in the environment, for a while."""
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@scenario("ClientSecretCredential(authority=the development issuer).get_token; PyJWT")
def client_secret(world: World) -> None:
    authorization = world.authorization
    token = world.credential("reader").get_token(ATTEST).token
    found = requests.get(
        f"{authorization}/v2.0/.well-known/openid-configuration", verify=world.ca, timeout=300
    ).json()
    (key,) = requests.get(found["jwks_uri"], verify=world.ca, timeout=300).json()["keys"]
    claims = jwt.decode(
        token, jwt.PyJWK(key).key, ["RS256"], audience="https://attest.azure.net", issuer=found["issuer"]
    )
    assert claims["roles"]
    assert claims["sub"] == "reader"


@scenario("ClientSecretCredential with a wrong secret, and with a client that is none")
def client_secret_that_is_wrong(world: World) -> None:
    for name, secret in (("admin", "guess"), ("nobody", "guess")):
        with raises(ClientAuthenticationError, "want a pair of clients.json"):
            world.credential(name, secret=secret).get_token(ATTEST)


@scenario("EnvironmentCredential and DefaultAzureCredential from AZURE_* variables, REQUESTS_CA_BUNDLE")
def credential_of_the_environment(world: World) -> None:
    authority, _, tenant = world.authorization.rpartition("/")
    given = {
        "AZURE_TENANT_ID": tenant,
        "AZURE_CLIENT_ID": "workload",
        "AZURE_CLIENT_SECRET": world.secrets["workload"],
        "AZURE_AUTHORITY_HOST": authority,
        "REQUESTS_CA_BUNDLE": world.ca,
    }
    with variables(**given):
        for kind in (EnvironmentCredential, DefaultAzureCredential):
            credential = kind(disable_instance_discovery=True)
            client = AttestationClient(world.attestation, credential, retry_total=0)
            client.attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)


@scenario("aio ClientSecretCredential, aio C and aio K")
def asynchronous_clients(world: World) -> None:
    quote, name = world.quote(HELLO), fresh("k")

    async def ask() -> None:
        async with world.credential("admin", AsyncCredential) as credential:
            async with AsyncAttester(world.attestation, credential, **world.usual) as client:
                result, _ = await client.attest_sgx_enclave(quote, runtime_data=HELLO)
                assert result.enclave_held_data == HELLO
            async with AsyncKeys(world.vault, credential, **world.usual) as keys:
                made = await keys.create_ec_key(name)
                assert (await keys.get_key(name)).id == made.id

    asyncio.run(ask())


@scenario("C with any object that has get_token; without one; over http")
def plain_credentials(world: World) -> None:
    credential = Static()
    client = world.attester(credential=credential)
    client.attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)
    assert credential.asked[0][0] == (ATTEST,)
    with raises(ValueError):
        AttestationClient(world.attestation, None)
    client = AttestationClient(world.attestation.replace("https", "http"), credential, retry_total=0)
    with raises(ServiceRequestError, "not permitted for non-TLS protected (non-https) URLs"):
        client.attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)
    slashed = AttestationClient(world.attestation + "/", credential, **world.usual)
    slashed.attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)
    nobody = AttestationClient(
        world.attestation, credential, authentication_policy=SansIOHTTPPolicy(), **world.usual
    )
    nobody.attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)


@scenario("clients that do not trust the authority of the TLS")
def another_authority(world: World) -> None:
    for client in (
        AttestationClient(world.attestation, Static(), retry_total=0),
        world.keys(connection_verify=True),
    ):
        call = getattr(client, "get_open_id_metadata", None) or (lambda c=client: c.get_key("k"))
        with raises(ServiceRequestError, "CERTIFICATE_VERIFY_FAILED"):
            call()


@scenario(
    "K on a host that its challenge does not match; with verify_challenge_resource=False; over http", 46
)
def challenges(world: World) -> None:
    name, port = fresh("k"), world.vault.rpartition(":")[2]
    here, credential = f"https://localhost:{port}", Static(world.known("admin").get_token(VAULT).token)
    with raises(ValueError, "does not match the requested domain"):
        world.keys(url=here, credential=credential).create_ec_key(name)
    assert credential.asked == []
    made = world.keys(url=here, verify_challenge_resource=False).create_ec_key(name)
    assert made.id.startswith(f"{here}/keys/{name}/")
    with raises(ServiceRequestError, "not permitted for non-TLS protected (non-https) URLs"):
        world.keys(url=world.vault.replace("https", "http")).get_key(name)
    with refused(404, "KeyNotFound"):
        world.keys().get_key(fresh("none"))


@contextmanager
def resolved(suffix: str) -> Iterator[None]:
    """Names that end so are this machine, as a wildcard record of DNS would have it."""
    real = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if str(host).endswith(suffix) else host, *rest, **more)

    socket.getaddrinfo = resolve
    try:
        yield
    finally:
        socket.getaddrinfo = real


@scenario("K as https://NAME.vault.localhost:PORT: the challenge is for the name that was asked")
def vault_by_name(world: World) -> None:
    name, port = fresh("k"), world.vault.rpartition(":")[2]
    url = f"https://mine.vault.localhost:{port}"
    with resolved(".vault.localhost"):
        made = world.keys(url=url).create_ec_key(name)
        assert made.id.startswith(f"{url}/keys/{name}/")
        assert world.keys(url=url.replace("mine", "other")).get_key(name).name == name
    assert world.keys().get_key(name).name == name


@scenario("K's first request: the challenge comes before anything is said of a key, and for an empty body")
def first_request(world: World) -> None:
    url = f"{world.vault}/keys/k/create?api-version=2025-07-01"
    for path in (url, url.replace("k/create", "none/")):
        answer = requests.post(path, verify=world.ca, timeout=300)
        assert answer.status_code in (401, 405), answer.text
    answer = requests.post(url, verify=world.ca, timeout=300)
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith(f'Bearer authorization="{world.authorization}"')
    assert 'resource="api://0.0.1:' in challenge
    error = answer.json()["error"]
    assert error["code"] == "Unauthorized"
    assert error["message"].startswith("AKV10000: Request is missing a Bearer or PoP token")
    with refused(401, "Unauthorized", kind=ClientAuthenticationError):
        world.keys(credential=Static()).get_key("k")
    with refused(403, "Forbidden"):
        world.keys("reader").create_ec_key(fresh("k"))
    with refused(401, "Unauthorized", "AKV10022: Invalid audience. Expected https://vault.azure.net or "):
        world.keys(credential=Static(world.known("admin").get_token(ATTEST).token)).get_key("k")


@scenario("K of a client whose tokens are stale: insufficient_claims, a newer token, and the answer", 49)
def stale_token(world: World) -> None:
    name = fresh("k")
    world.keys().create_ec_key(name)

    class Counted:
        def __init__(self) -> None:
            self.claims: list[str | None] = []
            self._real = world.credential("stale")

        def get_token(self, *scopes: str, claims: str | None = None, **options: Any) -> Any:
            self.claims.append(claims)
            return self._real.get_token(*scopes, claims=claims, **options)

    credential = Counted()
    found = world.keys(credential=credential).get_key(name)
    assert found.name == name
    plain, asked = credential.claims
    assert plain is None
    assert "nbf" in json.loads(asked or "")["access_token"]
    token = world.known("stale").get_token(VAULT).token
    answer = requests.get(
        f"{world.vault}/keys/{name}/?api-version=7.4",
        headers={"Authorization": f"Bearer {token}"},
        verify=world.ca,
        timeout=300,
    )
    assert answer.status_code == 401
    assert 'error="insufficient_claims"' in answer.headers["www-authenticate"]
    encoded = answer.headers["www-authenticate"].partition('claims="')[2].rstrip('"')
    assert "access_token" in json.loads(base64.b64decode(encoded))
