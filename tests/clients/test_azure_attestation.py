"""Azure's own Python clients, as they are, against the attestation service: what they send and validate."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kluis.enclave.store import SealedStore
from kluis.serve.front.authority import LoopbackAuthority
from kluis.serve.store import Database, keeping
from kluis.services.attestation.settings import Root
from kluis.services.clock import SystemClock
from tests.evidence.forge import IMAGE, SIGNER, Forge
from tests.services.attestation.owners import owner
from tests.services.attestation.world import MAKER, PERMIT, World

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    mgmt = pytest.importorskip("azure.mgmt.attestation", reason="not installed: azure-mgmt-attestation")
    attestation = pytest.importorskip(
        "azure.security.attestation", reason="not installed: azure-security-attestation"
    )
    from azure.core.credentials import AccessToken
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
    from azure.security.attestation import (
        AttestationAdministrationClient,
        AttestationClient,
        AttestationPolicyToken,
        AttestationType,
        CertificateModification,
        PolicyModification,
    )
    from azure.security.attestation.aio import AttestationClient as AsyncAttestationClient

pytestmark = pytest.mark.filterwarnings("ignore")
DRAFT = 'version=1.0; authorizationrules{=> permit();}; issuancerules{=> issue(type="d", value=7);};'
OWNER = ("Attestation Contributor", "Owner")


class Credential:
    """Tokens of the test's issuer, for these roles."""

    def __init__(self, *roles: str) -> None:
        self.roles = roles

    def get_token(self, *_: Any, **__: Any) -> AccessToken:
        """A token of an hour."""
        return AccessToken(MAKER.token(*self.roles, now=datetime.now(UTC)), int(time.time()) + 3600)


class AsyncCredential(Credential):
    """The same, awaited."""

    async def get_token(self, *scopes: Any, **options: Any) -> AccessToken:  # type: ignore[override]
        """A token of an hour."""
        return super().get_token(*scopes, **options)

    async def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(scope="module")
def forge() -> Forge:
    """A platform of today's."""
    return Forge(now=datetime.now(UTC))


@pytest.fixture(scope="module")
def served(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The service on loopback, over TLS of an authority of the test's own."""
    folder: Path = tmp_path_factory.mktemp("attestation")
    now = datetime.now(UTC)
    authority = LoopbackAuthority.load_or_create(folder, now)
    authority.server_context(folder, ("localhost",), now)
    (folder / "ca.pem").write_bytes(authority.root_pem())
    with socket.create_server(("127.0.0.1", 0)) as listener, Database(f"sqlite:///{folder}/db") as database:
        url = f"https://localhost:{listener.getsockname()[1]}"
        world = World(
            SealedStore(keeping.records(database, "test"), bytes(32)),
            clock=SystemClock(),
            url=url,
            roots=(Root(forge.authority.root_pem()),),
            collateral=(forge.collateral().to_json(),),
        )
        config = uvicorn.Config(
            world.app, log_level="critical", lifespan="off", ssl_certfile=str(folder / "server.pem")
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield SimpleNamespace(url=url, ca=str(folder / "ca.pem"), world=world)
        server.should_exit = True
        thread.join()


def client(served: SimpleNamespace, url: str = "", **options: Any) -> AttestationClient:
    """A client with a reader's role."""
    given = {"connection_verify": served.ca, "retry_total": 0, "validate_issuer": True, **options}
    address = url or served.url
    return AttestationClient(address, Credential("Attestation Reader"), issuer=address, **given)


def admin(served: SimpleNamespace, url: str = "", *roles: str, **options: Any) -> Any:
    """A client that may set policies."""
    given = {"connection_verify": served.ca, "retry_total": 0, **options}
    return AttestationAdministrationClient(url or served.url, Credential(*(roles or OWNER)), **given)


def manager(served: SimpleNamespace) -> Any:
    """A client of the control plane."""
    return mgmt.AttestationManagementClient(
        Credential(*OWNER), "s", base_url=served.url, connection_verify=served.ca, retry_total=0,
        credential_scopes=["https://management.azure.com/.default"],
    )  # fmt: skip


def quote(forge: Forge, data: bytes) -> bytes:
    """A quote that is bound to data."""
    return forge.quote(forge.body(report_data=hashlib.sha256(data).digest() + bytes(32)))


def test_metadata_and_keys(served: SimpleNamespace) -> None:
    """The metadata names the instance, and each key has a certificate of its name."""
    found = client(served).get_open_id_metadata()
    assert (found["issuer"], found["jwks_uri"]) == (served.url, served.url + "/certs")
    signers = client(served).get_signing_certificates()
    assert signers
    assert all(each.key_id and "BEGIN CERTIFICATE" in each.certificates[0] for each in signers)


def test_held_data(served: SimpleNamespace, forge: Forge) -> None:
    """An enclave is attested with binary data: result and token are what the client expects of Azure's."""
    result, token = client(served).attest_sgx_enclave(quote(forge, b"hello"), runtime_data=b"hello")
    assert result.enclave_held_data == b"hello"
    assert (result.mr_enclave, result.mr_signer) == (IMAGE.hex(), SIGNER.hex())
    assert (result.product_id, result.svn, result.is_debuggable) == (7, 3, False)
    assert len(result.sgx_collateral) == 7
    assert result.issuer == served.url
    assert token.algorithm == "RS256"
    assert (token.expires - token.issued).total_seconds() == 28800


def test_runtime_claims(served: SimpleNamespace, forge: Forge) -> None:
    """JSON comes back as claims, and as no held data."""
    data = b'{"keys":[{"kty":"RSA","kid":"k"}]}'
    result, _ = client(served).attest_sgx_enclave(quote(forge, data), runtime_json=data)
    assert result.runtime_claims == json.loads(data)
    assert result.enclave_held_data is None


def test_an_open_enclave_report(served: SimpleNamespace, forge: Forge) -> None:
    """The same by an Open Enclave report."""
    from kluis.formats.wrappers import oe

    report = oe.encode_report(quote(forge, b"hello"))
    result, _ = client(served).attest_open_enclave(report, runtime_data=b"hello")
    assert result.mr_enclave == IMAGE.hex()


def test_a_draft(served: SimpleNamespace, forge: Forge) -> None:
    """A draft's token is unsecured, and the client takes it."""
    _, token = client(served).attest_sgx_enclave(
        quote(forge, b"hello"), runtime_data=b"hello", draft_policy=DRAFT
    )
    assert token.algorithm == "none"
    assert json.loads(token.body_bytes)["d"] == 7


def test_policies(served: SimpleNamespace) -> None:
    """A policy is set, read as it was, and reset; the client finds the hash that it computes itself."""
    one = admin(served)
    result, _ = one.set_policy(AttestationType.SGX_ENCLAVE, PERMIT)
    expected = hashlib.sha256(AttestationPolicyToken(PERMIT).to_jwt_string().encode()).digest()
    assert result.policy_resolution == PolicyModification.UPDATED
    assert result.policy_token_hash == expected
    assert one.get_policy(AttestationType.SGX_ENCLAVE)[0] == PERMIT
    result, _ = one.reset_policy(AttestationType.SGX_ENCLAVE)
    assert result.policy_resolution == PolicyModification.REMOVED
    assert one.get_policy(AttestationType.SGX_ENCLAVE)[0].startswith("version= 1.1;")
    assert not one.get_policy(AttestationType.TPM)[0]


def pems(name: str) -> tuple[str, str]:
    """An owner's key and certificate."""
    one = owner(name)
    key = one.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return key, one.certificate.public_bytes(Encoding.PEM).decode()


def test_a_signed_policy(served: SimpleNamespace) -> None:
    """The client's own form of a signature is accepted, and its signer is returned in a form that it
    reads.
    """
    key, certificate = pems("signer")
    result, _ = admin(served).set_policy(
        AttestationType.OPEN_ENCLAVE, PERMIT, signing_key=key, signing_certificate=certificate
    )
    assert result.policy_resolution == PolicyModification.UPDATED
    assert result.policy_signer.certificates[0].strip() == certificate.strip()
    admin(served).reset_policy(AttestationType.OPEN_ENCLAVE)


def test_a_policy_that_is_none(served: SimpleNamespace) -> None:
    """It is refused, and the one that holds stays."""
    one = admin(served)
    before = one.get_policy(AttestationType.SGX_ENCLAVE)[0]
    with pytest.raises(HttpResponseError) as refused:
        one.set_policy(AttestationType.SGX_ENCLAVE, "version=1.0; authorizationrules{=> permit()};")
    assert refused.value.status_code == 400
    assert refused.value.error.code == "PolicyParsingError"
    assert one.get_policy(AttestationType.SGX_ENCLAVE)[0] == before


def test_who_may(served: SimpleNamespace) -> None:
    """A reader sets nothing, and hears 401 with the path."""
    with pytest.raises(ClientAuthenticationError) as refused:
        admin(served, "", "Attestation Reader").set_policy(AttestationType.SGX_ENCLAVE, PERMIT)
    assert "Access to /policies/SgxEnclave requires a valid JWT bearer token" in str(refused.value)


def test_evidence_that_does_not_hold(served: SimpleNamespace, forge: Forge) -> None:
    """A bit of the signature, other data, half a quote: each is 400, and never 500."""
    good = quote(forge, b"hello")
    flipped = good[:440] + bytes([good[440] ^ 1]) + good[441:]
    for data, held in ((flipped, b"hello"), (good, b"hellp"), (good[:1000], b"hello"), (b"", b"hello")):
        with pytest.raises(HttpResponseError) as refused:
            client(served).attest_sgx_enclave(data, runtime_data=held)
        assert (refused.value.status_code, refused.value.error.code) == (400, "InvalidParameter")


def test_an_instance_of_ones_own(served: SimpleNamespace, forge: Forge) -> None:
    """An instance is made, attests at its own address, is listed and deleted."""
    providers = manager(served).attestation_providers
    made = providers.create("rg", "p1", {"location": "local", "properties": {}})
    assert (made.trust_model, made.status.value) == ("AAD", "Ready")
    said = providers.get("rg", "p1").system_data
    assert (said.created_by, said.created_by_type) == ("somebody", "User")
    assert said.created_at == said.last_modified_at
    result, _ = client(served, made.attest_uri).attest_sgx_enclave(quote(forge, b"x"), runtime_data=b"x")
    assert result.issuer == made.attest_uri
    assert "p1" in [each.name for each in providers.list().value]
    assert "p1" in [each.name for each in providers.list_by_resource_group("rg").value]
    providers.delete("rg", "p1")
    with pytest.raises(ResourceNotFoundError):
        providers.get("rg", "p1")
    assert providers.list_default().value[0].attest_uri == served.url


def test_an_isolated_instance(served: SimpleNamespace) -> None:
    """Its policies and certificates are changed only by signatures, in the client's own forms."""
    providers = manager(served).attestation_providers
    held = {"keys": [{"kty": "RSA", "x5c": owner("first").chain}]}
    body = {"location": "local", "properties": {"policySigningCertificates": held}}
    made = providers.create("rg", "isolated", body)
    assert made.trust_model == "Isolated"
    one = admin(served, made.attest_uri)
    with pytest.raises(HttpResponseError) as refused:
        one.set_policy(AttestationType.SGX_ENCLAVE, PERMIT)
    assert refused.value.error.code == "InvalidOperation"
    assert "Unsigned JWS specified but enclave is configured with signing certificates." in str(refused.value)
    key, certificate = pems("first")
    signed = {"signing_key": key, "signing_certificate": certificate}
    result, _ = one.set_policy(AttestationType.SGX_ENCLAVE, PERMIT, **signed)
    assert result.policy_resolution == PolicyModification.UPDATED
    other_key, other_certificate = pems("other")
    with pytest.raises(HttpResponseError):
        one.set_policy(
            AttestationType.SGX_ENCLAVE, PERMIT, signing_key=other_key, signing_certificate=other_certificate
        )
    chains, _ = one.get_policy_management_certificates()
    assert [chain[0].strip() for chain in chains] == [certificate.strip()]
    added, _ = one.add_policy_management_certificate(other_certificate, **signed)
    assert added.certificate_resolution == CertificateModification.IS_PRESENT
    assert added.certificate_thumbprint == hashlib.sha1(owner("other").der).hexdigest().upper()
    assert len(one.get_policy_management_certificates()[0]) == 2
    removed, _ = one.remove_policy_management_certificate(other_certificate, **signed)
    assert removed.certificate_resolution == CertificateModification.IS_ABSENT


def test_a_tpms_challenge(served: SimpleNamespace) -> None:
    """With a policy set, each request gets a new challenge."""
    admin(served).set_policy(AttestationType.TPM, PERMIT)
    asked = json.dumps({"payload": {"type": "aikcert"}})
    found = [json.loads(client(served).attest_tpm(asked))["payload"] for _ in range(2)]
    assert all({"challenge", "service_context"} == set(each) for each in found)
    assert found[0]["challenge"] != found[1]["challenge"]
    admin(served).reset_policy(AttestationType.TPM)


def test_many_at_once(served: SimpleNamespace, forge: Forge) -> None:
    """A hundred requests at once all get tokens, no two alike."""

    async def run() -> list[str]:
        one = AsyncAttestationClient(
            served.url, AsyncCredential("Attestation Reader"), connection_verify=served.ca, retry_total=0
        )
        async with one:
            data = quote(forge, b"hello")
            # The client fetches the keys under a lock that its other calls would wait for without end.
            await one.attest_sgx_enclave(data, runtime_data=b"hello")
            answers = await asyncio.gather(
                *(one.attest_sgx_enclave(data, runtime_data=b"hello") for _ in range(100))
            )
        return [json.loads(token.body_bytes)["jti"] for _, token in answers]

    assert len(set(asyncio.run(run()))) == 100


def test_a_client_that_was_there_before_a_rotation(served: SimpleNamespace, forge: Forge) -> None:
    """It keeps the keys that it fetched, which validate until the new key signs; a new client knows both."""
    old = client(served)
    old.attest_sgx_enclave(quote(forge, b"x"), runtime_data=b"x")
    headers = {"Authorization": f"Bearer {MAKER.token(*OWNER, now=datetime.now(UTC))}"}
    import httpx

    answer = httpx.post(f"{served.url}/certs:rotate", verify=_context(served), headers=headers, timeout=120)
    assert len(answer.json()["keys"]) == 2
    old.attest_sgx_enclave(quote(forge, b"x"), runtime_data=b"x")
    answer = httpx.post(
        f"{served.url}/certs:rotate",
        json={"signs_in_seconds": 0},
        verify=_context(served),
        headers=headers,
        timeout=120,
    )
    assert answer.status_code == 200
    client(served).attest_sgx_enclave(quote(forge, b"x"), runtime_data=b"x")


def _context(served: SimpleNamespace) -> Any:
    import ssl

    return ssl.create_default_context(cafile=served.ca)
