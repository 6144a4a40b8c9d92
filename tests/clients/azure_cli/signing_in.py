"""Who signs in, and how; and requests that have no command of their own."""

from __future__ import annotations

import json

from command import ATTEST, World, b64u, from_b64u, scenario

FIRST = "00000000-0000-4000-8000-6b6c75697300"
POLICY = "version=1.0; authorizationrules{=> permit();}; issuancerules{};"


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
