"""Machines: TPMs, by Azure's client, and Azure's guests, as their own client library writes it."""

from __future__ import annotations

import base64
import json

from azure.core.exceptions import HttpResponseError
from azure.security.attestation import AttestationType
from scenario import VERSION, World, b64u, from_b64u, parts_of, raises, refused, scenario

INIT = json.dumps({"payload": {"type": "aikcert"}})
TPM = (
    "version=1.2; authorizationrules{ => permit(); }; "
    'issuancerules{ => issue(type="PlatformAttested", value=true); };'
)
AUTHOR = b64u(b"\1" * 32)
MISSING = "A VBS attestation policy has not been set on the attestation provider."


def challenged(world: World, url: str) -> tuple[bytes, str]:
    """A challenge and its context, by the client."""
    made = json.loads(world.attester(url).attest_tpm(INIT))["payload"]
    return from_b64u(made["challenge"]), made["service_context"]


@scenario('C.attest_tpm(\'{"payload": {"type": "aikcert"}}\')', 12)
def tpm_challenge(world: World) -> None:
    with world.instance() as url:
        with refused(400, "InvalidOperation", MISSING):
            world.attester(url).attest_tpm(INIT)
        world.owner(url).set_policy(AttestationType.TPM, TPM)
        first, second = challenged(world, url), challenged(world, url)
        assert len(first[0]) >= 16
        assert first[1]
        assert first[0] != second[0]


@scenario("C.attest_tpm('{\"request\": ...}'), version 2 of the protocol")
def tpm_request(world: World) -> None:
    with world.instance() as url:
        world.owner(url).set_policy(AttestationType.TPM, TPM)
        challenge, context = challenged(world, url)
        jws = world.forged("tpm", challenge=challenge, context=context)["request"].decode()
        client = world.attester(url)
        report = json.loads(client.attest_tpm(json.dumps({"request": jws})))["report"]
        claims = world.claims(report, url)
        assert claims["PlatformAttested"] is True
        assert claims["x-ms-attestation-type"] == "tpm"
        assert claims["cnf"]["jwk"]["kty"] == "RSA"
        assert claims["exp"] - claims["iat"] == 86400
        # Of another instance's challenge, of another quote's nonce: nothing.
        with world.instance() as other:
            world.owner(other).set_policy(AttestationType.TPM, TPM)
            with raises(HttpResponseError):
                world.attester(other).attest_tpm(json.dumps({"request": jws}))
        wrong = world.forged("tpm", challenge=challenge, context=context, extra=bytes(32))["request"].decode()
        with refused(400, "InvalidParameter"):
            client.attest_tpm(json.dumps({"request": wrong}))
        changed = jws[:-8] + ("A" if jws[-8] != "A" else "B") + jws[-7:]
        with refused(400, "InvalidParameter"):
            client.attest_tpm(json.dumps({"request": changed}))


@scenario("C.attest_tpm('{\"request\": ...}'), version 1 of the protocol")
def tpm_request_of_version_1(world: World) -> None:
    with world.instance() as url:
        world.owner(url).set_policy(AttestationType.TPM, TPM)
        challenge, context = challenged(world, url)
        jws = world.forged("tpm", challenge=challenge, context=context, version=1)["request"].decode()
        report = json.loads(world.attester(url).attest_tpm(json.dumps({"request": jws})))["report"]
        assert world.claims(report, url)["PlatformAttested"] is True


@scenario("C.attest_tpm of a key that the TPM certified; a policy on it; its report's life, and x5t for x5c")
def tpm_certified_key(world: World) -> None:
    policy = (
        'version=1.2; authorizationrules{ k:[type=="x-ms-tpm-request-key"] => '
        'add(type="attributes", value=JmesPath(k.value, "info.tpm_certify.obj_attr")); '
        'a:[type=="attributes"] => add(type="number", value=JsonToClaimValue(a.value)); '
        '[type=="number", value==393330] => permit(); }; issuancerules{ '
        '=> issueproperty(type="report_validity_in_minutes", value=60); '
        '=> issueproperty(type="omit_x5c", value=true); };'
    )
    with world.instance() as url:
        owner, client = world.owner(url), world.attester(url)
        owner.set_policy(AttestationType.TPM, policy)
        challenge, context = challenged(world, url)
        jws = world.forged("tpm", challenge=challenge, context=context, certified=True)["request"].decode()
        report = json.loads(client.attest_tpm(json.dumps({"request": jws})))["report"]
        claims = world.claims(report, url)
        assert claims["exp"] - claims["iat"] == 3600
        header = parts_of(report)[0]
        assert "x5t" in header
        assert "x5c" not in header
        jws = world.forged("tpm", challenge=challenge, context=context)["request"].decode()
        with refused(400, "PolicyEvaluationError"):
            client.attest_tpm(json.dumps({"request": jws}))


@scenario("C.attest_tpm of a VBS enclave: its claims, by a policy of version 1.2; another kernel's signature")
def vbs_enclave(world: World) -> None:
    policy = (
        "version=1.2; authorizationrules{ "
        f'[type=="vsmReportPresent", value==true] && [type=="enclaveAuthorId", value=="{AUTHOR}"] && '
        '[type=="enclaveImageId", value=="AQEBAQEBAQEBAQEBAQEBAQ"] && [type=="enclaveSvn", value>=4] '
        '=> permit(); }; issuancerules{ s:[type=="enclaveSvn"] => issue(type="svn", value=s.value); };'
    )
    with world.instance() as url:
        world.owner(url).set_policy(AttestationType.TPM, policy)
        challenge, context = challenged(world, url)
        jws = world.forged("vbs", challenge=challenge, context=context)["request"].decode()
        report = json.loads(world.attester(url).attest_tpm(json.dumps({"request": jws})))["report"]
        assert world.claims(report, url)["svn"] == 4
        jws = world.forged("vbs", challenge=challenge, context=context, stranger=True)["request"].decode()
        with refused(400, "InvalidParameter"):
            world.attester(url).attest_tpm(json.dumps({"request": jws}))
        jws = world.forged("tpm", challenge=challenge, context=context)["request"].decode()
        with refused(400, "PolicyEvaluationError"):
            world.attester(url).attest_tpm(json.dumps({"request": jws}))


@scenario("C.attest_tpm with messages that are none; without a token where the instance wants one")
def tpm_messages_that_are_none(world: World) -> None:
    with world.instance() as url:
        world.owner(url).set_policy(AttestationType.TPM, TPM)
        for text in (
            "",
            "{",
            "[]",
            "{}",
            '{"request": 7}',
            '{"request": "a.b.c"}',
            '{"payload": {"type": "other"}}',
        ):
            with refused(400, "InvalidParameter"):
                world.attester(url).attest_tpm(text)
        path, body = "/attest/Tpm?api-version=2020-10-01", {"data": b64u(INIT.encode())}
        assert world.post(path, body, url).status_code == 401
        changed = {"properties": {"tpmAttestationAuthentication": "Disabled"}}
        world.manager().attestation_providers.update("group", url.rpartition("/")[2], changed)
        assert world.post(path, body, url).status_code == 200


@scenario("POST /attest/AzureGuest as the guest's client library: an envelope that its TPM opens")
def azure_guest(world: World) -> None:
    info = world.forged("vm")["info"]
    answer = world.post("/attest/AzureGuest?api-version=2020-10-01", {"AttestationInfo": b64u(info)})
    assert answer.status_code == 200, answer.text
    envelope = from_b64u(answer.json()["token"])
    made = json.loads(envelope)
    assert {"EncryptedInnerKey", "EncryptionParams", "AuthenticationData", "Jwt"} <= set(made)
    assert made["EncryptionParams"]["BlockMode"] == "ChainingModeGCM"
    assert len(base64.b64decode(made["AuthenticationData"])) == 16
    claims = world.claims(world.forged("unseal", envelope=envelope)["token"].decode())
    assert claims["x-ms-attestation-type"] == "azurevm"
    assert claims["secureboot"] is True
    assert claims["x-ms-runtime"]["keys"][0]["kid"] == "TpmEphemeralEncryptionKey"
    assert claims["x-ms-runtime"]["client-payload"] == {"nonce": base64.b64encode(b"fresh").decode()}
    assert claims["x-ms-isolation-tee"]["x-ms-attestation-type"] == "sevsnpvm"
    # The default policy denies a start without secure boot.
    info = world.forged("vm", secure=False)["info"]
    answer = world.post(f"/attest/AzureGuest?api-version={VERSION}", {"attestationInfo": b64u(info)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "PolicyEvaluationError")
    answer = world.post(f"/attest/azureguest?api-version={VERSION}", {"AttestationInfo": "AAAA"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidParameter")
