"""Policy management certificates: added and removed by signatures of those that are trusted already."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from kluis.enclave.store import SealedStore
from tests.keys import rsa_key
from tests.services.attestation.owners import Owner, owner
from tests.services.attestation.world import PERMIT, VERSION, World, error_of

FIRST, SECOND, STRANGER = owner("first"), owner("second"), owner("stranger")


@pytest.fixture
def isolated(storage: SealedStore) -> World:
    """A service whose own instance trusts one signer."""
    return World(storage, policy_signers=(FIRST.der,))


def change(world: World, what: str, body: Any) -> Any:
    """Add or remove, with a body as it is, or as JSON."""
    content = body if isinstance(body, str) else json.dumps(body)
    return world.owner("POST", f"/certificates:{what}?{VERSION}", content=content)


def listed(world: World) -> list[list[str]]:
    """The chains that are trusted."""
    claims = world.token(world.owner("GET", f"/certificates?{VERSION}"))
    keys = claims["x-ms-policy-certificates"]["keys"]
    assert all({"alg": "RS256", "kty": "RSA", "use": "sig"}.items() <= key.items() for key in keys)
    return [key["x5c"] for key in keys]


def test_added_and_removed(isolated: World) -> None:
    """A trusted signer adds another, who then signs policies, and removes the first."""
    assert listed(isolated) == [FIRST.chain]
    claims = isolated.token(change(isolated, "add", f'"{FIRST.certificate_of(SECOND)}"'))
    thumbprint = hashlib.sha1(SECOND.der).hexdigest().upper()
    assert claims["x-ms-certificate-thumbprint"] == thumbprint
    assert claims["x-ms-policycertificates-result"] == claims["x-ms-certificate-result"] == "IsPresent"
    assert listed(isolated) == [FIRST.chain, SECOND.chain]
    path = f"/policies/SgxEnclave?{VERSION}"
    assert isolated.owner("PUT", path, content=SECOND.policy(PERMIT)).status_code == 200
    claims = isolated.token(change(isolated, "remove", f'"{SECOND.certificate_of(FIRST)}"'))
    assert claims["x-ms-policycertificates-result"] == "IsAbsent"
    assert listed(isolated) == [SECOND.chain]
    answer = isolated.owner("PUT", path, content=FIRST.policy(PERMIT))
    assert error_of(answer)[1] == "InvalidOperation"


def test_said_twice(isolated: World) -> None:
    """Adding what is there, and removing what is not, change nothing and say so."""
    for _ in range(2):
        claims = isolated.token(change(isolated, "add", f'"{FIRST.certificate_of(SECOND)}"'))
        assert claims["x-ms-policycertificates-result"] == "IsPresent"
    claims = isolated.token(change(isolated, "remove", f'"{FIRST.certificate_of(STRANGER)}"'))
    assert claims["x-ms-policycertificates-result"] == "IsAbsent"
    assert len(listed(isolated)) == 2


@pytest.mark.parametrize(
    "shape",
    [
        lambda jws: json.dumps(jws),
        lambda jws: jws,
        lambda jws: json.dumps({"policyCertificateToAdd": jws}),
    ],
)
@pytest.mark.parametrize("claim", ["policyCertificate", "maa-policyCertificate", "x-ms-policyCertificate"])
def test_shapes_of_the_body(isolated: World, shape: Any, claim: str) -> None:
    """A JSON string, the JWS itself and an object say the same, and so do the claim's three names."""
    answer = change(isolated, "add", shape(FIRST.certificate_of(SECOND, claim)))
    assert isolated.token(answer)["x-ms-policycertificates-result"] == "IsPresent"


def test_by_a_stranger(isolated: World) -> None:
    """Nobody adds themselves, and nobody removes others."""
    for what, target in (("add", STRANGER), ("remove", FIRST)):
        answer = change(isolated, what, f'"{STRANGER.certificate_of(target)}"')
        status, code, message = error_of(answer)
        assert (status, code) == (400, "InvalidOperation")
        assert "want one of 1 policy management certificates, got CN=stranger" in message
    assert listed(isolated) == [FIRST.chain]


def test_a_key_that_signs_nothing(isolated: World) -> None:
    """A certificate with an unsupported key is not trusted: if it were the only one, no policy could be
    set.
    """
    weak = Owner("weak", rsa_key(bits=1024))
    answer = change(isolated, "add", f'"{FIRST.certificate_of(weak)}"')
    assert error_of(answer) == (
        400,
        "InvalidParameter",
        "policyCertificate.x5c[0]: key of CN=weak: has 1024 bits, want 2048 to 8192",
    )
    assert listed(isolated) == [FIRST.chain]
    claims = isolated.token(change(isolated, "remove", f'"{FIRST.certificate_of(weak)}"'))
    assert claims["x-ms-policycertificates-result"] == "IsAbsent"


def test_the_last_one_stays(isolated: World) -> None:
    """An isolated instance is never without a signer."""
    answer = change(isolated, "remove", f'"{FIRST.certificate_of(FIRST)}"')
    assert error_of(answer) == (
        400,
        "InvalidOperation",
        "policy certificates: want at least 1 to stay, got the last one to remove",
    )


def test_an_instance_without(world: World) -> None:
    """An instance that is not isolated lists none and takes none."""
    assert listed(world) == []
    answer = change(world, "add", f'"{FIRST.certificate_of(SECOND)}"')
    assert error_of(answer)[1:] == (
        "InvalidOperation",
        "policy certificates: want trust model Isolated, got AAD",
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "body: is not JSON"),
        ("[]", "Malformed JWT: Could not find first period in the token"),
        ("5", "Malformed JWT"),
        ('{"other":"x"}', "body: want a JSON string with a JWS, or a member policyCertificateToAdd or "),
        ('"' + FIRST.sign(b"{}") + '"', 'Could not find "maa-policyCertificate" claim in policy token'),
        ('"' + FIRST.sign(b'{"policyCertificate":5}') + '"', "Could not find"),
        ('"' + FIRST.sign(b'{"policyCertificate":{"x5c":[]}}') + '"', "policyCertificate.x5c: want a list"),
        ('"' + FIRST.sign(b'{"policyCertificate":{"x5c":["AAAA"]}}') + '"', "policyCertificate.x5c[0]"),
    ],
)
def test_bodies_that_are_none(isolated: World, body: str, message: str) -> None:
    """Each refusal states the error."""
    status, code, told = error_of(change(isolated, "add", body))
    assert status == 400
    assert code == ("InvalidOperation" if message[:9] in ("Malformed", "Could not") else "InvalidParameter")
    assert message in told
