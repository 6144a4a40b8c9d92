"""TPMs: a challenge answered by its own key, by a quote over both, or nothing."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kluis.enclave.store import SealedStore
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.sipa import Sipa
from kluis.formats.tpm.algorithm import HashId
from tests.evidence.tpm.forge import CLOCK, area, rsa_key, sign
from tests.formats.eventlog.logs import event, log
from tests.services.attestation.tpm.client import KEY, PERMIT, Client, jwk_text, signed, world_of
from tests.services.attestation.tpm.enclaves import idks, vbs_request
from tests.services.attestation.vm import boot, sipa
from tests.services.attestation.world import (
    URL,
    VERSION,
    World,
    b64u,
    claims_of,
    error_of,
    from_b64u,
    header_of,
)

ISSUE_ALL = "".join(
    f'c:[type=="{name}"] => issue(type="out-{name}", value=c.value);'
    for name in (
        "aikValidated", "aikPubHash", "tpmVersion", "secureBootEnabled", "bootDebuggingDisabled",
        "notSafeMode", "notWinPE", "vbsEnabled", "vbsReportPresent", "events", "x-ms-tpm-request-key",
    )
)  # fmt: skip


@pytest.fixture
def tpms(storage: SealedStore) -> World:
    """A service with a policy for TPMs that issues what the service found."""
    world = world_of(storage)
    assert world.set_policy("Tpm", PERMIT.replace("ISSUE", ISSUE_ALL)).status_code == 200
    return world


def issue(world: World, rules: str, before: str = "") -> None:
    """Set a policy that permits, and issues something."""
    policy = PERMIT.replace("ISSUE", rules).replace("version=1.2;", f"version=1.2; {before}")
    assert world.set_policy("Tpm", policy).status_code == 200


def test_no_policy(storage: SealedStore) -> None:
    """Until a policy is set, even a challenge is refused, in Azure's words."""
    world = world_of(storage)
    answer = Client(world).send({"payload": {"type": "aikcert"}})
    status, code, message = error_of(answer)
    assert (status, code) == (400, "InvalidOperation")
    assert message.startswith("A VBS attestation policy has not been set on the attestation provider.")


def test_challenges(tpms: World) -> None:
    """Each is new, and comes in the wrapping of the question."""
    client = Client(tpms)
    assert client.begin()[0] != client.begin()[0]
    bare = json.loads(from_b64u(client.send({"type": "aikcert"}).json()["data"]))
    assert set(bare) == {"challenge", "service_context"}
    assert error_of(client.send({"type": "other"}))[2] == (
        "data: want type aikcert, or a request, got 'other'"
    )


def test_a_request_whose_key_is_quoted(tpms: World) -> None:
    """The report confirms the key, repeats the relying party's data, and has the policy's claims."""
    client = Client(tpms)
    token = client.token(client.v2())
    claims = tpms.verified(token)
    header = header_of(token)
    key = tpms.ask("GET", "/certs").json()["keys"][0]
    assert header["x5c"] == key["x5c"]
    events = json.loads(claims.pop("out-events"))["Events"]
    variables = [
        event["ProcessedData"] for event in events
        if event["EventTypeString"] == "EV_EFI_VARIABLE_DRIVER_CONFIG"
    ]  # fmt: skip
    assert variables[0]["UnicodeName"] == "SecureBoot"
    assert variables[0]["VariableData"] == "AQ"
    assert variables[0]["VariableGuid"] == "8BE4DF61-93CA-11D2-AA0D-00E098032B8C"
    jwk = json.loads(jwk_text(KEY))
    told = json.loads(claims.pop("out-x-ms-tpm-request-key"))
    assert told == {"jwk": jwk, "info": {"tpm_quote": {"hash_alg": "sha-256"}}}
    hashed = claims.pop("out-aikPubHash")
    assert len(base64.b64decode(hashed)) == 32
    for name in ("iat", "nbf", "jti", "x-ms-policy-hash"):
        claims.pop(name)
    assert claims == {
        "iss": URL,
        "exp": claims["exp"],
        "x-ms-ver": "1.0",
        "x-ms-attestation-type": "tpm",
        "x-kluis-protection": "vtpm",
        "x-kluis-key-binding": "quote",
        "cnf": {"jwk": jwk},
        "rp_data": "cnA",
        "nonce": "cnA",
        "out-aikValidated": True,
        "out-tpmVersion": 2,
        "out-secureBootEnabled": True,
        "out-bootDebuggingDisabled": False,
        "out-notSafeMode": False,
        "out-notWinPE": False,
        "out-vbsEnabled": False,
        "out-vbsReportPresent": False,
    }
    assert claims["exp"] == int(tpms.clock.at.timestamp()) + 86400


def test_windows_modes(tpms: World) -> None:
    """Windows's measured modes are reported; unmeasured ones are not known to be good."""
    modes = sipa((Sipa.BOOTDEBUGGING, b"\0"), (Sipa.SAFEMODE, b"\0"), (Sipa.WINPE, b"\1"),
                 (Sipa.VBS_VSM_REQUIRED, b"\1"))  # fmt: skip
    client = Client(tpms, boot(b"\1", modes))
    claims = client.report(client.v2())
    assert claims["out-bootDebuggingDisabled"] is True
    assert claims["out-notSafeMode"] is True
    assert claims["out-notWinPE"] is False
    assert claims["out-vbsEnabled"] is True


def test_a_request_whose_key_is_certified(tpms: World) -> None:
    """The policy reads what the TPM promises of the key."""
    client = Client(tpms)
    claims = client.report(client.certified())
    told = json.loads(claims["out-x-ms-tpm-request-key"])
    assert told["info"] == {"tpm_certify": {"name_alg": 11, "obj_attr": 0x60072, "auth_policy": ""}}


def test_version_1(tpms: World) -> None:
    """A quote as Windows hands it out is read, with its own log."""
    client = Client(tpms)
    claims = client.report(client.v1())
    assert claims["out-secureBootEnabled"] is True
    jwk = json.loads(jwk_text(KEY))
    assert claims["cnf"] == {"jwk": jwk}
    # The quote only covers the challenge, so nothing binds the key, and the token states that.
    assert claims["x-kluis-key-binding"] == "none"
    assert json.loads(claims["out-x-ms-tpm-request-key"]) == {"jwk": jwk}
    bound = client.report(client.v1(client.bound(jwk_text(KEY))))
    assert bound["x-kluis-key-binding"] == "quote"
    assert client.refused(client.v1(bytes(32)))[1].endswith(f"got {bytes(32).hex()}")


def test_properties_of_the_policy(tpms: World) -> None:
    """How long a report lives, and whether its header has the certificate, is the policy's to say."""
    issue(
        tpms,
        '=> issueproperty(type="report_validity_in_minutes", value=10);'
        '=> issueproperty(type="omit_x5c", value=true);',
    )
    client = Client(tpms)
    token = client.token(client.v2())
    claims, header = claims_of(token), header_of(token)
    assert claims["exp"] - claims["iat"] == 600
    assert "x5c" not in header
    der = base64.b64decode(tpms.ask("GET", "/certs").json()["keys"][0]["x5c"][0])
    assert header["x5t"] == b64u(hashlib.sha1(der).digest())
    issue(tpms, '=> issueproperty(type="report_validity_in_minutes", value=600000);')
    assert Client(tpms).refused(client.v2()) == (
        "InvalidParameter",
        "report_validity_in_minutes: want 1 to 525600, got 600000",
    )


def test_pcrs_that_a_policy_wants(tpms: World) -> None:
    """All must be quoted, unless the policy names fewer."""
    client = Client(tpms)
    some = client.v2(tpm={"pcrs_quoted": (0, 1, 2, 3, 4, 5, 6, 7)})
    assert client.refused(some)[1] == (
        f"TPM quote: PCRs: want those of required_pcr_mask 0xffffff, got none for {list(range(8, 24))}"
    )
    issue(tpms, "", 'configurationrules{ => issueproperty(type="required_pcr_mask", value=15); };')
    assert client.token(some)


def test_a_key_that_nobody_vouches_for(storage: SealedStore) -> None:
    """It needs a certificate; if the policy requires none, the service must be configured to attest it."""
    world = world_of(storage)
    issue(world, "")
    bare: Callable[[Client], str] = lambda client: client.v2(tpm={"aik_cert": ""})  # noqa: E731
    client = Client(world)
    assert client.refused(bare(client))[1] == (
        "aik_cert: want a certificate of the attestation key, got none"
    )
    issue(world, "", 'configurationrules{ => issueproperty(type="require_valid_aik_cert", value=false); };')
    assert client.refused(bare(client))[1].startswith("protection: want a level that keeps something out")
    told = world_of(storage, insecure_accept_unprotected=True)
    client = Client(told)
    assert client.report(bare(client))["x-kluis-protection"] == "none"


def test_a_draft(tpms: World) -> None:
    """A draft policy's report is signed by nobody."""
    client = Client(tpms)
    token = client.token(client.v2(), draftPolicyForAttestation=PERMIT.replace("ISSUE", ""))
    assert header_of(token)["alg"] == "none"
    assert "out-aikValidated" not in claims_of(token)


def test_pcrs_are_for_reading_only(tpms: World) -> None:
    """A policy reads the PCRs, and issues what it made of them, not them."""
    client = Client(tpms)
    value = client.vm.values[11][7].hex()
    query = f'JmesPath(p.value, "PCRs[? Index == `7`].Digests.SHA256 | @[0] == `\\"{value}\\"`")'
    rules = f'p:[type=="pcrs"] => add(type="good", value=JsonToClaimValue({query}));'
    asked = PERMIT.replace("=> permit();", rules + '[type=="good", value==true] => permit();')
    assert tpms.set_policy("Tpm", asked.replace("ISSUE", "")).status_code == 200
    assert client.token(client.v2())
    issue(tpms, 'p:[type=="pcrs"] => issue(type="all", value=p.value);')
    code, message = client.refused(client.v2())
    assert code == "PolicyEvaluationError"
    assert "is for reading only" in message


def test_a_clients_own_claims(tpms: World) -> None:
    """A client's statements about itself have a prefix, and the issuer CustomClaim: never the service's."""
    claims = [{"name": "secureBootEnabled", "value": True}, {"name": "OSName", "value": "Win"}]
    issue(
        tpms,
        'c:[type=="urn:kluis:custom-claim:OSName", issuer=="CustomClaim"] => issue(type="os", value=c.value);'
        'd:[type=="secureBootEnabled", value==true] => issue(type="sb", value=true);',
    )
    client = Client(tpms, boot(b"\0"))
    found = client.report(client.v2(custom_claims=claims))
    assert found["os"] == "Win"
    assert "sb" not in found


def test_who_may(tpms: World) -> None:
    """A bearer token is required, unless the instance is configured not to."""
    client = Client(tpms)
    assert error_of(client.send({"request": client.v2()}, headers=False))[:2] == (401, "Unauthorized")
    group = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Attestation/attestationProviders"
    body = {"location": "local", "properties": {"tpmAttestationAuthentication": "Disabled"}}
    tpms.owner("PUT", f"{group}/open?api-version=2021-06-01", json=body)
    question = {"data": b64u(b'{"type":"aikcert"}')}
    answer = tpms.ask("POST", f"/instances/open/attest/Tpm?{VERSION}", json=question)
    assert error_of(answer)[1] == "InvalidOperation"  # no policy, and no 401


def flip(name: str) -> Callable[[dict[str, Any]], None]:
    """Change one bit of a part."""

    def alter(said: dict[str, Any]) -> None:
        data = bytearray(from_b64u(said[name]))
        data[-1] ^= 1
        said[name] = b64u(bytes(data))

    return alter


def retyped(jws: str, **header: Any) -> str:
    """A request with another header, signed again by its key."""
    payload = from_b64u(jws.split(".")[1]).decode()
    return signed({"alg": "PS256", "typ": "attReqV2", **header}, payload)


def beside_its_certificate(said: dict[str, Any]) -> None:
    """A quote by one key, next to the certificate of another."""
    other = rsa_key()
    said["aik_pub"] = json.loads(jwk_text(other))
    said["signature"] = b64u(sign(other, from_b64u(said["quote"])).encode())


def bank_of(*values: tuple[int, int]) -> list[dict[str, Any]]:
    """A bank of SHA-256 whose values are of these PCRs and sizes."""
    said = [{"index": index, "digest": b64u(bytes(size))} for index, size in values]
    return [{"algorithm": 11, "values": said}]


BAD: dict[str, tuple[Callable[[Client], str], str]] = {
    "a signature changed": (lambda c: c.v2(alter=flip("signature")), "TPM quote: is not signed by the key"),
    "a key beside another's certificate": (
        lambda c: c.v2(alter=beside_its_certificate),
        "aik_pub: want the certificate's key, got another",
    ),
    "a quote changed": (lambda c: c.v2(alter=flip("quote")), "TPM quote: is not signed by the key"),
    "another challenge in the quote": (
        lambda c: c.v2(extra=bytes(32)),
        "TPM quote: qualifying data: want ",
    ),
    "a challenge of its own": (
        lambda c: c.v2(challenge=b64u(bytes(32))),
        "challenge: want one that this instance made, with its service_context, got another",
    ),
    "a context of its own": (
        lambda c: c.v2(service_context=b64u(bytes(72))),
        "challenge: want one that this instance made",
    ),
    "another key than the quote's": (
        lambda c: c.v2(rsa_key(), extra=c.bound(jwk_text(KEY))),
        "TPM quote: qualifying data: want ",
    ),
    "another signer": (
        lambda c: c.v2().rpartition(".")[0] + "." + signed({}, "", rsa_key()).rpartition(".")[2],
        "request: is not signed by the key it should be",
    ),
    "a shared key": (lambda c: retyped(c.v2(), alg="HS256"), "request alg: want PS256 or RS256, got 'HS256'"),
    "no algorithm": (lambda c: retyped(c.v2(), alg="none"), "request alg: want PS256 or RS256, got 'none'"),
    "another type": (lambda c: retyped(c.v2(), typ="JWT"), "request typ: want attReq or attReqV2, got 'JWT'"),
    "two parts": (lambda c: "a.b", "request: want three parts, got 2"),
    "a certification of another": (
        lambda c: c.certified(signature=b64u(sign(rsa_key(), b"x").encode())),
        "tpm_certify: is not signed by the attestation key",
    ),
    "another bank": (
        lambda c: c.v2(tpm={"pcrs": [{"algorithm": 12, "values": []}]}),
        "pcrs.algorithm: want 4 and 11, each once, got 12",
    ),
    "a bank twice": (
        lambda c: c.v2(tpm={"pcrs": [{"algorithm": 11, "values": []}] * 2}),
        "pcrs.algorithm: want 4 and 11, each once, got 11",
    ),
    "PCR 24": (lambda c: c.v2(tpm={"pcrs": bank_of((24, 32))}), "pcrs.index: want 0..23, got 24"),
    "a PCR twice": (
        lambda c: c.v2(tpm={"pcrs": bank_of((7, 32), (7, 32))}),
        "pcrs.7: want one value, got another",
    ),
    "a short value": (
        lambda c: c.v2(tpm={"pcrs": bank_of((7, 20))}),
        "pcrs.7: want a value of 32 bytes, got 20",
    ),
    "three other keys": (
        lambda c: c.v2(other_keys=[{"jwk": json.loads(jwk_text(KEY))}] * 3),
        "other_keys: want at most 2, got 3",
    ),
    "another key that the quote is over": (
        lambda c: c.v2(other_keys=[{"jwk": json.loads(jwk_text(KEY)), "info": {"tpm_quote": {}}}]),
        "other_keys.info: want tpm_certify or none, got tpm_quote",
    ),
    "another key that is none": (
        lambda c: c.v2(other_keys=[{"jwk": {"kty": "oct"}}]),
        "other_keys.kty: want EC or RSA, got 'oct'",
    ),
    "another key, of another certification": (
        lambda c: c.v2(other_keys=[{"jwk": json.loads(jwk_text(KEY)), "info": c.certification(rsa_key())}]),
        "tpm_certify: certifies another key",
    ),
    "a certification of another time": (
        lambda c: c.certified(extra=bytes(32)),
        "tpm_certify: qualifying data: want ",
    ),
    "a certification of the boot before": (
        lambda c: c.certified(clock=dataclasses.replace(CLOCK, reset_count=0)),
        "tpm_certify: want a key certified in the boot that was quoted, reset 1 and restart 2, got reset 0",
    ),
    "another key, certified in the boot before": (
        lambda c: c.v2(
            other_keys=[
                {
                    "jwk": json.loads(jwk_text(KEY)),
                    "info": c.certification(clock=dataclasses.replace(CLOCK, restart_count=1)),
                }
            ]
        ),
        "tpm_certify: want a key certified in the boot that was quoted, reset 1 and restart 2, got reset 1",
    ),
    "a certification of a key with other attributes": (
        lambda c: c.certified(public=b64u(area(KEY, 0x40072).encode())),
        "tpm_certify: certifies another key",
    ),
    "a certification beside a quote of another time": (
        lambda c: c.v2(extra=bytes(32), info=c.certification()),
        "TPM quote: qualifying data: want ",
    ),
    "a quote over the challenge alone": (
        lambda c: c.v2(extra=c.challenge),
        "TPM quote: qualifying data: want ",
    ),
    "a key that is not bound": (lambda c: c.v2(info={}), "request_key.info: want tpm_quote or tpm_certify"),
    "a weak hash": (
        lambda c: c.v2(info={"tpm_quote": {"hash_alg": "sha-1"}}),
        "hash_alg: want one of sha-256, sha-384, sha-512, got 'sha-1'",
    ),
    "another kind of log": (
        lambda c: c.v2(tpm={"logs": [{"type": "syslog", "log": ""}]}),
        "logs.type: want TCG or IMA, got 'syslog'",
    ),
    "nine logs": (
        lambda c: c.v2(tpm={"logs": [{"type": "TCG", "log": b64u(c.vm.log)}] * 9}),
        "logs: want at most 8, got 9",
    ),
    "a log twice": (
        lambda c: c.v2(tpm={"logs": [{"type": "TCG", "log": b64u(c.vm.log)}] * 2}),
        "event log: want PCRs as they were quoted, got others for ",
    ),
    "a claim too many": (
        lambda c: c.v2(custom_claims=[{"name": "a", "value": 1}] * 65),
        "custom_claims: want at most 64, got 65",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_hold(tpms: World, name: str) -> None:
    """Each part that is wrong is named, and no report is made."""
    make, want = BAD[name]
    client = Client(tpms)
    code, message = client.refused(make(client))
    assert code == "InvalidParameter"
    assert want in message


def test_an_old_challenge(tpms: World) -> None:
    """A challenge is good for ten minutes, and in no other instance."""
    client = Client(tpms)
    tpms.clock.at += timedelta(seconds=601)
    assert client.refused(client.v2())[1] == (
        "challenge: want one of the last 600 seconds, got one of 601 seconds ago"
    )
    tpms.clock.at -= timedelta(seconds=601)
    assert client.token(client.v2())


VBS = (
    'a:[type=="enclaveAuthorId"] => issue(type="author", value=a.value);'
    's:[type=="enclaveSvn"] => issue(type="svn", value=s.value);'
    'p:[type=="vsmReportPresent"] => issue(type="present", value=p.value);'
)


@pytest.mark.parametrize("version", [1, 2])
def test_a_vbs_enclave(tpms: World, version: int) -> None:
    """An enclave whose kernel's key the boot measured, and whose data are the request, has its claims."""
    kernel = rsa_key()
    issue(tpms, VBS)
    client = Client(tpms, boot(b"\1", sipa(idks(kernel))))
    claims = client.report(vbs_request(client, kernel, version=version))
    assert (claims["author"], claims["svn"], claims["present"]) == (b64u(b"\1" * 32), 4, True)
    assert claims["x-kluis-key-binding"] == "enclave"
    assert client.refused(vbs_request(client, rsa_key(), version=version))[1] == (
        "VBS report: want a signature of one of 1 keys that the boot measured, got another's"
    )
    assert client.refused(vbs_request(client, kernel, bytes(64), version=version))[1].startswith(
        "VBS report: enclave data: want "
    )
    unmeasured = Client(tpms)
    assert (
        "want a signature of one of 0 keys"
        in unmeasured.refused(vbs_request(unmeasured, kernel, version=version))[1]
    )


def test_a_kernels_key_that_came_later(tpms: World) -> None:
    """A key measured by a running system is not the secure kernel's, whatever the log calls the end."""
    kernel = rsa_key()
    closed = event(12, EventType.SEPARATOR, b"WBCL", banks=(HashId.SHA256,))
    disguised = dataclasses.replace(closed, kind=EventType.EVENT_TAG)
    unknown = event(12, EventType.SEPARATOR, b"text of another Windows", banks=(HashId.SHA256,))
    for end in (closed, disguised, unknown):
        client = Client(tpms, boot(b"\1", end, sipa(idks(kernel))))
        assert "want a signature of one of 0 keys" in client.refused(vbs_request(client, kernel))[1]
        before = Client(tpms, boot(b"\1", sipa(idks(kernel)), end))
        assert before.token(vbs_request(before, kernel))


def test_a_kernels_key_that_somebody_else_hashed(tpms: World) -> None:
    """If the digest only covers a tag's value, the log keeper chose its first bytes: no key is read."""
    kernel = rsa_key()
    kind, value = idks(kernel)
    data = kind.to_bytes(4, "little") + len(value).to_bytes(4, "little") + value
    client = Client(
        tpms, boot(b"\1", event(12, EventType.EVENT_TAG, data, over=value, banks=(HashId.SHA256,)))
    )
    assert "want a signature of one of 0 keys" in client.refused(vbs_request(client, kernel))[1]


def test_a_debug_enclave(tpms: World, storage: SealedStore) -> None:
    """An enclave that its host can open is attested only if the service is configured to."""
    kernel = rsa_key()
    client = Client(tpms, boot(b"\1", sipa(idks(kernel))))
    assert client.refused(vbs_request(client, kernel, flags=4))[1] == (
        "protection: want a level that keeps something out, got none: an enclave open to its host"
    )
    told = world_of(storage, insecure_accept_unprotected=True)
    client = Client(told, boot(b"\1", sipa(idks(kernel))))
    assert client.token(vbs_request(client, kernel, flags=4))


def test_other_keys(tpms: World) -> None:
    """Keys in addition to the request's are claims for the policy, with the TPM's properties of each."""
    other = rsa_key()
    issue(tpms, 'c:[type=="x-ms-tpm-other-keys"] => issue(type="others", value=c.value);')
    client = Client(tpms)
    keys = [{"jwk": json.loads(jwk_text(key))} for key in (other, KEY)]
    claims = client.report(client.v2(other_keys=[keys[0] | {"info": client.certification(other)}, keys[1]]))
    certified = {"tpm_certify": {"name_alg": 11, "obj_attr": 0x60072, "auth_policy": ""}}
    assert json.loads(claims["others"]) == [keys[0] | {"info": certified}, keys[1]]


@pytest.mark.parametrize("name", ["sha-384", "SHA-512"])
def test_other_hashes_of_the_key(tpms: World, name: str) -> None:
    """The quote may be over the key by another hash, which the request names."""
    client = Client(tpms)
    hashed = hashlib.new(name.lower().replace("-", ""), jwk_text(KEY).encode() + b"\0" + client.challenge)
    claims = client.report(client.v2(extra=hashed.digest(), info={"tpm_quote": {"hash_alg": name}}))
    assert json.loads(claims["out-x-ms-tpm-request-key"])["info"] == {"tpm_quote": {"hash_alg": name.lower()}}


def test_logs_in_their_order(tpms: World) -> None:
    """A start's log and a dynamic launch's are one, in the order of their measurements."""
    drtm = event(17, EventType.EVENT_TAG, b"x" * 9, banks=(HashId.SHA256,))
    client = Client(tpms, (*boot(), drtm))
    logs = [
        {"type": "TCG", "log": b64u(log(*events, banks=(HashId.SHA256,)).encode())}
        for events in (boot(), (drtm,))
    ]
    claims = client.report(client.v2(tpm={"logs": logs}))
    assert json.loads(claims["out-events"])["Events"][-1]["PcrIndex"] == 17
    assert client.refused(client.v2(tpm={"logs": logs[1:]}))[1].startswith(
        "The specified TPM evidence was invalid: event log: want PCRs as they were quoted"
    )
