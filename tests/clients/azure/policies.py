"""Policies and those who may sign them, by the administration client."""

from __future__ import annotations

import hashlib
from typing import Any

from azure.core.exceptions import ClientAuthenticationError
from azure.security.attestation import (
    AttestationPolicyToken,
    AttestationType,
    CertificateModification,
    PolicyModification,
)
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from scenario import PERMIT, Signer, World, parts_of, raises, refused, scenario, signer

SGX = AttestationType.SGX_ENCLAVE
HELLO = b"hello"
UNSIGNED = "Unsigned JWS specified but enclave is configured with signing certificates."


def signed_by(*signers: Signer) -> dict[str, Any]:
    """Properties of an instance whose policies these sign."""
    return {"policySigningCertificates": {"keys": [each.jwk for each in signers]}}


def first(chains: list[list[str]]) -> list[bytes]:
    """The first certificate of each chain, DER."""
    return [x509.load_pem_x509_certificate(chain[0].encode()).public_bytes(Encoding.DER) for chain in chains]


@scenario("A.get_policy(TPM) where none is set", 15)
def no_policy(world: World) -> None:
    with world.instance() as url:
        text, token = world.owner(url).get_policy(AttestationType.TPM)
        assert not text
        assert token.algorithm == "RS256"
        assert (token.expires - token.issued).total_seconds() == 3600


@scenario("A.set_policy(SGX, P), unsigned; A.get_policy gives P", 16)
def unsigned_policy(world: World) -> None:
    with world.instance() as url:
        owner = world.owner(url)
        result, _ = owner.set_policy(SGX, PERMIT)
        assert result.policy_resolution == PolicyModification.UPDATED
        sent = AttestationPolicyToken(PERMIT).to_jwt_string()
        assert result.policy_token_hash == hashlib.sha256(sent.encode()).digest()
        assert result.policy_signer is None
        assert owner.get_policy(SGX)[0] == PERMIT


@scenario("A.set_policy for every type, and A.get_policy")
def every_type(world: World) -> None:
    with world.instance() as url:
        owner = world.owner(url)
        for kind in ("SgxEnclave", "OpenEnclave", "Tpm", "SevSnpVm", "TdxVm", "AzureGuest", "azureguest"):
            text = f"{PERMIT} // {kind}"
            owner.set_policy(kind, text)
            assert owner.get_policy(kind)[0] == text
            owner.reset_policy(kind)
            assert owner.get_policy(kind)[0] != text
        with refused(400, "InvalidParameter"):
            owner.get_policy("Abacus")


@scenario("A.set_policy(SGX, P, signing_key=..., signing_certificate=...)", 17)
def signed_policy(world: World) -> None:
    by = signer("anybody")
    with world.instance() as url:
        owner = world.owner(url)
        result, _ = owner.set_policy(SGX, PERMIT, **by.signing)
        assert result.policy_resolution == PolicyModification.UPDATED
        assert first([result.policy_signer.certificates]) == [by.der]
        sent = AttestationPolicyToken(PERMIT, **by.signing).to_jwt_string()
        assert result.policy_token_hash == hashlib.sha256(sent.encode()).digest()
        assert owner.get_policy(SGX)[0] == PERMIT
        _, token = world.attester(url).attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)
        claims = parts_of(str(token))[1]
        assert claims["x-ms-policy-signer"]["x5c"] == by.jwk["x5c"]


@scenario("A.reset_policy(SGX)", 18)
def reset_policy(world: World) -> None:
    with world.instance() as url:
        owner = world.owner(url)
        usual = owner.get_policy(SGX)[0]
        assert "issuancerules" in usual
        owner.set_policy(SGX, PERMIT)
        result, _ = owner.reset_policy(SGX)
        assert result.policy_resolution == PolicyModification.REMOVED
        assert owner.get_policy(SGX)[0] == usual
        assert owner.reset_policy(SGX)[0].policy_resolution == PolicyModification.REMOVED


@scenario("A.set_policy, A.reset_policy and a draft between: each counts alone")
def draft_between(world: World) -> None:
    deny = "version=1.0; authorizationrules { =>deny(); }; issuancerules { };"
    quote = world.quote(HELLO)
    with world.instance() as url:
        owner, client = world.owner(url), world.attester(url)
        owner.set_policy(SGX, deny)
        with refused(400, "PolicyEvaluationError", "A Deny claim was issued, authorization failed."):
            client.attest_sgx_enclave(quote, runtime_data=HELLO)
        _, token = client.attest_sgx_enclave(quote, runtime_data=HELLO, draft_policy=PERMIT)
        assert token.algorithm == "none"
        with refused(400, "PolicyEvaluationError"):
            client.attest_sgx_enclave(quote, runtime_data=HELLO)
        owner.reset_policy(SGX)
        assert client.attest_sgx_enclave(quote, runtime_data=HELLO)[1].algorithm == "RS256"


@scenario("A.set_policy(SGX, a policy without a semicolon)", 20)
def policy_without_a_semicolon(world: World) -> None:
    with world.instance() as url:
        owner = world.owner(url)
        owner.set_policy(SGX, PERMIT)
        with refused(400, "PolicyParsingError", "Policy Parser Exception Thrown"):
            owner.set_policy(SGX, PERMIT.replace("permit();", "permit()"))
        assert owner.get_policy(SGX)[0] == PERMIT


@scenario("A.set_policy(SGX, ...) with texts that are no policies")
def texts_that_are_no_policies(world: World) -> None:
    wrong = (
        "",
        "version=1.0",
        "version=1.0\n[type==1]",
        "version=9.9; authorizationrules{=> permit();};",
        'version=1.0; authorizationrules{![type=="a"] => permit();};',
        "version=1.0; authorizationrules{=> issue(type=;};",
        'version=1.0; authorizationrules{[type=="a", value==b.value] => permit();};',
        "version=1.0; issuancerules{=> permit();};",
        "version=1.0; authorizationrules{=> permit();}; authorizationrules{=> permit();};",
    )
    with world.instance() as url:
        owner = world.owner(url)
        before = owner.get_policy(SGX)[0]
        for text in wrong:
            try:
                owner.set_policy(SGX, text)
            except Exception as error:
                said = getattr(error, "error", None)
                assert said is not None, f"{text}: {error!r}"
                assert (error.status_code, said.code) in {
                    (400, "PolicyParsingError"),
                    (400, "InvalidParameter"),
                }, f"{text}: {error}"
            else:
                raise AssertionError(f"want PolicyParsingError, got an answer: {text}")
        with raises(UnicodeEncodeError):
            owner.set_policy(SGX, PERMIT + "// é")
        assert owner.get_policy(SGX)[0] == before


@scenario("Isolated instance: A.set_policy unsigned, by a trusted signer, by another", 22)
def isolated_instance(world: World) -> None:
    mine, other = signer("mine"), signer("other")
    with world.instance(**signed_by(mine)) as url:
        owner = world.owner(url)
        with refused(400, "InvalidOperation", UNSIGNED):
            owner.set_policy(SGX, PERMIT)
        with refused(400, "InvalidOperation"):
            owner.set_policy(SGX, PERMIT, **other.signing)
        assert owner.get_policy(SGX)[0] != PERMIT
        result, _ = owner.set_policy(SGX, PERMIT, **mine.signing)
        assert result.policy_resolution == PolicyModification.UPDATED
        assert owner.get_policy(SGX)[0] == PERMIT
        with refused(400, "InvalidOperation", UNSIGNED):
            owner.reset_policy(SGX)
        with refused(400, "InvalidOperation"):
            owner.reset_policy(SGX, **other.signing)
        result, _ = owner.reset_policy(SGX, **mine.signing)
        assert result.policy_resolution == PolicyModification.REMOVED
        assert owner.get_policy(SGX)[0] != PERMIT


@scenario("A.add_/remove_policy_management_certificate, A.get_policy_management_certificates", 23)
def policy_management_certificates(world: World) -> None:
    mine, second = signer("mine"), signer("second")
    with world.instance(**signed_by(mine)) as url:
        owner = world.owner(url)
        assert first(owner.get_policy_management_certificates()[0]) == [mine.der]
        for _ in range(2):
            result, _ = owner.add_policy_management_certificate(second.certificate, **mine.signing)
            assert result.certificate_resolution == CertificateModification.IS_PRESENT
            assert result.certificate_thumbprint == second.x5t
        assert set(first(owner.get_policy_management_certificates()[0])) == {mine.der, second.der}
        owner.set_policy(SGX, PERMIT, **second.signing)
        for _ in range(2):
            result, _ = owner.remove_policy_management_certificate(second.certificate, **mine.signing)
            assert result.certificate_resolution == CertificateModification.IS_ABSENT
            assert result.certificate_thumbprint == second.x5t
        assert first(owner.get_policy_management_certificates()[0]) == [mine.der]
        with refused(400, "InvalidOperation"):
            owner.set_policy(SGX, PERMIT, **second.signing)


@scenario("A.remove_policy_management_certificate(the last one); add signed by a stranger; in AAD mode")
def certificates_that_stay(world: World) -> None:
    mine, other = signer("mine"), signer("other")
    with world.instance(**signed_by(mine)) as url:
        owner = world.owner(url)
        with refused(400, "InvalidOperation"):
            owner.remove_policy_management_certificate(mine.certificate, **mine.signing)
        with refused(400, "InvalidOperation"):
            owner.add_policy_management_certificate(other.certificate, **other.signing)
        with raises(ValueError):
            owner.add_policy_management_certificate(other.certificate)
        assert first(owner.get_policy_management_certificates()[0]) == [mine.der]
    with world.instance() as url:
        owner = world.owner(url)
        assert owner.get_policy_management_certificates()[0] == []
        with refused(400, "InvalidOperation"):
            owner.add_policy_management_certificate(other.certificate, **mine.signing)
        with refused(400, "InvalidOperation"):
            owner.remove_policy_management_certificate(other.certificate, **mine.signing)


@scenario("A.set_policy with a reader's token, with none, with another service's", 25)
def who_may_not(world: World) -> None:
    path = "/policies/SgxEnclave"
    with refused(401, "Unauthorized", path, ClientAuthenticationError):
        world.owner(name="reader").set_policy(SGX, PERMIT)
    world.owner(name="reader").get_policy(SGX)
    for credential in (world.static(), world.static(scope="https://vault.azure.net/.default")):
        with refused(401, "Unauthorized", path, ClientAuthenticationError):
            world.owner(credential=credential).set_policy(SGX, PERMIT)
    answer = world.post(f"{path}:reset?api-version=2020-10-01", "")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "Unauthorized")
    assert f"Access to {path}" in answer.json()["error"]["message"]
