"""Tokens as clients and others check them: keys that change, clocks, and an independent library."""

from __future__ import annotations

import time
from typing import Any

import jwt
import requests
from azure.security.attestation import AttestationTokenValidationException, AttestationType
from cryptography import x509
from scenario import (
    World,
    b64u,
    from_b64u,
    parts_of,
    raises,
    runtime,
    scenario,
)

HELLO = b"hello"
GRACE = 6
"""Seconds, at least, until a new key signs."""


def rotated(world: World, url: str, seconds: int) -> None:
    """Have an instance make a new key that signs after so long."""
    answer = requests.post(
        f"{url}/certs:rotate",
        json={"signs_in_seconds": seconds},
        headers=world.bearer(),
        verify=world.ca,
        timeout=300,
    )
    assert answer.status_code == 200, answer.text


@scenario("POST /certs:rotate; an old client, a new client, old tokens and new ones", 27)
def rotation(world: World) -> None:
    with world.instance() as url:
        old, quote = world.attester(url), world.quote(HELLO)
        began = time.monotonic()
        _, before = old.attest_sgx_enclave(quote, runtime_data=HELLO)
        grace = GRACE + round(20 * (time.monotonic() - began))  # what follows takes some such requests
        began = time.monotonic()
        rotated(world, url, grace)
        assert len(old.get_signing_certificates()) == 2
        # A client keeps the first list of keys that it saw, for life: so the old key signs on for a while.
        _, during = old.attest_sgx_enclave(quote, runtime_data=HELLO)
        assert time.monotonic() - began < grace, "want a machine that attests once in some seconds"
        assert during.key_id == before.key_id
        new = world.attester(url)
        assert new.attest_sgx_enclave(quote, runtime_data=HELLO)[1].key_id == before.key_id
        rotated_at = began + grace + 2  # the request took a while, and whole seconds count
        time.sleep(max(0.0, rotated_at - time.monotonic()))
        _, after = new.attest_sgx_enclave(quote, runtime_data=HELLO)
        assert after.key_id != before.key_id
        assert world.attester(url).attest_sgx_enclave(quote, runtime_data=HELLO)[1].key_id == after.key_id
        for token in (before, during, after):
            assert world.claims(str(token), url)["x-ms-attestation-type"] == "sgx"
        with raises(AttestationTokenValidationException, "Could not find the certificate"):
            old.attest_sgx_enclave(quote, runtime_data=HELLO)


@scenario("POST /certs:rotate by a reader and by nobody; for AttestationClient nothing has changed")
def rotation_by_others(world: World) -> None:
    for headers in ({}, world.bearer("reader"), world.bearer("workload")):
        answer = requests.post(
            f"{world.attestation}/certs:rotate", headers=headers, verify=world.ca, timeout=300
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "Unauthorized")
    assert len(world.attester().get_signing_certificates()) == 1


@scenario("C.attest_sgx_enclave with validation_slack=0: nbf is iat and never to come", 29)
def never_before_now(world: World) -> None:
    client = world.attester(validation_slack=0.0)
    for _ in range(20):
        _, token = client.attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)
        claims = parts_of(str(token))[1]
        assert claims["nbf"] == claims["iat"] <= time.time()
        assert claims["exp"] - claims["iat"] == 28800


@scenario("C.attest_sgx_enclave(issuer='https://other', validate_issuer=True): the client's own refusal")
def another_issuer(world: World) -> None:
    client = world.attester(issuer="https://other.example")
    with raises(AttestationTokenValidationException, "is not the expected issuer"):
        client.attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)


@scenario("C.attest_sgx_enclave(validation_callback=...), which sees token and signer, and may refuse")
def validation_callback(world: World) -> None:
    seen: list[Any] = []
    client, quote = world.attester(), world.quote(HELLO)
    client.attest_sgx_enclave(
        quote, runtime_data=HELLO, validation_callback=lambda *given: seen.append(given)
    )
    ((token, signer),) = seen
    assert signer.key_id == token.key_id
    leaf = x509.load_pem_x509_certificate(signer.certificates[0].encode())
    assert leaf.subject == leaf.issuer

    def refuse(*given: Any) -> None:
        raise AttestationTokenValidationException("not this one")

    with raises(AttestationTokenValidationException, "not this one"):
        client.attest_sgx_enclave(quote, runtime_data=HELLO, validation_callback=refuse)
    for options in ({"validate_token": False}, {"validate_signature": False}, {"validate_expiration": False}):
        client.attest_sgx_enclave(quote, runtime_data=HELLO, **options)


@scenario("every kind of token, and the receipt of a release: PyJWT under the published keys")
def an_independent_library(world: World) -> None:
    data = runtime()
    quote = world.quote(HELLO)
    with world.instance() as url:
        owner = world.owner(url)
        tokens = {
            "sgx": world.attester(url).attest_sgx_enclave(quote, runtime_data=HELLO)[1],
            "snp": world.snp_token(data, url),
            "policy": owner.get_policy(AttestationType.SGX_ENCLAVE)[1],
            "certificates": owner.get_policy_management_certificates()[1],
        }
        found = {kind: world.claims(str(token), url) for kind, token in tokens.items()}
        assert found["sgx"]["x-ms-ver"] == found["snp"]["x-ms-ver"] == "1.0"
        assert found["certificates"]["x-ms-policy-certificates"] == {"keys": []}
        stored = found["policy"]["x-ms-policy"]
        text = jwt.decode(stored, options={"verify_signature": False})["AttestationPolicy"]
        assert b"permit" in from_b64u(text)
        for token in tokens.values():
            changed = bytearray(from_b64u(str(token).split(".")[1]))
            changed[5] ^= 1
            head, _, signature = str(token).split(".")
            with raises(Exception):
                world.claims(f"{head}.{b64u(bytes(changed))}.{signature}", url)


@scenario("Accept: application/eat+jwt: an EAR, PyJWT under the published keys")
def attestation_result(world: World) -> None:
    body = world.snp(runtime())
    answer = world.post(
        "/attest/SevSnpVm?api-version=2022-08-01", body, headers={"Accept": "application/eat+jwt"}
    )
    assert answer.status_code == 200, answer.text
    token = answer.text
    (named,) = [
        key
        for key in requests.get(f"{world.attestation}/certs", verify=world.ca, timeout=300).json()["keys"]
        if key["kid"] == jwt.get_unverified_header(token)["kid"]
    ]
    claims = jwt.decode(token, jwt.PyJWK(named).key, ["RS256"])
    assert claims["submods"], claims
