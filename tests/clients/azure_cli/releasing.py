"""Keys that are released, and what their policies may say."""

from __future__ import annotations

import hashlib
import json
import secrets

from command import ATTEST, VAULT, World, b64u, from_b64u, scenario

# A public key: the owner of the private key could open the release, and nobody does.
N = b64u(b"\xc1" + secrets.token_bytes(254) + b"\x01")
JWKS = json.dumps(
    {"keys": [{"kty": "RSA", "kid": "offer", "key_ops": ["encrypt"], "e": "AQAB", "n": N}]}
).encode()
EXPORTABLE = ("--kty", "RSA-HSM", "--exportable", "true")


def policy(world: World, **claims: str) -> str:
    """The path of a policy that wants these of the attestation service's tokens."""
    wanted = [{"claim": name.replace("_", "-"), "equals": value} for name, value in claims.items()]
    anybody = {"version": "1.0.0", "anyOf": [{"authority": world.attestation, "allOf": wanted}]}
    return world.file(json.dumps(anybody))


@scenario(
    "az keyvault key create --exportable --policy --immutable, set-attributes --policy; get-policy-template"
)
def policies_of_release(world: World) -> None:
    name, path = world.fresh(), policy(world, x_ms_attestation_type="sevsnpvm")
    here = ("--vault-name", world.name, "-n", name)
    create = ("keyvault", "key", "create", *here)
    world.refused("AKV.SKR.1004", *create, *EXPORTABLE)
    world.refused("AKV.SKR.1005", *create, "--kty", "RSA-HSM", "--policy", path)
    world.refused("AKV.SKR.1006", *create, "--kty", "RSA", "--exportable", "true", "--policy", path)
    made = world.az(*create, *EXPORTABLE, "--policy", path)
    assert made["attributes"]["exportable"] is True
    shown = world.key("show", name)["releasePolicy"]
    assert (shown["immutable"], shown["contentType"]) == (False, "application/json; charset=utf-8")
    assert json.loads(shown["encodedPolicy"])["anyOf"][0]["authority"] == world.attestation
    other = policy(world, x_ms_attestation_type="tdxvm")
    assert "tdxvm" in world.key("set-attributes", name, "--policy", other)["releasePolicy"]["encodedPolicy"]
    world.key("set-attributes", name, "--policy", path, "--immutable", "true")
    world.refused("AKV.SKR.1020", "keyvault", "key", "set-attributes", *here, "--policy", other)
    assert world.az("keyvault", "key", "get-policy-template")["version"]
    # What it would fetch is by the region in a vault's name, from Microsoft.
    world.refused(
        "Fail to fetch default cvm policy", "keyvault", "key", "create", "--vault-name", world.name,
        "-n", world.fresh(), *EXPORTABLE, "--default-cvm-policy",
    )  # fmt: skip


@scenario("az rest: an SNP guest attested, and a key released to it")
def release(world: World) -> None:
    made = world.forged("snp", report_data=hashlib.sha256(JWKS).digest() + bytes(32))
    bundle = {"SnpReport": b64u(made["report"]), "VcekCertChain": b64u(made["chain"])}
    asked = {
        "report": b64u(json.dumps(bundle).encode()),
        "runtimeData": {"data": b64u(JWKS), "dataType": "JSON"},
    }
    json_body = ("--headers", "Content-Type=application/json", "--body")
    token = world.az(
        "rest", "-m", "post", "-u", f"{world.attestation}/attest/SevSnpVm?api-version=2022-08-01",
        "--resource", ATTEST, *json_body, f"@{world.file(json.dumps(asked))}",
    )["token"]  # fmt: skip
    name, path = world.fresh(), policy(world, x_ms_attestation_type="sevsnpvm")
    kid = world.key("create", name, *EXPORTABLE, "--policy", path)["key"]["kid"]
    target = f"@{world.file(json.dumps({'target': token}))}"
    ask = (
        "rest",
        "-m",
        "post",
        "-u",
        f"{kid}/release?api-version=7.4",
        "--resource",
        VAULT,
        *json_body,
        target,
    )
    said = json.loads(from_b64u(world.az(*ask)["value"].split(".")[1]))
    assert said["request"]["kid"] == kid
    assert said["response"]["key"]["key"]["key_hsm"]
    other = policy(world, x_ms_attestation_type="tdxvm")
    world.key("set-attributes", name, "--policy", other)
    # Azure only reports that it does not meet the policy; here the claim is named, too.
    world.refused("x-ms-attestation-type", *ask)
