"""Permissions: a token for one plane is not accepted by another."""

from __future__ import annotations

import msgspec
import pytest

from kluis.serve.settings import AUDIENCES
from kluis.services.attestation import gate
from kluis.services.attestation.gate import AttestationGate
from kluis.services.web import Answer, Bearer, Operation, Refusal
from tests.services.web.issuer import FixedClock, TokenMaker

MAKER = TokenMaker()
OWN = "https://localhost:8443"
DATA, MANAGEMENT, CORE = AUDIENCES["attestation"]
POLICY = "/instances/one/policies/SgxEnclave"
PROVIDER = "/Subscriptions/s/resourceGroups/g/providers/Microsoft.Attestation/attestationProviders/one"
OPERATIONS = "/providers/Microsoft.Attestation/operations"


def admitted(target: str, access: str, audience: object) -> None:
    """Send a request with all permissions, with a token for ``audience``."""
    issuer = msgspec.structs.replace(MAKER.issuer(), audiences=(*AUDIENCES["attestation"], OWN))
    asked = Operation(
        name="Asked", method="GET", path="/", handler=lambda _: Answer(), summary="", access=access
    )
    gate_of = AttestationGate(Bearer(issuer), FixedClock(), lambda _: False)
    headers = MAKER.header("Owner", "Attestation Contributor", aud=audience)
    gate_of.admit(asked, target, {"authorization": headers["Authorization"]})


@pytest.mark.parametrize("audience", [DATA, DATA + "/", OWN, [MANAGEMENT, DATA]])
def test_the_data_plane(audience: object) -> None:
    """Policies and signers need a token of the attestation service."""
    admitted(POLICY, gate.WRITE, audience)


@pytest.mark.parametrize("target", [PROVIDER, OPERATIONS])
@pytest.mark.parametrize("audience", [MANAGEMENT, MANAGEMENT + "/", CORE + "/", OWN, [DATA, CORE]])
def test_the_control_plane(target: str, audience: object) -> None:
    """Instances are made with a token of Azure Resource Manager's."""
    admitted(target, gate.MANAGE, audience)


@pytest.mark.parametrize("audience", [MANAGEMENT, CORE + "/", [MANAGEMENT, CORE]])
def test_another_planes_token_changes_no_policy(audience: object) -> None:
    """Every tool of a subscription's owner has a token for its control plane: it is not accepted here."""
    with pytest.raises(Refusal, match=r"aud: want https://attest\.azure\.net, got https://man") as caught:
        admitted(POLICY, gate.WRITE, audience)
    assert (caught.value.status, caught.value.code) == (401, "Unauthorized")


@pytest.mark.parametrize("access", [gate.MANAGE, gate.KNOWN])
@pytest.mark.parametrize("target", [PROVIDER, OPERATIONS])
def test_another_planes_token_makes_no_instance(target: str, access: str) -> None:
    """A token that was given to an attestation service is no key to the subscription."""
    with pytest.raises(
        Refusal, match=r"aud: want https://management\.azure\.com or .*, got https://attest"
    ) as caught:
        admitted(target, access, DATA)
    assert caught.value.status == 401


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (POLICY, "Unauthorized"),
        (PROVIDER, "AuthenticationFailed"),
        (OPERATIONS, "AuthenticationFailed"),
        ("/subscriptions", "AuthenticationFailed"),
    ],
)
def test_each_plane_has_its_words(target: str, code: str) -> None:
    """A request without a token gets the answer of Azure's service for that plane, on each of its paths."""
    gate_of = AttestationGate(None, FixedClock(), lambda _: False)
    refusal = gate_of.unknown(target, None)
    assert (refusal.status, refusal.code) == (401, code)
