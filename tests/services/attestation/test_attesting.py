"""Evidence in, a token out: every claim is the evidence's own, and what does not hold gets none."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from kluis.appraisal.tokens.ear import Ear
from kluis.appraisal.tokens.signing import verify_jwt
from kluis.enclave.store import SealedStore
from kluis.errors import RemoteError
from kluis.evidence.levels import MEANINGS
from kluis.evidence.model import ProtectionLevel
from kluis.formats import x509
from kluis.formats.tdx.report import TdReport15
from kluis.formats.wrappers import oe
from kluis.hashes import sha256
from kluis.services.attestation.requests import AttestSgx, respell
from kluis.services.attestation.settings import Root
from kluis.services.hosting import Endorsed, endorsement
from tests.evidence.amd.forge import Forge as AmdForge
from tests.evidence.forge import DEBUG, IMAGE, NOW, SIGNER, Forge
from tests.evidence.intel.forge import MRTD
from tests.services.attestation.world import (
    AMD,
    DENY,
    DOCUMENTS,
    INTEL,
    PERMIT,
    TDX,
    URL,
    World,
    b64u,
    claims_of,
    error_of,
    from_b64u,
    header_of,
)

PEM = Encoding.PEM
HELLO = b"hello"
JWKS = json.dumps({"keys": [{"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB"}]}).encode()
AT = int(NOW.timestamp())


def bound(data: bytes) -> bytes:
    """Report data that data are bound to."""
    return sha256(data) + bytes(32)


def sgx(data: bytes = HELLO, kind: str = "Binary", **body: Any) -> dict[str, Any]:
    """A good request about an enclave."""
    quote = INTEL.quote(INTEL.body(**{"report_data": bound(data), **body}))
    return {"quote": b64u(quote), "runtimeData": {"data": b64u(data), "dataType": kind}}


def snp(data: bytes = JWKS, **fields: Any) -> dict[str, Any]:
    """A good request about an SNP guest."""
    made = AMD.report(**{"report_data": bound(data), **fields})
    chain = b"".join(each.public_bytes(PEM) for each in (AMD.vek, AMD.ask, AMD.ark))
    bundle = json.dumps({"SnpReport": b64u(made), "VcekCertChain": b64u(chain)}).encode()
    return {"report": b64u(bundle), "runtimeData": {"data": b64u(data), "dataType": "JSON"}}


def tdx(data: bytes = JWKS, **fields: Any) -> dict[str, Any]:
    """A good request about a trust domain, in standard base64."""
    quote = TDX.quote(TDX.td(TdReport15, **{"report_data": bound(data), **fields}))
    return {
        "quote": base64.b64encode(quote).decode(),
        "runtimeData": {"data": base64.b64encode(data).decode(), "dataType": "JSON"},
    }


def test_an_enclave(world: World) -> None:
    """Every claim of Azure's own tokens is there, with the quote's own bytes; ours are additional."""
    answer = world.attest("SgxEnclave", sgx())
    claims = world.token(answer)
    assert claims.pop("x-ms-sgx-collateral") == claims.pop("maa-attestationcollateral")
    assert len(claims.pop("jti")) == 64
    assert len(from_b64u(claims.pop("x-ms-policy-hash"))) == 32
    config = claims.pop("x-ms-sgx-config-id")
    assert len(config) == 128
    assert claims == {
        "iss": URL,
        "iat": AT,
        "nbf": AT,
        "exp": AT + 28800,
        "x-ms-ver": "1.0",
        "x-ms-attestation-type": "sgx",
        "x-ms-sgx-is-debuggable": False,
        "x-ms-sgx-product-id": 7,
        "x-ms-sgx-svn": 3,
        "x-ms-sgx-mrenclave": IMAGE.hex(),
        "x-ms-sgx-mrsigner": SIGNER.hex(),
        "x-ms-sgx-report-data": bound(HELLO).hex(),
        "x-ms-sgx-ehd": "aGVsbG8",
        "aas-ehd": "aGVsbG8",
        "maa-ehd": "aGVsbG8",
        "x-ms-sgx-config-svn": 0,
        "x-ms-sgx-isv-extended-product-id": "00" * 16,
        "x-ms-sgx-isv-family-id": b"KLUIS-NO-HARDWARE"[:16].hex(),
        "is-debuggable": False,
        "product-id": 7,
        "svn": 3,
        "sgx-mrsigner": SIGNER.hex(),
        "sgx-mrenclave": IMAGE.hex(),
        "tee": "sgx",
        "x-kluis-protection": "process",
        "x-kluis-emulated": True,
        "x-kluis-tcb-status": "UpToDate",
    }


def test_the_hashes_of_an_enclaves_collateral(world: World) -> None:
    """Seven hashes: of the quote, and of each document that it was verified with."""
    request = sgx()
    claims = world.token(world.attest("SgxEnclave", request))
    documents = DOCUMENTS
    assert claims["x-ms-sgx-collateral"] == {
        "quotehash": sha256(from_b64u(request["quote"])).hex(),
        "qeidhash": sha256(documents.qe_identity).hex(),
        "qeidcertshash": sha256(documents.qe_identity_issuer_chain).hex(),
        "qeidcrlhash": sha256(documents.root_ca_crl).hex(),
        "tcbinfohash": sha256(documents.tcb_info).hex(),
        "tcbinfocertshash": sha256(documents.tcb_info_issuer_chain).hex(),
        "tcbinfocrlhash": sha256(documents.pck_crl).hex(),
    }


def test_an_open_enclave_report(world: World) -> None:
    """The same enclave by its Open Enclave report has the same claims, of type sgx."""
    request = sgx()
    report = oe.encode_report(from_b64u(request["quote"]))
    claims = world.token(
        world.attest("OpenEnclave", {"report": b64u(report), "runtimeData": request["runtimeData"]})
    )
    assert claims["x-ms-attestation-type"] == "sgx"
    assert claims["x-ms-sgx-mrenclave"] == IMAGE.hex()
    answer = world.attest("OpenEnclave", {"report": request["quote"]})
    assert error_of(answer)[:2] == (400, "InvalidParameter")


def test_json_runtime_data(world: World) -> None:
    """JSON is in the token as an object, and not as held data."""
    claims = world.token(world.attest("SgxEnclave", sgx(JWKS, "JSON")))
    assert claims["x-ms-runtime"] == json.loads(JWKS)
    assert "x-ms-sgx-ehd" not in claims


def test_a_guest(world: World) -> None:
    """Every claim of an SNP guest, mixed case and all; svns are those of the reported TCB."""
    fields = {"host_data": sha256(b"policy"), "family_id": bytes(range(16)), "guest_svn": 5, "vmpl": 1}
    claims = world.token(world.attest("SevSnpVM", snp(**fields) | {"nonce": "mine"}))
    parsed = AMD.fields(report_data=bound(JWKS), **fields)
    for name in ("iss", "iat", "nbf", "exp", "jti", "x-ms-ver", "x-ms-policy-hash"):
        claims.pop(name)
    policy = {
        claims.pop(f"x-ms-sevsnpvm-{name}") for name in ("is-debuggable", "migration-allowed", "smt-allowed")
    }
    assert policy <= {True, False}
    assert claims == {
        "nonce": "mine",
        "x-ms-attestation-type": "sevsnpvm",
        "x-ms-runtime": json.loads(JWKS),
        "x-ms-sevsnpvm-authorkeydigest": parsed.author_key_digest.hex(),
        "x-ms-sevsnpvm-bootloader-svn": 4,
        "x-ms-sevsnpvm-familyId": bytes(range(16)).hex(),
        "x-ms-sevsnpvm-guestsvn": 5,
        "x-ms-sevsnpvm-hostdata": sha256(b"policy").hex(),
        "x-ms-sevsnpvm-idkeydigest": parsed.id_key_digest.hex(),
        "x-ms-sevsnpvm-imageId": parsed.image_id.hex(),
        "x-ms-sevsnpvm-launchmeasurement": parsed.measurement.hex(),
        "x-ms-sevsnpvm-microcode-svn": 219,
        "x-ms-sevsnpvm-reportdata": bound(JWKS).hex(),
        "x-ms-sevsnpvm-reportid": parsed.report_id.hex(),
        "x-ms-sevsnpvm-snpfw-svn": 24,
        "x-ms-sevsnpvm-tee-svn": 1,
        "x-ms-sevsnpvm-vmpl": 1,
        "x-kluis-protection": "vm",
        "x-kluis-emulated": True,
    }


def test_a_trust_domain(world: World) -> None:
    """Every claim of a trust domain, in standard base64; what is documented of the bytes' order holds."""
    claims = world.token(world.attest("TdxVm", tdx()))
    assert claims["x-ms-attestation-type"] == "tdxvm"
    assert claims["eat_profile"] == "https://aka.ms/maa-eat-profile-tdxvm"
    assert claims["tdx_mrtd"] == MRTD.hex()
    assert claims["tdx_report_data"] == bound(JWKS).hex()
    assert claims["tdx_rtmr2"] == (bytes([3]) * 48).hex()
    assert claims["tdx_tee_tcb_svn"].startswith("0501")
    assert claims["tdx_seamsvn"] == 5
    assert claims["tdx_td_attributes_debug"] is False
    assert claims["dbgstat"] == "disabled"
    assert claims["intuse"] == "generic"
    assert claims["attester_tcb_status"] == "UpToDate"
    assert claims["x-ms-runtime"] == json.loads(JWKS)
    assert {name for name in claims if name.startswith("tdx_")} == {
        "tdx_mrconfigid", "tdx_mrowner", "tdx_mrownerconfig", "tdx_mrseam", "tdx_mrsignerseam", "tdx_mrtd",
        "tdx_report_data", "tdx_rtmr0", "tdx_rtmr1", "tdx_rtmr2", "tdx_rtmr3", "tdx_seam_attributes",
        "tdx_seamsvn", "tdx_td_attributes", "tdx_td_attributes_debug", "tdx_td_attributes_key_locker",
        "tdx_td_attributes_perfmon", "tdx_td_attributes_protection_keys",
        "tdx_td_attributes_septve_disable", "tdx_tee_tcb_svn", "tdx_xfam",
    }  # fmt: skip


@pytest.mark.parametrize("nonce", ["n", 0, 2**64 - 1])
def test_a_nonce_comes_back_as_it_was(world: World, nonce: str | int) -> None:
    """Text stays text; a number of 64 bits stays that number, to its last digit."""
    token = world.attest("SgxEnclave", sgx() | {"nonce": nonce}).json()["token"]
    assert claims_of(token)["nonce"] == nonce


@pytest.mark.parametrize(
    "initial", [None, {}, {"data": "", "dataType": ""}, {"dataType": "JSON"}, {"data": None}]
)
def test_empty_data_are_none(world: World, initial: Any) -> None:
    """Clients send empty init-time data, or none of it but the type."""
    answer = world.attest("SgxEnclave", sgx() | {"initTimeData": initial})
    assert answer.status_code == 200
    told = '299 - "initTimeData: has a type and no data, and was ignored"'
    assert answer.headers.get("Warning") == (told if initial == {"dataType": "JSON"} else None)


def test_runtime_data_of_others(world: World) -> None:
    """Data that the report does not bind is refused, with both hashes."""
    for name, request in (("SgxEnclave", sgx()), ("SevSnpVm", snp()), ("TdxVm", tdx())):
        other = {"data": b64u(b'{"a":1}'), "dataType": "JSON"}
        status, code, message = error_of(world.attest(name, request | {"runtimeData": other}))
        want = sha256(b'{"a":1}').hex()
        assert (status, code) == (400, "InvalidParameter")
        assert message.startswith(f"runtimeData: want report data {want}, the SHA-256 of the data, got ")


def test_the_upper_half_of_an_snp_report(world: World) -> None:
    """An SNP report's other 32 bytes must be zero; a quote's are the application's own."""
    data = sha256(JWKS) + b"\1" * 32
    assert world.attest("SevSnpVm", snp(report_data=data)).status_code == 400
    assert world.attest("TdxVm", tdx(report_data=data)).status_code == 200
    assert world.attest("SgxEnclave", sgx(report_data=sha256(HELLO) + b"\1" * 32)).status_code == 200


@pytest.mark.parametrize(
    "member",
    [
        lambda data: {"inittimeData": data},
        lambda data: {"InitTimeData": {name.upper(): value for name, value in data.items()}},
        lambda data: {"initTimeData": None, "RUNTIMEDATA": data},
        lambda data: {"runtimedata": {"Data": data["data"]}},
    ],
)
def test_data_by_another_spelling(world: World, member: Any) -> None:
    """They are held to the evidence, too: a name is known in whatever case of letters."""
    good = sgx(report_data=sha256(JWKS) + bytes(32), configid=sha256(JWKS) + bytes(32))
    del good["runtimeData"]
    data = {"data": b64u(JWKS), "dataType": "JSON"}
    assert world.attest("SgxEnclave", good | member(data)).status_code == 200
    other = member(data | {"data": b64u(b"{}")})
    status, code, message = error_of(world.attest("SgxEnclave", good | other))
    assert (status, code) == (400, "InvalidParameter")
    assert "the SHA-256 of the data" in message


def test_data_in_two_spellings(world: World) -> None:
    """Of two, none is chosen."""
    data = {"data": b64u(JWKS), "dataType": "JSON"}
    for twice, what in (
        ({"initTimeData": data, "inittimeData": data}, "body: member 'inittimeData'"),
        ({"initTimeData": data | {"Data": "e30"}}, "initTimeData: member 'Data'"),
    ):
        answer = error_of(world.attest("SgxEnclave", sgx() | twice))
        assert answer == (400, "InvalidParameter", f"{what} appears twice, in other letters")


def test_spellings_are_looked_for_where_data_are() -> None:
    """Not within data: each level would parse everything below it again, for any caller."""
    deep = b'{"runtimeData":' * 3 + b'{"DATA":"e30"}' + b"}" * 3
    for body, want in ((deep, deep), (b'{"RuntimeData":{"DATA":"e30"}}', b'{"runtimeData":{"data":"e30"}}')):
        assert respell(msgspec.json.decode(body, type=dict[str, msgspec.Raw]), AttestSgx) == want


def test_init_time_data(world: World) -> None:
    """Init-time data are bound by CONFIGID, HOST_DATA and MRCONFIGID, and are in the token."""
    data = {"data": b64u(JWKS), "dataType": "JSON"}
    digest = sha256(JWKS)
    good = {
        "SgxEnclave": sgx(configid=digest + bytes(32)),
        "SevSnpVm": snp(host_data=digest),
        "TdxVm": tdx(mrconfigid=digest + bytes(16)),
    }
    for kind, request in good.items():
        claims = world.token(world.attest(kind, request | {"initTimeData": data}))
        assert claims["x-ms-inittime"] == json.loads(JWKS)
    for kind, request in (("SgxEnclave", sgx()), ("SevSnpVm", snp()), ("TdxVm", tdx())):
        _, code, message = error_of(world.attest(kind, request | {"initTimeData": data}))
        assert code == "InvalidParameter"
        assert f"{digest.hex()}, the SHA-256 of the data" in message
    old = sgx(flags=0x05)
    _, code, message = error_of(world.attest("SgxEnclave", old | {"initTimeData": data}))
    assert message == (
        f"initTimeData: want CONFIGID to hold {digest.hex()}, got none: this platform has no such field"
    )


def test_a_draft(world: World) -> None:
    """A draft policy is evaluated in place of the current one; its result is not signed."""
    draft = 'version=1.0; authorizationrules{=> permit();}; issuancerules{=> issue(type="d", value=7);};'
    assert world.set_policy("SgxEnclave", DENY).status_code == 200
    token = world.attest("SgxEnclave", sgx() | {"draftPolicyForAttestation": draft}).json()["token"]
    usual = header_of(world.attest("TdxVm", tdx()).json()["token"])
    assert header_of(token) == {**usual, "alg": "none"}
    assert token.endswith(".")
    assert claims_of(token)["d"] == 7
    assert world.attest("SgxEnclave", sgx()).status_code == 400
    answer = world.attest("SgxEnclave", sgx() | {"draftPolicyForAttestation": "version=1.0"})
    assert error_of(answer)[:2] == (400, "PolicyParsingError")


def test_denied(world: World) -> None:
    """Who is denied learns which rule it was."""
    world.set_policy("SgxEnclave", DENY)
    status, code, message = error_of(world.attest("SgxEnclave", sgx()))
    assert (status, code) == (400, "PolicyEvaluationError")
    assert message == (
        "Policy Evaluation Error has occurred: Policy Engine Exception: A Deny claim was issued, "
        "authorization failed. rule 1:35: =>deny();"
    )


def test_a_rule_that_no_claim_meets(world: World) -> None:
    """Who is not permitted learns which claim was wanted, and what it was."""
    world.set_policy(
        "SgxEnclave",
        'version=1.0; authorizationrules { [type=="x-ms-sgx-svn", value>=4] => permit(); };issuancerules{};',
    )
    _, _, message = error_of(world.attest("SgxEnclave", sgx()))
    assert message.endswith('1:35: want [type=="x-ms-sgx-svn", value>=4], got x-ms-sgx-svn is 3')


@pytest.mark.parametrize(
    ("claim", "shown"),
    [
        ('"iss", value="https://evil"', "claim 'iss' is the service's own: want absent, got 'https://evil'"),
        ('"x-ms-sgx-svn", value=9', "claim 'x-ms-sgx-svn' is the service's own: want 3, got 9"),
        ('"x-kluis-protection", value="hardware-sgx"', "want 'process', got 'hardware-sgx'"),
        ('"x-ms-compliance-status", value="azure-compliant-cvm"', "want absent"),
        ('"tdx_mrtd", value="00"', "want absent"),
    ],
)
def test_what_only_the_service_says(world: World, claim: str, shown: str) -> None:
    """A policy cannot change a claim of the service's, nor say one in its place."""
    policy = f"version=1.0; authorizationrules{{=>permit();}}; issuancerules{{=> issue(type={claim});}};"
    world.set_policy("SgxEnclave", policy)
    _, code, message = error_of(world.attest("SgxEnclave", sgx()))
    assert code == "PolicyEvaluationError"
    assert shown in message


def test_repeating_the_service(world: World) -> None:
    """A policy may repeat the service's claims."""
    policy = (
        "version=1.0; authorizationrules{=>permit();}; "
        'issuancerules{c:[type=="x-ms-sgx-svn"] => issue(claim=c);};'
    )
    world.set_policy("SgxEnclave", policy)
    assert world.token(world.attest("SgxEnclave", sgx()))["x-ms-sgx-svn"] == 3


def test_old_names_of_claims(world: World) -> None:
    """Policies of 2020 read claims whose names begin with a dollar sign."""
    world.set_policy(
        "SgxEnclave",
        'version=1.0; authorizationrules{c:[type=="$is-debuggable", value==false] => permit();};'
        'issuancerules{c:[type=="$sgx-mrsigner"] => issue(type="who", value=c.value);};',
    )
    claims = world.token(world.attest("SgxEnclave", sgx()))
    assert claims["who"] == SIGNER.hex()
    assert not [name for name in claims if name.startswith("$")]


def test_a_policy_under_names_of_2018(storage: SealedStore) -> None:
    """If tokens have the names of 2018, those are the service's claims, whatever a policy issues."""
    world = World(storage, deprecated_names=True)
    names = ("ver", "tee", "policy_hash", "maa-policyHash")
    issuing = " ".join(f'=> issue(type="{name}", value="forged");' for name in names)
    world.set_policy("SgxEnclave", PERMIT.replace("issuancerules{}", f"issuancerules{{{issuing}}}"))
    claims = world.token(world.attest("SgxEnclave", sgx()))
    assert [claims[name] for name in names] == ["1.0", "sgx", *[claims["x-ms-policy-hash"]] * 2]


def test_a_debug_enclave(world: World, storage: SealedStore) -> None:
    """A debug enclave is attested only if the service is configured to."""
    request = sgx(flags=DEBUG)
    status, code, message = error_of(world.attest("SgxEnclave", request))
    assert (status, code) == (400, "InvalidParameter")
    assert message == (
        "protection: want a level that keeps something out, got none: a debug TEE, open to its host"
    )
    told = World(storage, insecure_accept_unprotected=True)
    claims = told.token(told.attest("SgxEnclave", request))
    assert claims["x-kluis-protection"] == "none"
    assert claims["x-ms-sgx-is-debuggable"] is True


@pytest.mark.parametrize(
    ("kind", "claim", "request_"),
    [
        ("SgxEnclave", "x-ms-sgx-is-debuggable", sgx(flags=DEBUG)),
        ("SevSnpVm", "x-ms-sevsnpvm-is-debuggable", snp(policy=0x30000 | 1 << 19)),
        ("TdxVm", "tdx_td_attributes_debug", tdx(td_attributes=1)),
    ],
)
def test_a_policy_about_debug(world: World, kind: str, claim: str, request_: dict[str, Any]) -> None:
    """A policy that denies debug reports it; one that permits it gives no token, signed or not."""
    policy = 'version=1.0; authorizationrules{{[type=="{}", value=={}] => permit();}}; issuancerules{{}};'
    world.set_policy(kind, policy.format(claim, "false"))
    status, code, message = error_of(world.attest(kind, request_))
    assert (status, code) == (400, "PolicyEvaluationError")
    assert f"{claim} is true" in message
    permitting = policy.format(claim, "true")
    world.set_policy(kind, permitting)
    for request in (request_, {**request_, "draftPolicyForAttestation": permitting}):
        status, code, message = error_of(world.attest(kind, request))
        assert (status, code) == (400, "InvalidParameter")
        assert message.endswith("got none: a debug TEE, open to its host")


def test_a_root_of_no_stated_level(storage: SealedStore) -> None:
    """A root that is neither a vendor's nor an emulated platform's has the configured level."""
    other = AmdForge(product="Genoa")
    ark = other.ark.public_bytes(PEM)
    chain = b"".join(each.public_bytes(PEM) for each in (other.vek, other.ask)) + ark
    bundle = json.dumps({"SnpReport": b64u(other.report()), "VcekCertChain": b64u(chain)}).encode()
    untold = World(storage, roots=(Root(ark),), collateral=())
    answer = untold.attest("SevSnpVm", {"report": b64u(bundle)})
    status, code, message = error_of(answer)
    assert (status, code) == (400, "InvalidParameter")
    assert "got none: under root ARK-Genoa sha256:" in message
    assert "--root FILE=LEVEL" in answer.json()["error"]["details"][0]["message"]
    told = World(storage, roots=(Root(ark, ProtectionLevel.HARDWARE_SNP),), collateral=())
    claims = told.token(told.attest("SevSnpVm", {"report": b64u(bundle)}))
    assert claims["x-kluis-protection"] == "hardware-snp"
    assert "x-kluis-emulated" not in claims


def test_a_platform_that_nobody_named(world: World) -> None:
    """Evidence under another root gets no token."""
    other = Forge()
    quote = other.quote(other.body(report_data=bound(HELLO)))
    bundle = b64u(other.collateral().to_json())
    answer = world.attest("SgxEnclave", {"quote": b64u(quote), "x-kluis-collateral": bundle})
    assert error_of(answer)[:2] == (400, "InvalidParameter")


def test_a_bit_of_the_signature(world: World) -> None:
    """A quote with one bit changed is refused, and the check is named."""
    request = sgx()
    quote = bytearray(from_b64u(request["quote"]))
    quote[440] ^= 1
    status, code, message = error_of(world.attest("SgxEnclave", request | {"quote": b64u(bytes(quote))}))
    assert (status, code) == (400, "InvalidParameter")
    assert message.startswith("The specified quote was invalid")


def test_an_old_platform(storage: SealedStore) -> None:
    """A platform whose TCB is older than the policy's baseline is refused, in Azure's words and in ours."""
    world = World(storage)
    policy = (
        'version=1.1; configurationrules{ => issueproperty(type="x-ms-sgx-tcbidentifier", value="NN"); };'
        "authorizationrules{ => permit(); }; issuancerules{};"
    )
    world.set_policy("SgxEnclave", policy.replace("NN", "99"))
    _, code, message = error_of(world.attest("SgxEnclave", sgx()))
    assert code == "InvalidParameter"
    assert message == (
        "x-ms-sgx-tcbidentifier: want one of '10', '11', '12', '13', '14', '15', 'azuredefault', got '99'"
    )
    world.set_policy("SgxEnclave", policy.replace("NN", "15"))
    assert world.attest("SgxEnclave", sgx()).status_code == 200
    info = json.loads(DOCUMENTS.tcb_info)
    for level in info["tcbLevels"]:
        level["tcbDate"] = "2021-06-08T00:00:00Z"
    older = INTEL.collateral(**INTEL.signed("tcb_info", info)).to_json()
    request = sgx() | {"x-kluis-collateral": b64u(older)}
    _, code, message = error_of(world.attest("SgxEnclave", request))
    assert code == "InvalidParameter"
    assert message == (
        "The specified quote was invalid because the device on which the quote was generated does not meet "
        "the Azure baseline requirements: TCB: want one of 2023-02-14 or later (baseline 15), got 2021-06-08"
    )
    world.set_policy("SgxEnclave", policy.replace("NN", "11"))
    assert world.attest("SgxEnclave", request).status_code == 200


def test_collateral_that_is_asked_for(storage: SealedStore) -> None:
    """A service without documents requests them once for each platform; what it gets is verified."""
    asked: list[str] = []

    def give(kind: str, evidence: bytes) -> bytes:
        asked.append(kind)
        return INTEL.collateral().to_json()

    world = World(storage, collateral=(), ask=give)
    for _ in range(3):
        assert world.attest("SgxEnclave", sgx()).status_code == 200
    assert asked == ["sgx"]
    silent = World(storage, collateral=())
    status, code, message = error_of(silent.attest("SgxEnclave", sgx()))
    assert (status, code) == (503, "ServiceUnavailable")
    assert message.startswith("collateral: want Intel's documents for SGX platform ")
    lying = World(storage, collateral=(), ask=lambda *_: Forge().collateral().to_json())
    assert error_of(lying.attest("SgxEnclave", sgx()))[:2] == (400, "InvalidParameter")
    bundle = b64u(INTEL.collateral().to_json())
    assert silent.attest("SgxEnclave", sgx() | {"x-kluis-collateral": bundle}).status_code == 200


def test_a_quote_without_its_platforms_certificates(world: World) -> None:
    """A certificate that only the client could have sent is the client's fault, and not requested again."""
    quote = INTEL.requote(certification_type=3, certification_data=b"\0" * 20)
    bundle = b64u(DOCUMENTS.to_json())
    answer = world.attest("SgxEnclave", {"quote": b64u(quote), "x-kluis-collateral": bundle})
    assert error_of(answer)[:2] == (400, "InvalidParameter")


def test_a_host_that_fails(storage: SealedStore) -> None:
    """A host that gives no documents, however it fails, leaves the service with what it was given."""

    def broken(kind: str, _: bytes) -> Endorsed:
        raise RemoteError("ValueError", "\x1b[2J" + kind * 1000)

    def fail(kind: str, evidence: bytes) -> bytes:
        return endorsement(broken, kind, evidence)

    assert World(storage, ask=fail).attest("SgxEnclave", sgx()).status_code == 200
    assert World(storage, ask=fail).attest("SevSnpVm", snp()).status_code == 200
    without = World(storage, ask=fail, collateral=())
    status, code, message = error_of(without.attest("SgxEnclave", sgx()))
    assert (status, code) == (503, "ServiceUnavailable")
    assert message.endswith(
        f", got none: the host reports, unverified: {('ValueError: ?[2J' + 'sgx' * 1000)[:300]}"
    )


def test_a_host_that_says_why(storage: SealedStore) -> None:
    """The host's reason for missing documents is in the refusal, as foreign text, with the fix on that
    host.
    """

    def busy(kind: str, evidence: bytes) -> Endorsed:
        return Endorsed(b"", "PCK CRL: https://pcs.example is busy (429)\n200 OK", "kluis platform start")

    world = World(storage, collateral=(), ask=lambda kind, evidence: endorsement(busy, kind, evidence))
    answer = world.attest("SgxEnclave", sgx())
    assert error_of(answer) == (
        503,
        "ServiceUnavailable",
        "collateral: want Intel's documents for SGX platform e0e0e0000000, got none: the host"
        " reports, unverified: PCK CRL: https://pcs.example is busy (429)?200 OK; fix on the host:"
        " kluis platform start",
    )
    hints = [one["message"] for one in answer.json()["error"]["details"] if one["code"] == "Hint"]
    assert hints == [
        "kluis collateral fetch QUOTE makes a bundle: x-kluis-collateral of the request, base64url, or "
        "kluis serve --collateral FILE"
    ]


def test_documents_for_a_platform_that_somebody_made_up(storage: SealedStore) -> None:
    """Documents are requested for platforms under a trusted root, and for no others."""
    asked: list[str] = []
    world = World(storage, collateral=(), ask=lambda kind, _: asked.append(kind))
    other = Forge()
    quote = other.quote(other.body(report_data=bound(HELLO)))
    assert error_of(world.attest("SgxEnclave", {"quote": b64u(quote)}))[1] == "InvalidParameter"
    stranger = AmdForge(emulated=True)
    chain = b"".join(each.public_bytes(PEM) for each in (AMD.vek, AMD.ask, stranger.vek))
    bundle = json.dumps({"SnpReport": b64u(AMD.report()), "VcekCertChain": b64u(chain)}).encode()
    assert error_of(world.attest("SevSnpVm", {"report": b64u(bundle)}))[1] == "InvalidParameter"
    assert asked == []


def test_a_draft_beside_evidence_that_does_not_hold(world: World) -> None:
    """A draft is read once the evidence holds; and it is short."""
    request = sgx() | {"draftPolicyForAttestation": "no policy"}
    quote = bytearray(from_b64u(request["quote"]))
    quote[440] ^= 1
    answer = world.attest("SgxEnclave", request | {"quote": b64u(bytes(quote))})
    assert error_of(answer)[1] == "InvalidParameter"
    assert error_of(world.attest("SgxEnclave", request))[1] == "PolicyParsingError"
    long = sgx() | {"draftPolicyForAttestation": "/" * 70_000}
    assert error_of(world.attest("SgxEnclave", long))[2] == (
        "draftPolicyForAttestation: want at most 65536 characters, got 70000"
    )


def ear_of(world: World, kind: str, request: dict[str, Any]) -> Ear:
    """A service's EAR for some evidence, verified by the library."""
    answer = world.attest(kind, request, headers={"Accept": "application/eat+jwt"})
    assert answer.headers["content-type"] == "application/eat+jwt"
    der = base64.b64decode(world.ask("GET", "/certs").json()["keys"][0]["x5c"][0])
    return verify_jwt(answer.text, load_der_public_key(x509.parse(der, "certificate").spki), now=NOW)


def test_an_ear(world: World) -> None:
    """A request for an EAR gets one, which has the level, and which the library verifies."""
    ear = ear_of(world, "SgxEnclave", sgx())
    assert ear.submods["sgx"].protection == "process"
    assert ear.status == "warning"
    assert ear.submods["sgx"].attester["x-ms-sgx-mrenclave"] == IMAGE.hex()


def test_an_ear_says_what_the_platform_does_not_keep_out(world: World) -> None:
    """Known weaknesses of the product line are listed, in addition to the limits of its level."""
    found = ear_of(world, "SevSnpVm", snp()).submods["snp"]
    assert found.protection == "vm"
    assert set(MEANINGS[ProtectionLevel.VM].lets_in) < set(found.not_kept_out)
    assert any(each.endswith("(milan-vcek-seed)") for each in found.not_kept_out)


@pytest.mark.parametrize("trusted", [True, False])
def test_what_is_asked_for_hides_nothing_configured(storage: SealedStore, trusted: bool) -> None:
    """A host that brings another authority's documents, trusted or not, hides none that are the quote's."""
    other = Forge()
    roots = (Root(INTEL.authority.root_pem()), *([Root(other.authority.root_pem())] if trusted else []))
    given: dict[str, Any] = {"roots": roots, "ask": lambda kind, quote: other.collateral().to_json()}
    world = World(storage, collateral=(), **given)
    assert error_of(world.attest("SgxEnclave", sgx()))[:2] == (400, "InvalidParameter")
    world = World(storage, collateral=(DOCUMENTS.to_json(),), **given)
    assert world.token(world.attest("SgxEnclave", sgx()))["x-ms-sgx-mrenclave"] == IMAGE.hex()


def test_a_revoked_platform(world: World) -> None:
    """A platform that its vendor revoked gets no token, whatever the policy permits."""
    for kind, forge, request in (("SgxEnclave", INTEL, sgx()), ("TdxVm", TDX, tdx())):
        info = json.loads(forge.collateral().tcb_info)
        for level in info["tcbLevels"]:
            level["tcbStatus"] = "Revoked"
        bundle = b64u(forge.collateral(**forge.signed("tcb_info", info)).to_json())
        answer = world.attest(kind, request | {"x-kluis-collateral": bundle})
        assert error_of(answer) == (
            400,
            "InvalidParameter",
            "TCB: want a platform that its vendor supports, got Revoked",
        )
