"""Policies of instances: set, read, reset, by authorised callers, in every form that Azure's tools write."""

from __future__ import annotations

import base64
import json
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from joserfc import jwk

from kluis.enclave.store import SealedStore
from kluis.hashes import sha256
from tests.services.attestation.owners import Owner, on_a_curve, owner
from tests.services.attestation.world import (
    PERMIT,
    URL,
    VERSION,
    World,
    b64u,
    claims_of,
    error_of,
    from_b64u,
    unsigned,
)

EMPTY = "eyJhbGciOiJub25lIn0.."
# Azure's own answer to this very policy, recorded.
RECORDED = (
    "eyJhbGciOiJub25lIn0.eyJBdHRlc3RhdGlvblBvbGljeSI6ICJkbVZ5YzJsdmJqMHhMakE3SUdGMWRHaHZjbWw2WVhScGIyNXlkV3hs"
    "YzNzOVBpQndaWEp0YVhRb0tUdDlPeUJwYzNOMVlXNWpaWEoxYkdWemUzMDcifQ."
)


@pytest.fixture
def isolated(storage: SealedStore) -> World:
    """A service whose own instance is isolated."""
    return World(storage, policy_signers=(owner("trusted").der,))


def put(world: World, jws: str, kind: str = "SgxEnclave") -> Any:
    """Set a policy as a JWS."""
    return world.owner("PUT", f"/policies/{kind}?{VERSION}", content=jws)


def stored(world: World, kind: str = "SgxEnclave") -> str:
    """The text of the policy that holds."""
    jws = world.token(world.owner("GET", f"/policies/{kind}?{VERSION}"))["x-ms-policy"]
    body = from_b64u(jws.split(".")[1])
    return from_b64u(json.loads(body)["AttestationPolicy"]).decode() if body else ""


def test_azures_own_answer(world: World) -> None:
    """The hash of a policy's JWS is the one that Azure's service was recorded to answer."""
    claims = world.token(put(world, RECORDED))
    assert claims == {
        "iss": URL,
        "iat": claims["iat"],
        "nbf": claims["iat"],
        "exp": claims["iat"] + 3600,
        "x-ms-policy-result": "Updated",
        "x-ms-policy-token-hash": "pyhI2FKMjRkvpvwS07hLclAyvsi5O4TrnzL5OPsIxzM",
    }
    assert stored(world) == PERMIT
    got = world.token(world.owner("GET", f"/policies/sgxenclave?{VERSION}"))
    assert got["x-ms-policy"] == RECORDED
    reset = world.token(world.owner("POST", f"/policies/SgxEnclave:reset?{VERSION}", content=EMPTY))
    assert reset["x-ms-policy-result"] == "Removed"
    assert reset["x-ms-policy-token-hash"] == "SlVJkQKpZtLXQJDncc2fBGyLLhf6wuSfG3T2LQw3Xus"
    assert stored(world).startswith("version= 1.1;")


@pytest.mark.parametrize("kind", ["SgxEnclave", "OpenEnclave", "SevSnpVm", "TdxVm", "AzureGuest", "Tpm"])
def test_each_kind_has_its_own(world: World, kind: str) -> None:
    """Every kind of attestation has a separate policy; a TPM's has none until one is set."""
    assert (stored(world, kind) == "") is (kind == "Tpm")
    put(world, unsigned(PERMIT), kind)
    assert stored(world, kind.lower()) == PERMIT
    others = [other for other in ("SgxEnclave", "TdxVm") if other != kind]
    assert all(stored(world, other) != PERMIT for other in others)


def headers_of(signer: Owner) -> dict[str, dict[str, Any]]:
    """Headers, by the tool that writes them."""
    return {
        "microsoft's tool": {"alg": "RS256", "x5c": signer.chain},
        "python": {"alg": "RSA256", "jwk": {"x5c": signer.chain}},
        "documentation": {"alg": "RSA256", "x5c": signer.chain},
        "with a type": {"alg": "RS256", "typ": "JWT", "x5c": signer.chain},
    }


@pytest.mark.parametrize("tool", ["microsoft's tool", "python", "documentation", "with a type"])
def test_signed_policies(isolated: World, tool: str) -> None:
    """A policy signed by a trusted key is set, from any signing tool; the signer is returned in both
    forms.
    """
    signer = owner("trusted")
    jws = signer.policy(PERMIT, headers_of(signer)[tool])
    claims = isolated.token(put(isolated, jws))
    assert claims["x-ms-policy-token-hash"] == b64u(sha256(jws.encode()))
    key = {"alg": "RS256", "kty": "RSA", "use": "sig", "x5c": signer.chain}
    assert claims["x-ms-policy-signer"] == {**key, "jwk": key}
    assert stored(isolated) == PERMIT


def test_a_key_on_a_curve(world: World) -> None:
    """Keys on curves sign, under either name of the algorithm."""
    signer = on_a_curve()
    for algorithm in ("ES256", "ECDH256"):
        jws = signer.policy(PERMIT, {"alg": algorithm, "x5c": signer.chain})
        claims = world.token(put(world, jws))
        assert claims["x-ms-policy-signer"]["alg"] == "ES256"
        assert claims["x-ms-policy-signer"]["kty"] == "EC"


def test_quotes_and_spaces_do_not_count(world: World) -> None:
    """Tools send a JWS as a JSON string, or with a line feed after it."""
    for sent in (f'"{RECORDED}"', f" {RECORDED}\r\n"):
        assert world.token(put(world, sent))["x-ms-policy-token-hash"].startswith("pyhI2FKMjRkv")


def test_unsigned_where_signatures_count(isolated: World) -> None:
    """An isolated instance takes no policy that nobody signed, in Azure's own words."""
    before = stored(isolated)
    status, code, message = error_of(put(isolated, unsigned(PERMIT)))
    assert (status, code) == (400, "InvalidOperation")
    assert message == (
        "Native operation failed with 74: Bad message    Msg:[Unsigned JWS specified but enclave is "
        "configured with signing certificates.]: policy: want a signature of one of 1 policy management "
        "certificates, got none"
    )
    answer = isolated.owner("POST", f"/policies/SgxEnclave:reset?{VERSION}", content=EMPTY)
    assert error_of(answer)[1] == "InvalidOperation"
    assert stored(isolated) == before


def test_signed_by_another(isolated: World) -> None:
    """A policy signed by a key that nobody trusts is refused, and its signer is named."""
    _, code, message = error_of(put(isolated, owner("stranger").policy(PERMIT)))
    assert code == "InvalidOperation"
    assert message.startswith(
        "policy signer: want one of 1 policy management certificates, got CN=stranger, SHA-1 "
    )


def test_signed_under_a_trusted_authority(storage: SealedStore) -> None:
    """A leaf counts by its issuer, in the chain or not, if that is a CA; and an old certificate counts."""
    authority = Owner("authority", ca=True)
    leaf = Owner("leaf", issuer=authority, expired=True)
    world = World(storage, policy_signers=(authority.der,))
    assert put(world, leaf.policy(PERMIT)).status_code == 200
    assert put(world, leaf.policy(PERMIT, {"alg": "RS256", "x5c": [leaf.x5c]})).status_code == 200
    no_authority = Owner("authority")
    impostor = Owner("leaf", issuer=no_authority)
    assert error_of(put(world, impostor.policy(PERMIT)))[1:] == (
        "InvalidParameter",
        "policy header x5c: Unable to find issuer certificate CN=authority: want a CA that signed CN=leaf",
    )
    answer = put(world, impostor.policy(PERMIT, {"alg": "RS256", "x5c": [impostor.x5c]}))
    assert error_of(answer)[1] == "InvalidOperation"


def test_a_reset_is_signed_too(isolated: World) -> None:
    """Going back to the default policy needs a signature, over nothing."""
    signer = owner("trusted")
    put(isolated, signer.policy(PERMIT))
    path = f"/policies/SgxEnclave:reset?{VERSION}"
    answer = isolated.owner("POST", path, content=signer.policy(PERMIT))
    assert error_of(answer)[2] == "policy reset: want a JWS without content, got one with some"
    claims = isolated.token(isolated.owner("POST", path, content=signer.sign(b"")))
    assert claims["x-ms-policy-result"] == "Removed"


def forged(header: dict[str, Any], signature: bytes = b"x" * 256) -> str:
    """A JWS with any header, and no good signature."""
    body = json.dumps({"AttestationPolicy": b64u(PERMIT.encode())}).encode()
    return f"{b64u(json.dumps(header).encode())}.{b64u(body)}.{b64u(signature)}"


def shared_key() -> str:
    """A policy "signed" with the bytes of a trusted certificate as a shared key."""
    text = forged({"alg": "HS256", "x5c": owner("trusted").chain})
    signed = text.rpartition(".")[0]
    made = hmac.HMAC(owner("trusted").der, hashes.SHA256())
    made.update(signed.encode())
    return f"{signed}.{b64u(made.finalize())}"


STRANGER = "stranger"
BAD: dict[str, tuple[Any, str]] = {
    "a shared key": (shared_key, "policy header alg: want none or one of RS256, "),
    "none, with a signature": (lambda: forged({"alg": "none"}), "want no signature with alg none, got one"),
    "None": (lambda: forged({"alg": "None", "x5c": owner("trusted").chain}, b""), "policy header alg: want"),
    "no algorithm": (lambda: forged({"x5c": owner("trusted").chain}), "policy header alg: want"),
    "a list of algorithms": (
        lambda: forged({"alg": ["none"], "x5c": owner("trusted").chain}),
        "policy header alg: want",
    ),
    "a trusted certificate, another's signature": (
        lambda: owner(STRANGER).policy(PERMIT, {"alg": "RS256", "x5c": owner("trusted").chain}),
        "policy: is not signed by the key it should be: want CN=trusted's",
    ),
    "a stranger's leaf under a trusted certificate": (
        lambda: owner(STRANGER).policy(
            PERMIT, {"alg": "RS256", "x5c": [owner(STRANGER).x5c, owner("trusted").x5c]}
        ),
        "Unable to find issuer certificate CN=trusted",
    ),
    "a key in the header": (
        lambda: owner(STRANGER).policy(
            PERMIT, {"alg": "RS256", "jwk": jwk.RSAKey.import_key(owner(STRANGER).key).as_dict(private=False)}
        ),
        "policy header: want x5c, the signer's certificate, got none",
    ),
    "jku": (
        lambda: owner("trusted").policy(
            PERMIT, {"alg": "RS256", "x5c": owner("trusted").chain, "jku": "https://evil.example/keys"}
        ),
        "policy header: jku is not taken",
    ),
    "x5u": (
        lambda: forged({"alg": "RS256", "x5u": "https://evil.example"}),
        "policy header: x5u is not taken",
    ),
    "crit": (
        lambda: owner("trusted").policy(
            PERMIT, {"alg": "RS256", "x5c": owner("trusted").chain, "crit": ["exp"], "exp": 1}
        ),
        "policy header: crit is not taken",
    ),
    "another algorithm's name": (
        lambda: owner("trusted").policy(PERMIT, {"alg": "ES256", "x5c": owner("trusted").chain}),
        "policy header alg: want one of the certificate's key, RSA, got ES256",
    ),
    "an algorithm twice": (
        lambda: b64u(b'{"alg":"none","alg":"RS256"}') + "." + RECORDED.split(".")[1] + ".",
        "policy header: member 'alg' appears twice",
    ),
    "no period": (lambda: "abc", "Malformed JWT: Could not find first period in the token"),
    "one period": (lambda: "abc.def", "Malformed JWT: Could not find second period in the token"),
    "four parts": (lambda: "a.b.c.d", "Malformed JWT: more than two periods"),
    "no base64": (lambda: "ab)d.e.", "policy header: Unknown base64 character: 41 (')')"),
    "no base64 of a policy": (
        lambda: f"eyJhbGciOiJub25lIn0.{b64u(json.dumps({'AttestationPolicy': '))'}).encode())}.",
        "policy AttestationPolicy: Unknown base64 character: 41 (')')",
    ),
    "no text": (lambda: f"eyJhbGciOiJub25lIn0.{b64u(bytes(9))}.", "policy: is not JSON"),
    "no policy": (lambda: f"eyJhbGciOiJub25lIn0.{b64u(b'{}')}.", "policy: want member AttestationPolicy"),
    "an empty one": (lambda: EMPTY, "policy: is not JSON"),
    "nested": (
        lambda: f"{b64u(b'[' * 100_000)}.e.",
        "policy header: nested more than 32 deep",
    ),
    "bytes in the certificate": (
        lambda: forged({"alg": "RS256", "x5c": [base64.b64encode(b"\x30\x84\xff\xff\xff\xff").decode()]}),
        "policy header x5c[0]",
    ),
    "a hundred certificates": (
        lambda: forged({"alg": "RS256", "x5c": owner("trusted").chain * 100}),
        "policy header x5c: want a list of 1 to 5 certificates",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_signed_policy(isolated: World, name: str) -> None:
    """Only a signature by a trusted key is accepted; each refusal has a reason, and nothing changes."""
    make, want = BAD[name]
    before = stored(isolated)
    status, code, message = error_of(put(isolated, make()))
    assert status == 400
    # As Azure has it: what cannot be read, and what nobody signed who may, is an operation that is invalid.
    unreadable = "Malformed JWT" in want or "Unknown base64" in want
    nobody = "certificates, got" in message or "Unsigned JWS" in message
    assert code == ("InvalidOperation" if unreadable or nobody else "InvalidParameter")
    assert want in message
    assert stored(isolated) == before


def test_a_text_that_is_no_policy(world: World) -> None:
    """A policy that does not parse is refused in Azure's words, with its place, and nothing changes."""
    put(world, unsigned(PERMIT))
    status, code, message = error_of(put(world, unsigned("version=1.0\n[type==5]")))
    assert (status, code) == (400, "PolicyParsingError")
    assert message == (
        "Native operation failed with 74: Bad message    Msg:[Invalid policy was specified    Msg:[Policy "
        "Parser Exception Thrown: Offending symbol: '[' Line: '2', Column: '1' Failure message: 'mismatched "
        "input '[' expecting ';'' Failing rule: 'policy > versionInfo']]"
    )
    assert stored(world) == PERMIT


def test_too_much(world: World) -> None:
    """A body past the bound is refused before it is read."""
    assert put(world, "a" * (2 << 20)).status_code == 413
    long = unsigned(PERMIT + "//" + "a" * 300_000)
    assert error_of(put(world, long))[1] == "InvalidParameter"


@pytest.mark.parametrize(
    "path", ["/policies/Nothing", "/policies/SgxEnclave%2f..", "/policies/..", "/policies/"]
)
def test_paths_that_lead_nowhere(world: World, path: str) -> None:
    """An unknown kind, and an unknown path, have no policy."""
    answer = world.owner("GET", f"{path}?{VERSION}")
    assert answer.status_code in (400, 404)
    assert "error" in answer.json()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "api-version: want one, got none"),
        ("api-version=1", "api-version: want a date, got '1'"),
        ("api-version=7.4", "api-version: want a date, got '7.4'"),
        ("api-version=2022-08-01-beta", "api-version: want a date, got '2022-08-01-beta'"),
    ],
)
def test_api_versions(world: World, query: str, message: str) -> None:
    """Every dated version is taken; what is no version is not."""
    for version in ("2018-09-01-preview", "2020-10-01", "2022-08-01", "2025-06-01", "2026-03-11-preview"):
        assert world.owner("GET", f"/policies/SgxEnclave?api-version={version}").status_code == 200
    assert error_of(world.owner("GET", f"/policies/SgxEnclave?{query}")) == (400, "BadRequest", message)


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/policies/SgxEnclave", None),
        ("PUT", "/policies/SgxEnclave", "Attestation Reader"),
        ("POST", "/policies/SgxEnclave:reset", "Attestation Reader"),
        ("GET", "/certificates", None),
        ("POST", "/certificates:add", "Attestation Reader"),
        ("POST", "/certificates:remove", "Owner"),
        ("POST", "/certs:rotate", "Attestation Reader"),
    ],
)
def test_who_may(world: World, method: str, path: str, role: str | None) -> None:
    """Without a token, and with a role that does not do, the answer is 401 in Azure's words."""
    answer = world.ask(method, f"{path}?{VERSION}")
    message = f"Access to {path} requires a valid JWT bearer token"
    assert error_of(answer) == (401, "Unauthorized", message)
    if role is not None:
        status, code, told = error_of(world.owner(method, f"{path}?{VERSION}", role))
        assert (status, code) == (401, "Unauthorized")
        assert told.startswith(f"{message}: want a role that allows attestation/")
        assert told.endswith(f", got {role}")


def test_two_at_once(world: World) -> None:
    """Two owners who set policies at the same time leave one of both, whole."""
    texts = [PERMIT + f"// {number}" for number in range(6)]
    writers = [Thread(target=put, args=(world, unsigned(text))) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert stored(world) in texts


def test_a_policys_hash_is_azures(world: World) -> None:
    """The hash is the one that Azure Attestation gave for this draft, in a recording of October 2022."""
    from tests.services.attestation.test_attesting import sgx

    answer = world.attest("SgxEnclave", sgx() | {"draftPolicyForAttestation": PERMIT})
    hashed = claims_of(answer.json()["token"])["x-ms-policy-hash"]
    assert hashed == "z0FRjKS0ssQTNur1V6BV8WIrh9M3fzgTo0EfHRvapWU"


def test_a_policys_hash_and_signer_in_tokens(isolated: World) -> None:
    """A token names the policy that it was made under, and who signed that."""
    from tests.services.attestation.test_attesting import sgx

    put(isolated, owner("trusted").policy(PERMIT))
    claims = claims_of(isolated.attest("SgxEnclave", sgx()).json()["token"])
    assert claims["x-ms-policy-hash"] == b64u(sha256(b64u(PERMIT.encode()).encode()))
    assert claims["x-ms-policy-signer"]["jwk"]["x5c"] == owner("trusted").chain
