"""Identities and ways to sign in; and requests that have no command."""

from __future__ import annotations

import json
import time
from pathlib import Path

import jwt
from command import ATTEST, VAULT, World, b64u, from_b64u, scenario

FIRST = "00000000-0000-4000-8000-6b6c75697300"
POLICY = "version=1.0; authorizationrules{=> permit();}; issuancerules{};"


def shown(world: World, resource: str, **variables: str) -> tuple[str, str]:
    """Whom a token for a resource is of, and how that was shown."""
    found = world.az("account", "get-access-token", "--resource", resource, **variables)
    claims = json.loads(from_b64u(found["accessToken"].split(".")[1]))
    return claims["sub"], claims["appidacr"]


def account(world: World, at: int) -> str:
    """A token of the cluster for its account, of an hour."""
    cluster = world.proofs["cluster"]
    said = {"iss": cluster["issuer"], "sub": cluster["subject"], "aud": ["api://AzureADTokenExchange"]}
    said |= {"iat": at, "nbf": at, "exp": at + 3600}
    return jwt.encode(said, Path(cluster["key"]).read_text(), "RS256", {"kid": cluster["kid"]})


@scenario("az cloud register --cloud-config; az login --service-principal")
def sign_in(world: World) -> None:
    with world.signed_out():
        (one,) = world.sign_in("admin")
        assert (one["id"], one["state"], one["tenantId"]) == (FIRST, "Enabled", world.tenant)
        assert one["user"] == {"name": "admin", "type": "servicePrincipal"}
        assert world.az("account", "show")["id"] == FIRST
        assert world.az("account", "get-access-token", "--resource", ATTEST)["tokenType"] == "Bearer"


@scenario("az login --allow-no-subscriptions, by one who may see no instance; with a wrong secret")
def sign_in_to_nothing(world: World) -> None:
    with world.signed_out():
        world.refused(
            "No subscriptions found", "login", "--service-principal", "-u", "workload",
            "-p", f"@{world.file(world.secrets['workload'])}", "--tenant", world.tenant,
        )  # fmt: skip
        (one,) = world.sign_in("workload", "--allow-no-subscriptions")
        assert one["name"] == "N/A(tenant level account)"
        world.refused(
            "want a pair of clients.json", "login", "--service-principal", "-u", "admin", "-p", "guess",
            "--tenant", world.tenant,
        )  # fmt: skip


@scenario("az login --identity, as in App Service")
def sign_in_as_an_identity(world: World) -> None:
    here = {
        "IDENTITY_ENDPOINT": f"{world.issuer}/msi/token",
        "IDENTITY_HEADER": world.secrets["workload"],
    }
    with world.signed_out():
        world.az("login", "--identity", "--allow-no-subscriptions", **here)
        found = world.az("account", "get-access-token", "--resource", ATTEST, **here)
        assert json.loads(from_b64u(found["accessToken"].split(".")[1]))["sub"] == "workload"


@scenario("az login --service-principal --certificate, with its chain (--use-cert-sn-issuer), or another's")
def sign_in_by_a_certificate(world: World) -> None:
    certificates = world.proofs["certificates"]
    words = ("login", "--service-principal", "-u", "workload", "--tenant", world.tenant)
    for more in ((), ("--use-cert-sn-issuer",)):
        with world.signed_out():
            given = ("--certificate", certificates["workload"], "--allow-no-subscriptions", *more)
            (one,) = world.az(*words, *given)
            assert (one["user"]["name"], one["user"]["type"]) == ("workload", "servicePrincipal")
            assert shown(world, ATTEST) == shown(world, VAULT) == ("workload", "2")
    with world.signed_out():
        world.refused("AADSTS700027", *words, "--certificate", certificates["reader"])


@scenario("az login --service-principal --federated-token, as in a workflow; one that is over")
def sign_in_by_a_federated_token(world: World) -> None:
    words = ("login", "--service-principal", "-u", "workload", "--tenant", world.tenant)
    with world.signed_out():
        token = account(world, int(time.time()))
        (one,) = world.az(*words, "--federated-token", token, "--allow-no-subscriptions")
        assert one["user"] == {"name": "workload", "type": "servicePrincipal"}
        assert shown(world, ATTEST) == shown(world, VAULT) == ("workload", "2")
    with world.signed_out():
        world.refused("AADSTS700024", *words, "--federated-token", account(world, int(time.time()) - 7200))


@scenario("az login --identity, as on a virtual machine, with --client-id or without; of another")
def sign_in_as_the_machine(world: World) -> None:
    machine = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": world.proofs["machine"]}
    for more in ((), ("--client-id", "workload")):
        with world.signed_out():
            (one,) = world.az("login", "--identity", "--allow-no-subscriptions", *more, **machine)
            assert one["user"]["type"] == "servicePrincipal"
            assert shown(world, VAULT, **machine) == ("workload", "0")
    with world.signed_out():
        words = ("login", "--identity", "--allow-no-subscriptions", "--client-id", "admin")
        world.refused("client_id: want workload or none, got 'admin'", *words, **machine)


@scenario("az rest: a policy set, shown and reset; the signing keys")
def policies(world: World) -> None:
    path = f"{world.attestation}/policies/OpenEnclave"
    text = ("--headers", "Content-Type=text/plain", "--body")
    owner = ("--resource", ATTEST)
    body = b64u(json.dumps({"AttestationPolicy": b64u(POLICY.encode())}).encode())
    jws, version = f"eyJhbGciOiJub25lIn0.{body}.", "api-version=2022-08-01"
    assert "token" in world.az("rest", "-m", "put", "-u", f"{path}?{version}", *owner, *text, jws)
    shown = world.az("rest", "-m", "get", "-u", f"{path}?{version}", *owner)["token"]
    assert json.loads(from_b64u(shown.split(".")[1]))["x-ms-policy"] == jws
    world.az("rest", "-m", "post", "-u", f"{path}:reset?{version}", *owner, *text, "eyJhbGciOiJub25lIn0..")
    shown = world.az("rest", "-m", "get", "-u", f"{path}?{version}", *owner)["token"]
    assert json.loads(from_b64u(shown.split(".")[1]))["x-ms-policy"] != jws
    assert world.az("rest", "-u", f"{world.attestation}/certs", "--skip-authorization-header")["keys"]
    world.refused(
        "requires a valid JWT bearer token", "rest", "-u", f"{path}?{version}", "--skip-authorization-header"
    )
