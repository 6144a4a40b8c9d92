"""Azure guests: one VM from its hardware to its key, or no token; and only its TPM opens what it gets."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.enclave.store import SealedStore
from kluis.evidence import ProtectionLevel
from kluis.formats.eventlog.sipa import Sipa
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.public import Attribute
from kluis.services.attestation.settings import Root
from tests.evidence.tpm.forge import area, rsa_key, sign
from tests.services.attestation.vm import AK, GOOD, KEY, MAKER, OWN, PCRS, Vm, b64, boot, request, sipa
from tests.services.attestation.world import (
    PERMIT,
    World,
    b64u,
    claims_of,
    error_of,
    from_b64u,
)

VALIDATED = {name: frozenset({hashlib.sha256(value).digest()}) for name, value in GOOD.items()}


@pytest.fixture
def guests(storage: SealedStore) -> World:
    """A service that knows good keys of secure boot."""
    return World(storage, secure_boot_variables=VALIDATED)


def attest(world: World, vm: Vm, info: dict[str, Any] | None = None) -> dict[str, Any]:
    """The claims of the token that a VM gets."""
    answer = world.attest("AzureGuest", request(vm.info() if info is None else info))
    assert answer.status_code == 200, answer.text
    return world.verified(vm.open(answer.json()["token"]))


def refused(world: World, info: dict[str, Any]) -> str:
    """Why a VM gets none."""
    status, code, message = error_of(world.attest("AzureGuest", request(info)))
    assert (status, code) == (400, "InvalidParameter")
    return message


def test_a_guest_on_snp(guests: World) -> None:
    """Every claim of Azure's own tokens is there: the boot's at the top, the hardware's beneath."""
    vm = Vm()
    claims = attest(guests, vm)
    tee = claims.pop("x-ms-isolation-tee")
    numbers = KEY.public_key().public_numbers()
    assert claims.pop("x-kluis-pcrs") == {
        f"pcr{index}": vm.values[HashId.SHA256][index].hex() for index in PCRS
    }
    assert claims.pop("x-ms-runtime") == {
        "client-payload": {"nonce": b64(b"fresh")},
        "keys": [
            {
                "e": "AQAB",
                "key_ops": ["encrypt"],
                "kid": "TpmEphemeralEncryptionKey",
                "kty": "RSA",
                "n": b64u(numbers.n.to_bytes(256, "big")),
            }
        ],
    }
    for name in ("iss", "iat", "nbf", "exp", "jti", "x-ms-ver", "x-ms-policy-hash"):
        claims.pop(name)
    vmid = claims.pop("x-ms-azurevm-vmid")
    assert claims == {
        "secureboot": True,
        "x-ms-attestation-type": "azurevm",
        "x-ms-azurevm-attestation-protocol-ver": "2.0",
        "x-ms-azurevm-attested-pcrs": list(PCRS),
        "x-ms-azurevm-bootdebug-enabled": False,
        "x-ms-azurevm-dbvalidated": True,
        "x-ms-azurevm-dbxvalidated": True,
        "x-ms-azurevm-debuggersdisabled": True,
        "x-ms-azurevm-default-securebootkeysvalidated": True,
        "x-ms-azurevm-elam-enabled": False,
        "x-ms-azurevm-flightsigning-enabled": False,
        "x-ms-azurevm-hvci-policy": 0,
        "x-ms-azurevm-hypervisordebug-enabled": False,
        "x-ms-azurevm-is-windows": False,
        "x-ms-azurevm-kerneldebug-enabled": False,
        "x-ms-azurevm-osbuild": "NotApplicable",
        "x-ms-azurevm-osdistro": "Debian",
        "x-ms-azurevm-ostype": "Linux",
        "x-ms-azurevm-osversion-major": 13,
        "x-ms-azurevm-osversion-minor": 0,
        "x-ms-azurevm-signingdisabled": True,
        "x-ms-azurevm-testsigning-enabled": False,
        "x-kluis-protection": "vm",
        "x-kluis-emulated": True,
    }
    assert tee["x-ms-attestation-type"] == "sevsnpvm"
    assert tee["x-ms-sevsnpvm-reportdata"] == vm.report_data.hex()
    assert tee["x-ms-runtime"] == json.loads(vm.runtime)
    assert tee["x-ms-runtime"]["vm-configuration"]["vmUniqueId"] == vmid
    assert tee["x-kluis-protection"] == "vm"


def test_a_guest_on_tdx(guests: World) -> None:
    """The same on TDX."""
    vm = Vm()
    claims = attest(guests, vm, vm.info(vm.tdx()))
    assert claims["x-ms-isolation-tee"]["x-ms-attestation-type"] == "tdxvm"
    assert claims["x-kluis-protection"] == "process"


def test_a_guest_on_tdx_without_documents(storage: SealedStore) -> None:
    """That nobody gives Intel's documents is said as that: it is no fault of the guest's, and passes."""
    world, vm = World(storage, secure_boot_variables=VALIDATED, collateral=()), Vm()
    status, code, message = error_of(world.attest("AzureGuest", request(vm.info(vm.tdx()))))
    assert (status, code) == (503, "ServiceUnavailable")
    assert message.startswith("collateral: want Intel's documents for TDX platform ")


def test_a_proof_as_an_object(guests: World) -> None:
    """Azure's client in Rust sends the proof of an SNP guest as JSON, in base64's own alphabet."""
    vm = Vm()
    isolation = vm.snp()
    proof = json.loads(base64.b64decode(isolation["Evidence"]["Proof"]))
    plain = {name: b64(from_b64u(text)) for name, text in proof.items()}
    isolation["Evidence"]["Proof"] = plain
    claims = attest(guests, vm, vm.info(isolation))
    assert claims["x-ms-isolation-tee"]["x-ms-sevsnpvm-reportdata"] == vm.report_data.hex()
    isolation["Evidence"]["Proof"] = {"SnpReport": plain["SnpReport"]}
    assert "Object missing required field `VcekCertChain`" in refused(guests, vm.info(isolation))


def test_trusted_launch(storage: SealedStore) -> None:
    """Without isolation a certificate under a TPM's root certifies the key, and the level is vtpm."""
    leaf = MAKER.ak(AK.public_key())
    endorsed = MAKER.endorse(leaf)
    roots = (Root(MAKER_ROOT, ProtectionLevel.VTPM),)
    issuers = split(endorsed.chain)
    world = World(storage, roots=roots, tpm_issuers=issuers, secure_boot_variables=VALIDATED, collateral=())
    vm = Vm()
    isolation = {"Type": "TrustedLaunch"}
    certificate = b64(leaf.public_bytes(Encoding.DER))
    claims = attest(world, vm, vm.info(isolation, AikCert=certificate))
    assert claims["x-kluis-protection"] == "vtpm"
    assert "x-kluis-emulated" not in claims
    assert "x-ms-isolation-tee" not in claims
    assert "x-ms-azurevm-vmid" not in claims
    assert "AK certificate: want one, got none" in refused(world, vm.info(isolation))
    other = b64(MAKER.ak(rsa_key().public_key()).public_bytes(Encoding.DER))
    assert "AikPub: want the certified key, got another" in refused(world, vm.info(isolation, AikCert=other))


def split(chain: bytes) -> tuple[bytes, ...]:
    """DER of a PEM chain."""
    from kluis.formats import x509

    return x509.split_pem(chain, "chain")


BEGIN = b"-----BEGIN CERTIFICATE-----"
MAKER_ROOT = BEGIN + MAKER.endorse(MAKER.ak(AK.public_key())).chain.split(BEGIN)[-1]


def other_vm() -> Vm:
    """Another VM, with another start."""
    return Vm(boot(b"\0"))


def changed(vm: Vm, name: str, value: Any) -> dict[str, Any]:
    """What a VM sends, with one part of the TPM's replaced."""
    return vm.info(**{name: value})


def with_key(attributes: int, **changes: Any) -> dict[str, Any]:
    """A VM whose encryption key has other attributes, or another modulus or exponent, rightly certified."""
    from kluis.formats.tpm.certify import Certification
    from tests.evidence.tpm.forge import CLOCK

    public = area(KEY, attributes)
    public = dataclasses.replace(public, key=dataclasses.replace(public.key, **changes))
    made = Certification(
        qualified_signer=b"", extra_data=b"", clock=CLOCK, name=public.name, qualified_name=b""
    ).encode()
    return Vm().info(
        EncKeyPub=b64(public.encode()),
        EncKeyCertifyInfo=b64(made),
        EncKeyCertifyInfoSignature=b64(sign(AK, made).encode()),
    )


def certified_in(**clock: int) -> dict[str, Any]:
    """A VM whose encryption key was certified at another time of its TPM."""
    from kluis.formats.tpm import certify

    info = Vm().info()
    found = certify.parse(base64.b64decode(info["TpmInfo"]["EncKeyCertifyInfo"]))
    made = dataclasses.replace(found, clock=dataclasses.replace(found.clock, **clock)).encode()
    signed = b64(sign(AK, made).encode())
    return Vm().info(EncKeyCertifyInfo=b64(made), EncKeyCertifyInfoSignature=signed)


BAD: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "a key of the boot before": (
        lambda: certified_in(reset_count=0),
        "EncKeyCertifyInfo: want a key certified in the boot that was quoted, reset 1 and restart 2,"
        " got reset 0 and restart 2",
    ),
    "a key of before the TPM restarted": (
        lambda: certified_in(restart_count=1),
        "EncKeyCertifyInfo: want a key certified in the boot that was quoted, reset 1 and restart 2,"
        " got reset 1 and restart 1",
    ),
    "another VM's quote": (
        lambda: changed(Vm(), "PcrQuote", other_vm().info()["TpmInfo"]["PcrQuote"]),
        "TPM quote: is not signed by the key it should be",
    ),
    "another VM's values": (
        lambda: changed(Vm(), "PCRs", other_vm().info()["TpmInfo"]["PCRs"]),
        "TPM quote: PCR values: want those of",
    ),
    "another VM's log": (lambda: Vm().info() | {"TcgLogs": b64(other_vm().log)}, "event log: want PCRs as"),
    "fewer PCRs than were quoted": (lambda: changed(Vm(), "PcrSet", [7]), "TPM quote: PCRs: want"),
    "another key": (
        lambda: changed(Vm(), "AikPub", b64(area(rsa_key()).encode())),
        "AikPub: want the certified key, got another",
    ),
    "a key that signs anything": (
        lambda: changed(Vm(), "AikPub", b64(area(AK, Attribute.FIXED_TPM | Attribute.SIGN).encode())),
        "AK: want a restricted signing key of the TPM's own",
    ),
    "a key of nobody's": (
        lambda: changed(Vm(), "EncKeyPub", b64(area(rsa_key(), OWN).encode())),
        "EncKeyPub: want the certified key",
    ),
    "a certification of nobody's": (
        lambda: changed(Vm(), "EncKeyCertifyInfoSignature", b64(sign(rsa_key(), b"something else").encode())),
        "EncKeyCertifyInfo: is not signed by the attestation key",
    ),
    "a quote in place of a certification": (
        lambda: Vm().info(
            EncKeyCertifyInfo=Vm().info()["TpmInfo"]["PcrQuote"],
            EncKeyCertifyInfoSignature=Vm().info()["TpmInfo"]["PcrSignature"],
        ),
        "TPM certification.type at 0x4: want 0x8017, got 0x8018",
    ),
    "a key that anybody could have loaded": (
        lambda: with_key(Attribute.DECRYPT | Attribute.USER_WITH_AUTH),
        "EncKeyPub: want a key of the TPM's own that decrypts",
    ),
    "a key that nothing is encrypted to": (
        lambda: with_key(OWN | Attribute.USER_WITH_AUTH, modulus=b"\xff" * 255 + b"\0"),
        "EncKeyPub: want an RSA key to encrypt to",
    ),
    "a key of an even exponent": (
        lambda: with_key(OWN | Attribute.USER_WITH_AUTH, exponent=2),
        "EncKeyPub: want an RSA key to encrypt to",
    ),
    "runtime data of others": (
        lambda: Vm().info(
            {**Vm().snp(), "Evidence": Vm(**{"tpm-enabled": False}).snp()["Evidence"]}
            | {"Evidence": {**Vm().snp()["Evidence"], "RunTimeData": b64(b'{"keys":[]}')}}
        ),
        "runtimeData: want report data",
    ),
    "a report of another level": (lambda: Vm().info(Vm().snp(vmpl=1)), "SNP report: want VMPL 0"),
    "no isolation": (lambda: Vm().info({"Type": "None"}), "IsolationInfo.Type: want TrustedLaunch"),
    "another protocol": (
        lambda: Vm().info() | {"AttestationProtocolVersion": "1.0"},
        "AttestationInfo.AttestationProtocolVersion: want 2.0, got '1.0'",
    ),
    "no TPM": (
        lambda: {name: value for name, value in Vm().info().items() if name != "TpmInfo"},
        "AttestationInfo: Object missing required field `TpmInfo`",
    ),
    "PCR 24": (lambda: changed(Vm(), "PcrSet", [24]), "TpmInfo.PcrSet: want 0..23, got 24"),
    "a short value": (
        lambda: changed(Vm(), "PCRs", [{"Index": 0, "Digest": "AAAA"}]),
        "TpmInfo.PCRs.0: want one value of 32 bytes, got 3",
    ),
    "a PCR twice": (
        lambda: changed(Vm(), "PCRs", [{"Index": 0, "Digest": b64(bytes(32))}] * 2),
        "TpmInfo.PCRs.0: want one value, got another",
    ),
    "a payload of too many members": (
        lambda: Vm().info() | {"ClientPayload": {str(number): 0 for number in range(65)}},
        "ClientPayload: want an object of at most 64 members",
    ),
    "a payload of text": (
        lambda: Vm().info() | {"ClientPayload": "fresh"},
        "ClientPayload: want an object of at most 64 members",
    ),
    "a payload of a list": (
        lambda: Vm().info() | {"ClientPayload": []},
        ", got `array` - at `$.ClientPayload`",
    ),
    "a version in words": (
        lambda: Vm().info() | {"OSVersionMajor": "twenty"},
        "OSVersionMajor: want a number, got 'twenty'",
    ),
    "a version with a line feed": (
        lambda: Vm().info() | {"OSVersionMinor": "04\n"},
        "OSVersionMinor: want a number, got '04\\n'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_one_vm(guests: World, name: str) -> None:
    """Each part that is another's, or nobody's, is named, and no token is made."""
    make, want = BAD[name]
    assert want in refused(guests, make())


def test_without_secure_boot(guests: World) -> None:
    """The default policy permits no VM without secure boot, nor one without a log that proves it."""
    for info in (Vm(boot(b"\0")).info(), Vm().info() | {"TcgLogs": ""}):
        answer = guests.attest("AzureGuest", request(info))
        _, code, message = error_of(answer)
        assert code == "PolicyEvaluationError"
        assert "A Deny claim was issued" in message
        assert "secure_boot_variables" not in answer.text


def test_keys_of_secure_boot(guests: World, world: World) -> None:
    """A variable with another value is not validated; without lists, none is."""
    guests.set_policy("AzureGuest", PERMIT)
    claims = attest(guests, Vm(boot(dbx=b"other")))
    assert claims["x-ms-azurevm-dbvalidated"] is True
    assert claims["x-ms-azurevm-dbxvalidated"] is False
    assert claims["x-ms-azurevm-default-securebootkeysvalidated"] is False


def test_without_lists(world: World) -> None:
    """A service without known good keys validates none, and reports that if its policy requires some."""
    error = world.attest("AzureGuest", request(Vm().info())).json()["error"]
    assert error["code"] == "PolicyEvaluationError"
    assert error["details"][0]["message"] == (
        "no variable of secure boot is validated, because the service is configured with no values:"
        " list them in attestation.secure_boot_variables of kluis serve --settings FILE; or set"
        " another policy"
    )
    own = '=> issue(type="x-ms-azurevm-dbvalidated", value=true);'
    rules = f"version=1.0; authorizationrules{{ => permit(); }}; issuancerules{{ {own} }};"
    world.set_policy("AzureGuest", rules)
    error = world.attest("AzureGuest", request(Vm().info())).json()["error"]
    assert error["details"][0]["message"] == "issue it under another name"
    world.set_policy("AzureGuest", PERMIT)
    claims = attest(world, Vm())
    assert claims["secureboot"] is True
    assert claims["x-ms-azurevm-dbvalidated"] is False


def test_windows(guests: World) -> None:
    """Windows's measurements are reported from the log and not from its own description."""
    inner = (Sipa.OSKERNELDEBUG, b"\1"), (Sipa.VBS_HVCI_POLICY, (3).to_bytes(8, "little"))
    data = b"".join(
        kind.to_bytes(4, "little") + len(value).to_bytes(4, "little") + value for kind, value in inner
    )
    guests.set_policy("AzureGuest", PERMIT)
    claims = attest(guests, Vm(boot(b"\1", sipa((0x40010001, data), (Sipa.TESTSIGNING, b"\0")))))
    assert claims["x-ms-azurevm-is-windows"] is True
    assert claims["x-ms-azurevm-kerneldebug-enabled"] is True
    assert claims["x-ms-azurevm-debuggersdisabled"] is False
    assert claims["x-ms-azurevm-signingdisabled"] is True
    assert claims["x-ms-azurevm-hvci-policy"] == 3
    silent = Vm().info() | {"OSType": b64(b"Windows")}
    claims = attest(guests, Vm(), silent)
    assert claims["x-ms-azurevm-debuggersdisabled"] is False
    assert claims["x-ms-azurevm-signingdisabled"] is False


def test_policies_read_the_hardware(guests: World) -> None:
    """A policy names the hardware's claims with a leading dot."""
    guests.set_policy(
        "AzureGuest",
        "version=1.0; authorizationrules{"
        '[type=="x-ms-isolation-tee.x-ms-attestation-type", value=="sevsnpvm"] => permit();};',
    )
    assert attest(guests, Vm())["x-ms-attestation-type"] == "azurevm"
    vm = Vm()
    answer = guests.attest("AzureGuest", request(vm.info(vm.tdx())))
    assert error_of(answer)[1] == "PolicyEvaluationError"


def test_policies_repeat_the_hardware(guests: World) -> None:
    """A policy may issue a hardware claim under the name that it reads it by, and no other claim."""
    name = "x-ms-isolation-tee.x-ms-attestation-type"
    policy = (
        f'version=1.0; authorizationrules{{=> permit();}}; issuancerules{{c:[type=="{name}"] => ISSUE;}};'
    )
    guests.set_policy("AzureGuest", policy.replace("ISSUE", "issue(claim=c)"))
    assert attest(guests, Vm())[name] == "sevsnpvm"
    guests.set_policy("AzureGuest", policy.replace("ISSUE", f'issue(type="{name}", value="tdxvm")'))
    message = error_of(guests.attest("AzureGuest", request(Vm().info())))[2]
    assert message.endswith(f"claim '{name}' is the service's own: want 'sevsnpvm', got 'tdxvm'")


def test_either_name(guests: World) -> None:
    """The specification's name of the member does, too; a draft's token is unsigned, and still enclosed."""
    vm = Vm()
    body = {"attestationInfo": request(vm.info())["AttestationInfo"], "draftPolicyForAttestation": PERMIT}
    token = vm.open(guests.attest("AzureGuest", body).json()["token"])
    assert token.endswith(".")
    assert claims_of(token)["secureboot"] is True
    assert error_of(guests.attest("AzureGuest", {}))[2] == "AttestationInfo: want text, got none"
