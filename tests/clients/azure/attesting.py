"""Attestation: evidence goes in by Azure's client, or as other clients write it, and a token comes out."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import requests
from azure.core.credentials import AccessToken
from azure.security.attestation import AttestationType
from azure.security.attestation.aio import AttestationClient as AsyncClient
from cryptography import x509
from cryptography.x509.oid import NameOID
from scenario import (
    PERMIT,
    VERSION,
    World,
    b64u,
    bound,
    from_b64u,
    parts_of,
    raises,
    refused,
    runtime,
    scenario,
)

HELLO = b"hello"
PARALLEL = 100


@scenario("C.get_open_id_metadata()", 1)
def metadata(world: World) -> None:
    found = world.attester().get_open_id_metadata()
    assert found["issuer"] == world.attestation
    assert found["jwks_uri"] == f"{world.attestation}/certs"
    assert found["response_types_supported"] == ["token", "none"]
    assert found["id_token_signing_alg_values_supported"] == ["RS256"]
    assert "x-ms-sgx-mrenclave" in found["claims_supported"]


@scenario("C.get_signing_certificates()", 2)
def signing_certificates(world: World) -> None:
    found = world.attester().get_signing_certificates()
    assert found
    for signer in found:
        assert signer.key_id
        first = x509.load_pem_x509_certificate(signer.certificates[0].encode())
        (name,) = first.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert name.value == world.attestation


@scenario("C.attest_sgx_enclave(quote, runtime_data=b'hello')", 3)
def enclave_with_held_data(world: World) -> None:
    quote = world.quote(HELLO)
    result, token = world.attester().attest_sgx_enclave(quote, runtime_data=HELLO)
    assert result.enclave_held_data == HELLO
    assert result.mr_enclave == quote[112:144].hex()
    assert result.mr_signer == quote[176:208].hex()
    assert (result.product_id, result.svn, result.is_debuggable) == (7, 3, False)
    assert (result.issuer, result.version, result.verifier_type) == (world.attestation, "1.0", "sgx")
    assert len(result.sgx_collateral) == 7
    assert len(result.unique_id) == 64
    assert (token.algorithm, token.type) == ("RS256", "JWT")
    assert token.key_url == f"{world.attestation}/certs"
    assert (token.expires - token.issued).total_seconds() == 28800


@scenario("C.attest_sgx_enclave(quote, runtime_json=b'{\"keys\": ...}')", 4)
def enclave_with_runtime_claims(world: World) -> None:
    data = runtime()
    result, _ = world.attester().attest_sgx_enclave(world.quote(data), runtime_json=data)
    assert result.runtime_claims == json.loads(data)
    assert result.enclave_held_data is None


@scenario("C.attest_sgx_enclave(quote)")
def enclave_without_data(world: World) -> None:
    result, _ = world.attester().attest_sgx_enclave(world.quote())
    assert (result.runtime_claims, result.enclave_held_data) == (None, None)


@scenario("C.attest_sgx_enclave(quote, inittime_data=..., runtime_data=...)")
def enclave_with_init_time_data(world: World) -> None:
    data = b"configuration"
    quote = world.quote(HELLO, configid=bound(data))
    client = world.attester()
    result, _ = client.attest_sgx_enclave(quote, inittime_data=data, runtime_data=HELLO)
    assert result.enclave_held_data == HELLO
    # The client sends no data with inittime_json: its own error, and the service's to bear.
    client.attest_sgx_enclave(quote, inittime_json=b"{}", runtime_data=HELLO)
    with refused(400, "InvalidParameter", "initTimeData"):
        client.attest_sgx_enclave(quote, inittime_data=b"another", runtime_data=HELLO)


@scenario("C.attest_open_enclave(report, runtime_data=b'hello')")
def open_enclave_report(world: World) -> None:
    quote = world.quote(HELLO)
    report = (1).to_bytes(4, "little") + (2).to_bytes(4, "little") + len(quote).to_bytes(8, "little") + quote
    result, token = world.attester().attest_open_enclave(report, runtime_data=HELLO)
    assert (result.enclave_held_data, result.verifier_type) == (HELLO, "sgx")
    assert result.mr_enclave == quote[112:144].hex()
    assert parts_of(str(token))[1]["tee"] == "sgx"
    data = runtime()
    quote = world.quote(data)
    report = report[:8] + len(quote).to_bytes(8, "little") + quote
    assert world.attester().attest_open_enclave(report, runtime_json=data)[0].runtime_claims == json.loads(
        data
    )
    with refused(400, "InvalidParameter"):
        world.attester().attest_open_enclave(quote, runtime_json=data)


@scenario("C.attest_sgx_enclave(quote, draft_policy=...)", 6)
def draft_policy(world: World) -> None:
    draft = 'version=1.0; authorizationrules{=> permit();}; issuancerules{=> issue(type="d", value=7);};'
    quote, client, owner = world.quote(HELLO), world.attester(), world.owner()
    before = owner.get_policy(AttestationType.SGX_ENCLAVE)[0]
    result, token = client.attest_sgx_enclave(quote, runtime_data=HELLO, draft_policy=draft)
    assert (token.algorithm, token.key_url) == ("none", f"{world.attestation}/certs")
    assert token.key_id in [each.key_id for each in client.get_signing_certificates()]
    assert str(token).endswith(".")
    assert parts_of(str(token))[1]["d"] == 7
    assert result.enclave_held_data == HELLO
    assert owner.get_policy(AttestationType.SGX_ENCLAVE)[0] == before
    with refused(400, "PolicyParsingError"):
        client.attest_sgx_enclave(
            quote, runtime_data=HELLO, draft_policy=draft.replace("permit();", "permit()")
        )
    with refused(400, "PolicyEvaluationError", "A Deny claim was issued, authorization failed."):
        client.attest_sgx_enclave(quote, runtime_data=HELLO, draft_policy=draft.replace("permit", "deny"))


@scenario("POST /attest/SevSnpVM, JSON runtime data and a nonce; PyJWT", 8)
def snp_guest(world: World) -> None:
    data = runtime()
    made = world.forged("snp", report_data=bound(data))
    report = made["report"]
    body = {**world.snp(data), "nonce": "1234"}
    answer = world.post("/attest/SevSnpVM?api-version=2022-08-01", body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    claims = world.claims(answer.json()["token"])
    assert claims["x-ms-attestation-type"] == "sevsnpvm"
    assert claims["x-ms-sevsnpvm-hostdata"] == report[0xC0:0xE0].hex()
    assert claims["x-ms-sevsnpvm-reportdata"] == bound(data).hex()
    assert claims["x-ms-sevsnpvm-launchmeasurement"] == report[0x90:0xC0].hex()
    assert claims["x-ms-sevsnpvm-familyId"] == report[0x10:0x20].hex()
    assert claims["x-ms-sevsnpvm-is-debuggable"] is False
    assert claims["x-ms-runtime"] == json.loads(data)
    assert claims["nonce"] == "1234"


@scenario("POST /attest/SevSnpVm as the Go sidecar: padded base64, empty init-time data, a number as nonce")
def snp_as_the_sidecar_writes(world: World) -> None:
    data = runtime()
    body: dict[str, Any] = world.snp(data)
    nonce = 2**64 - 1
    padded = {
        "report": base64.urlsafe_b64encode(from_b64u(body["report"])).decode(),
        "runtimeData": {"data": base64.urlsafe_b64encode(data).decode(), "dataType": "JSON"},
        "initTimeData": {"data": "", "dataType": ""},
        "nonce": nonce,
        "unknown": [1, 2],
    }
    for path in ("SevSnpVm", "sevsnpvm", "SEVSNPVM"):
        answer = world.post(f"/attest/{path}?api-version=2020-10-01", padded)
        assert answer.status_code == 200, answer.text
        assert str(world.claims(answer.json()["token"])["nonce"]) == str(nonce)
    assert world.post("/attest/SevSnpVm", padded).status_code == 400


@scenario("POST /attest/SevSnpVm with host data: init-time data are bound, and others refused")
def snp_with_init_time_data(world: World) -> None:
    data, first = runtime(), b'{"policy":"package"}'
    body = world.snp(data, host_data=bound(first)[:32])
    given = {**body, "initTimeData": {"data": b64u(first), "dataType": "JSON"}}
    answer = world.post(f"/attest/SevSnpVm?api-version={VERSION}", given)
    assert world.claims(answer.json()["token"])["x-ms-inittime"] == json.loads(first)
    given["initTimeData"] = {"data": b64u(b"{}"), "dataType": "JSON"}
    answer = world.post(f"/attest/SevSnpVm?api-version={VERSION}", given)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidParameter")


@scenario("POST /attest/TdxVm?api-version=2025-06-01, standard base64", 10)
def trust_domain(world: World) -> None:
    data = b'{ "test-claim-name" : "test-claim-value" }'
    quote = world.forged("tdx", report_data=bound(data))["quote"]
    body = {
        "quote": base64.b64encode(quote).decode(),
        "runtimeData": {"data": base64.b64encode(data).decode(), "dataType": "JSON"},
    }
    answer = world.post("/attest/TdxVm?api-version=2025-06-01", body)
    assert answer.status_code == 200, answer.text
    claims, td = world.claims(answer.json()["token"]), quote[48:]
    assert claims["x-ms-attestation-type"] == "tdxvm"
    for name, at in (("mrtd", 136), ("mrseam", 16), ("mrconfigid", 184), ("rtmr0", 328), ("rtmr3", 472)):
        assert claims[f"tdx_{name}"] == td[at : at + 48].hex(), name
    assert claims["tdx_report_data"] == bound(data).hex()
    assert claims["tdx_tee_tcb_svn"] == td[:16].hex()
    assert (claims["dbgstat"], claims["intuse"]) == ("disabled", "generic")
    assert claims["eat_profile"] == "https://aka.ms/maa-eat-profile-tdxvm"
    assert claims["attester_tcb_status"] == "UpToDate"
    assert claims["x-ms-runtime"] == json.loads(data)
    body["runtimeData"]["data"] = b64u(json.dumps(json.loads(data)).encode())  # type: ignore[index]
    answer = world.post("/attest/TdxVm?api-version=2025-06-01", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidParameter")


@scenario("C.attest_sgx_enclave, a byte of quote or data changed, base64 cut short", 26)
def evidence_that_does_not_hold(world: World) -> None:
    client, quote = world.attester(), world.quote(HELLO)
    changed = bytearray(quote)
    changed[436] ^= 1
    with refused(400, "InvalidParameter"):
        client.attest_sgx_enclave(bytes(changed), runtime_data=HELLO)
    changed = bytearray(quote)
    changed[120] ^= 1
    with refused(400, "InvalidParameter"):
        client.attest_sgx_enclave(bytes(changed), runtime_data=HELLO)
    with refused(400, "InvalidParameter", "runtimeData"):
        client.attest_sgx_enclave(quote, runtime_data=b"hellp")
    for size in (0, 1, 47, 436, 1000, len(quote) - 1):
        with refused(400, "InvalidParameter"):
            client.attest_sgx_enclave(quote[:size], runtime_data=HELLO)
    for text in (b64u(quote)[:-3], b64u(quote)[:5], "a", "%%%", "", None, 7):
        answer = world.post("/attest/SgxEnclave?api-version=2020-10-01", {"quote": text})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["code"] == "InvalidParameter", answer.text


@scenario("POST /attest/SevSnpVm, a byte of report, chain or bundle changed; a chain that is none")
def guests_that_do_not_hold(world: World) -> None:
    data = runtime()
    made = world.forged("snp", report_data=bound(data))
    report, chain = made["report"], made["chain"]

    def refused_for(report: bytes = report, chain: bytes = chain, data: bytes = data, **more: Any) -> str:
        bundle = json.dumps({"SnpReport": b64u(report), "VcekCertChain": b64u(chain)}).encode()
        body = {"report": b64u(bundle), "runtimeData": {"data": b64u(data), "dataType": "JSON"}, **more}
        answer = world.post(f"/attest/SevSnpVm?api-version={VERSION}", body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["code"] == "InvalidParameter", answer.text
        message: str = answer.json()["error"]["message"]
        return message

    for at in (0, 0x08, 0x50, 0x90, 0xC0, 0x180, 0x1A0, 0x2A0, 0x2E8):
        changed = bytearray(report)
        changed[at] ^= 1
        refused_for(bytes(changed))
    certificates = chain.decode().split("-----END CERTIFICATE-----\n")[:3]
    first, second, third = (each + "-----END CERTIFICATE-----\n" for each in certificates)
    for text in ("", "no", first, first + second, second + third, third + second + first):
        refused_for(chain=text.encode())
    refused_for(report[:-1])
    refused_for(report + b"\0")
    assert "runtimeData" in refused_for(data=data + b" ")
    refused_for(runtimeData={"data": "%%", "dataType": "JSON"})
    refused_for(runtimeData={"data": b64u(data), "dataType": "XML"})
    for text in ("", "AAAA", b64u(b"{}"), b64u(b"[]"), 7):
        answer = world.post(f"/attest/SevSnpVm?api-version={VERSION}", {"report": text})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidParameter"), answer.text


@scenario("POST /attest/TdxVm, a byte of the quote changed; a TDX quote as SGX's, and the reverse")
def trust_domains_that_do_not_hold(world: World) -> None:
    data = runtime()
    quote = world.forged("tdx", report_data=bound(data))["quote"]
    enclave = world.quote(data)

    def asked(path: str, quote: bytes) -> tuple[int, str]:
        body = {"quote": b64u(quote), "runtimeData": {"data": b64u(data), "dataType": "JSON"}}
        answer = world.post(f"/attest/{path}?api-version=2025-06-01", body)
        return answer.status_code, answer.json().get("error", {}).get("code", "")

    assert asked("TdxVm", quote)[0] == 200
    for at in (0, 4, 48, 48 + 136, 48 + 520, 640, 700, 1000):
        changed = bytearray(quote)
        changed[at] ^= 1
        assert asked("TdxVm", bytes(changed)) == (400, "InvalidParameter"), at
    assert asked("SgxEnclave", quote) == (400, "InvalidParameter")
    assert asked("TdxVm", enclave) == (400, "InvalidParameter")
    # Version 5 of a quote, of a later trust domain.
    assert asked("TdxVm", world.forged("tdx", report_data=bound(data), version=5)["quote"])[0] == 200


@scenario("GET /tcbbaselines/SgxEnclave; A.set_policy with a baseline that is none")
def baselines(world: World) -> None:
    answer = requests.get(
        f"{world.attestation}/tcbbaselines/SgxEnclave?api-version=2022-09-01-preview",
        verify=world.ca,
        timeout=300,
    )
    assert answer.status_code == 200, answer.text
    found = {each["tcbIdentifier"] for each in answer.json()["tcbBaselines"]}
    assert {"10", "11", "15"} <= found
    policy = (
        'version=1.1; configurationrules{{ => issueproperty(type="x-ms-sgx-tcbidentifier", value="{}"); }};'
        "authorizationrules{{ => permit(); }}; issuancerules{{}};"
    )
    with world.instance() as url:
        owner, client, quote = world.owner(url), world.attester(url), world.quote(HELLO)
        for name in ("azuredefault", "11"):
            owner.set_policy(AttestationType.SGX_ENCLAVE, policy.format(name))
            client.attest_sgx_enclave(quote, runtime_data=HELLO)
        with refused(400, "InvalidParameter"):
            owner.set_policy(AttestationType.SGX_ENCLAVE, policy.format("soon"))
            client.attest_sgx_enclave(quote, runtime_data=HELLO)


@scenario("A.set_policy whose configuration is none of the service's")
def configuration(world: World) -> None:
    policy = (
        "version=1.1; configurationrules{{ => issueproperty({}); }};"
        "authorizationrules{{ => permit(); }}; issuancerules{{}};"
    )
    with world.instance() as url:
        for wrong in ('type="required_pcr_masks", value=15', 'type="required_pcr_mask", value="15"'):
            with refused(400, "PolicyParsingError", "required_pcr_mask"):
                world.owner(url).set_policy(AttestationType.TPM, policy.format(wrong))


@scenario("C.attest_sgx_enclave of a platform that nobody here trusts")
def another_root(world: World) -> None:
    quote = world.forged("sgx", report_data=bound(HELLO), stranger=True)["quote"]
    with refused(400, "InvalidParameter"):
        world.attester().attest_sgx_enclave(quote, runtime_data=HELLO)


@scenario(
    "C.attest_sgx_enclave of a debug enclave: a policy that denies debug says so; no other gives a token"
)
def debug_enclave(world: World) -> None:
    policy = (
        'version=1.0; authorizationrules{{ [type=="x-ms-sgx-is-debuggable", value=={}] => permit(); }}; '
        "issuancerules{{}};"
    )
    quote = world.quote(HELLO, flags=7)
    with world.instance() as url:
        owner, client = world.owner(url), world.attester(url)
        owner.set_policy(AttestationType.SGX_ENCLAVE, policy.format("false"))
        client.attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)
        with refused(400, "PolicyEvaluationError", "A Deny claim was issued, authorization failed."):
            client.attest_sgx_enclave(quote, runtime_data=HELLO)
        for draft in (None, policy.format("true")):
            owner.reset_policy(AttestationType.SGX_ENCLAVE)
            with refused(400, "InvalidParameter", "a debug TEE, open to its host"):
                client.attest_sgx_enclave(quote, runtime_data=HELLO, draft_policy=draft)


@scenario("C.attest_sgx_enclave(runtime_json='text'), both data at once: the client's own refusals")
def what_the_client_refuses(world: World) -> None:
    client = world.attester()
    with raises(ValueError):
        client.attest_sgx_enclave(b"", runtime_json=b"{", runtime_data=None)
    with raises(ValueError):
        client.attest_sgx_enclave(b"", runtime_json=b"{}", runtime_data=b"{}")


@scenario("C.attest_sgx_enclave(runtime_json=...) that is JSON and no object")
def runtime_data_that_is_no_object(world: World) -> None:
    for data in (b"[1]", b"1", b'"text"'):
        with refused(400, "InvalidParameter", "runtimeData"):
            world.attester().attest_sgx_enclave(world.quote(data), runtime_json=data)


@scenario("100 x aio C.attest_sgx_enclave at once", 31)
def in_parallel(world: World) -> None:
    quotes = [world.quote(bytes([number])) for number in range(PARALLEL)]
    token = world.known("workload").get_token("https://attest.azure.net/.default")

    class Credential:
        async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            return AccessToken(token.token, token.expires_on)

        async def close(self) -> None:
            return None

    async def ask() -> list[Any]:
        given = {"validate_issuer": True, "issuer": world.attestation, **world.usual}
        async with AsyncClient(world.attestation, Credential(), **given) as client:
            # The client awaits /certs with a thread's lock held: two first calls at once never end.
            await client.attest_sgx_enclave(quotes[0], runtime_data=bytes([0]))
            asked = [
                client.attest_sgx_enclave(quote, runtime_data=bytes([number]))
                for number, quote in enumerate(quotes)
            ]
            return await asyncio.gather(*asked)

    found = asyncio.run(ask())
    assert [result.enclave_held_data for result, _ in found] == [
        bytes([number]) for number in range(PARALLEL)
    ]
    assert len({result.unique_id for result, _ in found}) == PARALLEL


@scenario("C.attest_sgx_enclave under a policy of the owner's, all claims of it in the token")
def claims_of_a_policy(world: World) -> None:
    policy = (
        "version= 1.0; authorizationrules{ "
        '[ type=="x-ms-sgx-is-debuggable", value==false ] && [ type=="x-ms-sgx-product-id", value==7 ] && '
        '[ type=="x-ms-sgx-svn", value>= 3 ] => permit(); }; '
        'issuancerules { c:[type=="x-ms-sgx-mrsigner"] => issue(type="custom", value=c.value); '
        '=> issue(type="many", value=1); => issue(type="many", value=2); };'
    )
    with world.instance() as url:
        owner, client = world.owner(url), world.attester(url)
        owner.set_policy(AttestationType.SGX_ENCLAVE, policy)
        quote = world.quote(HELLO)
        _, token = client.attest_sgx_enclave(quote, runtime_data=HELLO)
        claims = world.claims(str(token), url)
        assert claims["custom"] == quote[176:208].hex()
        assert claims["many"] == [1, 2]
        assert "is-debuggable" not in claims
        with refused(400, "PolicyEvaluationError", "A Deny claim was issued, authorization failed."):
            client.attest_sgx_enclave(world.quote(HELLO, isvsvn=2), runtime_data=HELLO)
        owner.set_policy(AttestationType.SGX_ENCLAVE, PERMIT)
        client.attest_sgx_enclave(world.quote(HELLO, isvsvn=2), runtime_data=HELLO)
