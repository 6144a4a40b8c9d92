"""Clients without a secret: certificates, federated assertions, managed identities, and the chain of all."""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    CertificateCredential,
    ClientAssertionCredential,
    CredentialUnavailableError,
    DefaultAzureCredential,
    EnvironmentCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)
from azure.identity.aio import CertificateCredential as AsyncCertificate
from azure.identity.aio import ManagedIdentityCredential as AsyncManaged
from azure.identity.aio import WorkloadIdentityCredential as AsyncWorkload
from credentials import HELLO, VAULT, variables
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import NoEncryption, load_pem_private_key, pkcs12
from msal.oauth2cli.assertion import JwtAssertionCreator
from scenario import ATTEST, World, fresh, parts_of, raises, refused, scenario

MACHINE = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"


def options(world: World) -> dict[str, Any]:
    """What every credential of a confidential client is given."""
    authority, _, _ = world.authorization.rpartition("/")
    return {"authority": authority, "disable_instance_discovery": True, "connection_verify": world.ca}


def tenant(world: World) -> str:
    """The issuer's."""
    return world.authorization.rpartition("/")[2]


def certificate(world: World, name: str = "workload", of: str | None = None, **more: Any) -> Any:
    """``CertificateCredential`` of a client, by its own certificate or another's."""
    path = world.proofs["certificates"][of or name]
    return CertificateCredential(tenant(world), name, path, **options(world), **more)


def account(world: World, **claims: Any) -> str:
    """A token of the cluster for its account, as it lies in a pod's file."""
    cluster, at = world.proofs["cluster"], int(time.time())
    said = {"iss": cluster["issuer"], "sub": cluster["subject"], "aud": ["api://AzureADTokenExchange"]}
    said |= {"iat": at, "nbf": at, "exp": at + 3600, **claims}
    return jwt.encode(said, Path(cluster["key"]).read_text(), "RS256", {"kid": cluster["kid"]})


@contextmanager
def file_of(token: str) -> Iterator[str]:
    """The file, for a while."""
    with tempfile.NamedTemporaryFile("w", suffix=".token") as file:
        file.write(token)
        file.flush()
        yield file.name


def shown(token: str) -> tuple[str, str]:
    """Whom a token is of, and how that was shown."""
    claims = parts_of(token)[1]
    return claims["sub"], claims["appidacr"]


def attests(world: World, credential: Any) -> None:
    """See a credential used where it may be: the service attests."""
    client = world.attester(credential=credential)
    result, _ = client.attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)
    assert result.enclave_held_data == HELLO


@scenario("CertificateCredential of PEM and of PKCS #12, with its chain or without, for C and for K")
def client_certificate(world: World) -> None:
    credential = certificate(world)
    attests(world, credential)
    assert shown(credential.get_token(VAULT).token) == ("workload", "2")
    with refused(403, "Forbidden"):
        world.keys(credential=credential).create_ec_key(fresh("k"))
    pem = Path(world.proofs["certificates"]["workload"]).read_bytes()
    key, found = load_pem_private_key(pem, None), x509.load_pem_x509_certificate(pem)
    pfx = pkcs12.serialize_key_and_certificates(b"", key, found, None, NoEncryption())  # type: ignore[arg-type]
    for more in ({"certificate_data": pfx}, {"certificate_data": pem, "send_certificate_chain": True}):
        one = CertificateCredential(tenant(world), "workload", **options(world), **more)
        assert shown(one.get_token(ATTEST).token) == ("workload", "2")


@scenario("aio CertificateCredential, which signs by PS256 and names its certificate by SHA-256")
def client_certificate_asynchronously(world: World) -> None:
    async def ask() -> None:
        path = world.proofs["certificates"]["workload"]
        async with AsyncCertificate(tenant(world), "workload", path, **options(world)) as credential:
            for scope in (ATTEST, VAULT):
                assert shown((await credential.get_token(scope)).token) == ("workload", "2")

    asyncio.run(ask())


@scenario("CertificateCredential with another's certificate, for a client that has none, in another tenant")
def client_certificate_that_is_wrong(world: World) -> None:
    with raises(ClientAuthenticationError, "AADSTS700027: client assertion header: want a certificate"):
        certificate(world, of="reader").get_token(ATTEST)
    with raises(ClientAuthenticationError, "--client-certificate admin=CERT.pem"):
        certificate(world, "admin", of="reader").get_token(ATTEST)
    path = world.proofs["certificates"]["workload"]
    nowhere = CertificateCredential(str(uuid.uuid4()), "workload", path, **options(world))
    with raises(ClientAuthenticationError, "Unable to get authority configuration"):
        nowhere.get_token(ATTEST)


@scenario("ClientAssertionCredential with what MSAL signs: another audience, too late, and shown twice")
def assertions_that_are_wrong(world: World) -> None:
    pem = Path(world.proofs["certificates"]["workload"]).read_bytes()
    thumbprint = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA1()).hex()
    creator = JwtAssertionCreator(pem.decode(), "RS256", thumbprint)

    def ask(audience: str, **more: Any) -> str:
        text = creator.create_normal_assertion(audience, "workload", **more).decode()
        return again(text)

    def again(text: str) -> str:
        credential = ClientAssertionCredential(tenant(world), "workload", lambda: text, **options(world))
        return credential.get_token(ATTEST).token

    endpoint = f"{world.authorization}/oauth2/v2.0/token"
    with raises(ClientAuthenticationError, f"AADSTS700023: client assertion aud: want {endpoint}, got "):
        ask(world.authorization)
    with raises(ClientAuthenticationError, "AADSTS700024: client assertion exp: want after "):
        ask(endpoint, expires_at=int(time.time()) - 90)
    with raises(ClientAuthenticationError, "AADSTS700024: client assertion nbf: want "):
        ask(endpoint, not_before=int(time.time()) + 90)
    text = creator.create_normal_assertion(endpoint, "workload").decode()
    assert shown(again(text)) == ("workload", "2")
    with raises(ClientAuthenticationError, "client assertion jti: want one that was not shown before"):
        again(text)


@scenario("WorkloadIdentityCredential, its aio form, ClientAssertionCredential: a cluster's token")
def workload_identity(world: World) -> None:
    token = account(world)
    with file_of(token) as path:
        given = {"tenant_id": tenant(world), "client_id": "workload", "token_file_path": path}
        credential = WorkloadIdentityCredential(**given, **options(world))
        attests(world, credential)
        assert shown(credential.get_token(VAULT).token) == ("workload", "2")

        async def ask() -> str:
            async with AsyncWorkload(**given, **options(world)) as one:
                return (await one.get_token(ATTEST)).token

        assert shown(asyncio.run(ask())) == ("workload", "2")
    for _ in range(2):
        one = ClientAssertionCredential(tenant(world), "workload", lambda: token, **options(world))
        assert shown(one.get_token(ATTEST).token) == ("workload", "2")


@scenario("WorkloadIdentityCredential with a token of another issuer, account, audience, time, key")
def workload_identity_that_is_wrong(world: World) -> None:
    for claims, why in (
        (
            {"iss": "https://other.example"},
            "AADSTS700211: client assertion iss: want https://cluster.example",
        ),
        ({"sub": "system:serviceaccount:sums:other"}, "AADSTS700213: client assertion sub: want "),
        ({"aud": "https://kubernetes.default.svc"}, "AADSTS700212: client assertion aud: want api://"),
        ({"exp": int(time.time()) - 90}, "AADSTS700024: client assertion exp: want after "),
    ):
        with file_of(account(world, **claims)) as path, raises(ClientAuthenticationError, why):
            WorkloadIdentityCredential(
                tenant_id=tenant(world), client_id="workload", token_file_path=path, **options(world)
            ).get_token(ATTEST)
    stranger = jwt.encode({"iss": "https://cluster.example"}, "guess" * 8, "HS256", {"kid": "one"})
    credential = ClientAssertionCredential(tenant(world), "workload", lambda: stranger, **options(world))
    with raises(ClientAuthenticationError, "client assertion alg: want RS256, got 'HS256'"):
        credential.get_token(ATTEST)


@scenario(
    "ManagedIdentityCredential as on a virtual machine, aio too; another identity; a server made to ask"
)
def managed_identity_of_a_machine(world: World) -> None:
    with variables(AZURE_POD_IDENTITY_AUTHORITY_HOST=world.proofs["machine"]):
        attests(world, ManagedIdentityCredential())
        named = ManagedIdentityCredential(client_id="workload")
        assert shown(named.get_token(VAULT).token) == ("workload", "0")
        with refused(403, "Forbidden"):
            world.keys(credential=named).create_ec_key(fresh("k"))
        with raises(CredentialUnavailableError, "client_id: want workload or none, got 'admin'"):
            ManagedIdentityCredential(client_id="admin").get_token(ATTEST)

        async def ask() -> str:
            async with AsyncManaged() as one:
                return (await one.get_token(ATTEST)).token

        assert shown(asyncio.run(ask())) == ("workload", "0")
    url = world.proofs["machine"] + MACHINE
    for headers in (
        {},
        {"Metadata": "true", "X-Forwarded-For": "10.0.0.1"},
        {"Metadata": "true", "Host": "a"},
    ):
        answer = requests.get(url, headers=headers, timeout=300)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), answer.text


@scenario("ManagedIdentityCredential as in App Service, whose header is the client's secret; with another")
def managed_identity_of_an_application(world: World) -> None:
    given = {"IDENTITY_ENDPOINT": world.proofs["application"], "REQUESTS_CA_BUNDLE": world.ca}
    for name, asked in (("workload", {}), ("reader", {"client_id": "reader"})):
        with variables(**given, IDENTITY_HEADER=world.secrets[name]):
            credential = ManagedIdentityCredential(**asked)
            assert shown(credential.get_token(ATTEST).token) == (name, "1")
            with raises(CredentialUnavailableError, "401, X-IDENTITY-HEADER: want the secret"):
                ManagedIdentityCredential(client_id="admin").get_token(ATTEST)


@scenario("EnvironmentCredential and DefaultAzureCredential: of a certificate, a cluster's file, a machine")
def the_default_chain(world: World) -> None:
    given = {
        "AZURE_TENANT_ID": tenant(world),
        "AZURE_CLIENT_ID": "workload",
        "AZURE_AUTHORITY_HOST": world.authorization.rpartition("/")[0],
        "REQUESTS_CA_BUNDLE": world.ca,
    }
    with variables(**given, AZURE_CLIENT_CERTIFICATE_PATH=world.proofs["certificates"]["workload"]):
        for kind in (EnvironmentCredential, DefaultAzureCredential):
            attests(world, kind(disable_instance_discovery=True))
    with file_of(account(world)) as path, variables(**given, AZURE_FEDERATED_TOKEN_FILE=path):
        for kind in (ManagedIdentityCredential, DefaultAzureCredential):
            found = kind(disable_instance_discovery=True).get_token(ATTEST).token
            assert shown(found) == ("workload", "2")
    with variables(AZURE_POD_IDENTITY_AUTHORITY_HOST=world.proofs["machine"]):
        assert shown(DefaultAzureCredential().get_token(ATTEST).token) == ("workload", "0")
