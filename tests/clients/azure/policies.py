"""Policies and those who may sign them, by the administration client."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jwt
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.security.attestation import (
    AttestationPolicyToken,
    AttestationType,
    CertificateModification,
    PolicyModification,
)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from scenario import PERMIT, VERSION, Signer, World, b64u, parts_of, raises, refused, scenario, signer

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


@scenario("PUT /policies/SgxEnclave with what is no JWS: InvalidOperation, in Azure's words")
def no_jws(world: World) -> None:
    for text, message in (
        ("abc", "Malformed JWT: Could not find first period in the token"),
        ("a)c.d.", "Unknown base64 character: 41 (')')"),
    ):
        answer = requests.put(
            f"{world.attestation}/policies/SgxEnclave?api-version={VERSION}",
            data=text,
            headers={**world.bearer(), "Content-Type": "text/plain"},
            verify=world.ca,
            timeout=300,
        )
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "InvalidOperation"), answer.text
        assert message in error["message"]


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
        # A client that has the key itself signs by it, resets included.
        mine_alone = world.owner(url, **mine.signing)
        assert mine_alone.set_policy(SGX, PERMIT)[0].policy_signer.certificates == [mine.certificate]
        assert mine_alone.reset_policy(SGX)[0].policy_resolution == PolicyModification.REMOVED


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


@scenario(
    "M.create, A.add_policy_management_certificate with a signer of 1024 bits, whose signatures count nowhere"
)
def signer_that_could_sign_nothing(world: World) -> None:
    mine, weak = signer("mine"), Signer("weak", key=rsa.generate_private_key(65537, 1024))
    with (
        refused(400, "InvalidParameter", "has 1024 bits, want 2048 to 8192"),
        world.instance(**signed_by(weak)),
    ):
        pass
    with world.instance(**signed_by(mine)) as url:
        owner = world.owner(url, **mine.signing)
        with refused(400, "InvalidParameter", "key of CN=weak: has 1024 bits"):
            owner.add_policy_management_certificate(weak.certificate)
        assert first(owner.get_policy_management_certificates()[0]) == [mine.der]
        for size in (3072, 4096):
            other = Signer("other", key=rsa.generate_private_key(65537, size))
            owner.add_policy_management_certificate(other.certificate)
            world.owner(url).set_policy(SGX, PERMIT, **other.signing)
            world.owner(url).remove_policy_management_certificate(other.certificate, **other.signing)
        # What was signed while its signer was trusted stays.
        assert owner.get_policy(SGX)[0] == PERMIT


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


def put(world: World, url: str, text: str, kind: str = "SgxEnclave") -> requests.Response:
    """A policy as other tools send it."""
    return requests.put(
        f"{url}/policies/{kind}?api-version=2022-08-01",
        data=text.encode(),
        headers={**world.bearer(), "Content-Type": "text/plain"},
        verify=world.ca,
        timeout=300,
    )


@scenario("PUT /policies/SgxEnclave with quotes and blanks about the JWS; as .NET signs it; by an EC key")
def policies_as_other_tools_write_them(world: World) -> None:
    stored = AttestationPolicyToken(PERMIT).to_jwt_string()
    by, curve = signer("anybody"), Signer("curve", key=ec.generate_private_key(ec.SECP256R1()))
    body = {"AttestationPolicy": b64u(PERMIT.encode())}
    rs256 = jwt.encode(body, by.private, "RS256", {"x5c": by.jwk["x5c"], "typ": None})
    es256 = jwt.encode(body, curve.private, "ES256", {"x5c": curve.jwk["x5c"]})
    with world.instance() as url:
        owner = world.owner(url)
        for text in (stored, f'"{stored}"', f" {stored}\r\n", rs256, es256):
            owner.reset_policy(SGX)
            answer = put(world, url, text)
            assert answer.status_code == 200, answer.text
            claims = world.claims(answer.json()["token"], url)
            assert claims["x-ms-policy-result"] == "Updated"
            sent = hashlib.sha256(text.strip().strip('"').encode()).digest()
            assert claims["x-ms-policy-token-hash"] == b64u(sent)
            assert owner.get_policy(SGX)[0] == PERMIT
            world.attester(url).attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)
        assert put(world, url, stored, "sgxenclave").status_code == 200
        head, _, signature = rs256.split(".")
        changed = f"{head}.{b64u(b'{}')}.{signature}"
        for text in ("", "a", "a.b.c", "..", rs256[:-9], changed, PERMIT):
            answer = put(world, url, text)
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["code"] in {"InvalidParameter", "InvalidOperation"}, answer.text


@scenario("POST /certificates:add with a JSON string, an object, a bare JWS, and the claim's older names")
def certificates_as_other_tools_write_them(world: World) -> None:
    mine, others = signer("mine"), [signer(f"other {number}") for number in range(3)]
    with world.instance(**signed_by(mine)) as url:

        def sent(path: str, body: str, kind: str = "application/json") -> dict[str, Any]:
            answer = requests.post(
                f"{url}/certificates:{path}?api-version=2022-08-01",
                data=body.encode(),
                headers={**world.bearer(), "Content-Type": kind},
                verify=world.ca,
                timeout=300,
            )
            assert answer.status_code == 200, answer.text
            return world.claims(answer.json()["token"], url)

        names = ("policyCertificate", "maa-policyCertificate", "x-ms-policyCertificate")
        wishes = [
            jwt.encode({name: other.jwk}, mine.private, "RS256", {"x5c": mine.jwk["x5c"]})
            for name, other in zip(names, others, strict=True)
        ]
        added = [
            sent("add", json.dumps(wishes[0])),
            sent("add", json.dumps({"policyCertificateToAdd": wishes[1]})),
            sent("add", wishes[2], "text/plain"),
        ]
        for claims, other in zip(added, others, strict=True):
            assert claims["x-ms-policycertificates-result"] == "IsPresent"
            assert claims["x-ms-certificate-thumbprint"] == other.x5t
        assert len(world.owner(url).get_policy_management_certificates()[0]) == 4
        gone = sent("remove", json.dumps({"policyCertificateToRemove": wishes[1]}))
        assert gone["x-ms-policycertificates-result"] == "IsAbsent"
        assert len(world.owner(url).get_policy_management_certificates()[0]) == 3


@scenario("A.set_policy of version 1.2, with functions and negation")
def policy_with_functions(world: World) -> None:
    policy = (
        'version=1.2; authorizationrules{ ![type=="x-ms-sgx-is-debuggable", value==true] => permit(); }; '
        'issuancerules{ => add(type="list", value="{\\"a\\": [0, 7, true]}"); '
        'c:[type=="list"] => issue(type="out", value=JsonToClaimValue(JmesPath(c.value, "a[1]"))); '
        'c:[type=="x-ms-sgx-mrsigner"] => issue(type="joined", value=AppendString("signer ", c.value)); };'
    )
    with world.instance() as url:
        world.owner(url).set_policy(SGX, policy)
        quote = world.quote(HELLO)
        _, token = world.attester(url).attest_sgx_enclave(quote, runtime_data=HELLO)
        claims = world.claims(str(token), url)
        assert claims["out"] == 7
        assert claims["joined"] == f"signer {quote[176:208].hex()}"
