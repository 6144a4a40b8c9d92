"""What is this? Every kind is recognised, read by its own reader, and nothing is verified."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.evidence import AzureEndorsements, NvidiaEndorsements, SnpEndorsements, TpmEndorsements
from kluis.evidence.sniff import MAX_DEPTH, Found, Jwt, sniff
from kluis.formats.hcl import runtime as hcl_runtime
from kluis.formats.ietf import cose
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.snp import table
from kluis.formats.tpm import credential
from kluis.formats.wrappers import oe, tsm
from tests.evidence.azure.forge import AzureForge
from tests.evidence.forge import Forge
from tests.evidence.intel.forge import TdxForge
from tests.evidence.machine import MachineForge
from tests.evidence.nitro.forge import Forge as NitroForge
from tests.evidence.nvidia.forge import Forge as GpuForge
from tests.evidence.samples import sample
from tests.evidence.tpm import forge as tpm
from tests.evidence.wrappers.test_unwrap import GOOD as WRAPPED
from tests.formats.eventlog import imas, logs
from tests.formats.ietf.test_corim import comid, manifest
from tests.formats.snp import samples
from tests.strategies import PROPERTY, mutations

ROOT = Path(__file__).resolve().parents[2]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
SGX = Forge()
TDX = TdxForge()
GPU = GpuForge()


def _url(value: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def _jwk() -> bytes:
    point = GPU.keys[0].public_key().public_numbers()
    half = (point.x.to_bytes(48, "big"), point.y.to_bytes(48, "big"))
    x, y = (base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in half)
    return json.dumps({"kty": "EC", "crv": "P-384", "x": x, "y": y}).encode()


def _signed(member: str, document: bytes) -> bytes:
    return b'{"%s":%s,"signature":"%s"}' % (member.encode(), document, b"00" * 64)


COLLATERAL = SGX.collateral()
REPORT = samples.make(5).encode()
EK = tpm.ek_area(tpm.rsa_key())
THIM_CHAIN = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n" * 2
GOOD: dict[str, bytes] = {
    "SGX quote v3": SGX.quote(),
    "TDX quote v4": TDX.quote(),
    "SNP report v5": REPORT,
    "SNP report v3": samples.make(3).encode() + table.build({table.VCEK: b"none"}).encode(),
    "NVIDIA report": GPU.report(),
    "CMW collection": GPU.evidence(),
    "NVIDIA endorsements": NvidiaEndorsements(ocsp=(b"x",)).to_json(),
    "AWS Nitro document": NitroForge().document(),
    "certificate chain": GPU.chain(),
    "X.509 certificate": GPU.certificates[4].public_bytes(Encoding.DER),
    "X.509 CRL": COLLATERAL.pck_crl,
    "public key": GPU.keys[0].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "Intel collateral": COLLATERAL.to_json(),
    "Intel TCB info": _signed("tcbInfo", COLLATERAL.tcb_info),
    "Intel enclave identity": _signed("enclaveIdentity", COLLATERAL.qe_identity),
    "Kluis endorsement": MachineForge().endorsement(),
    "Kluis runtime data": SGX.runtime,
    "Kluis launch configuration": SGX.launch,
    "JSON web token": _url({"alg": "ES384"}) + b"." + _url({"iss": "x"}) + b".AAAA",
    "PCR values": b'{"sha256": {"0": "' + b"00" * 32 + b'"}}',
    "JSON web key": _jwk(),
    "Azure endorsements": AzureEndorsements(tdx=COLLATERAL).to_json(),
    "SNP endorsements": SnpEndorsements(vek=b"vek").to_json(),
    "THIM answer": json.dumps({"vcekCert": "v", "certificateChain": THIM_CHAIN, "tcbm": "DB"}).encode(),
    "TPM endorsements": TpmEndorsements(certificate=b"ak", chain=b"ca").to_json(),
    "CoRIM": manifest(comid()),
    "TPM credential": credential.make(EK, b"name", b"secret", bytes(32)).encode(),
    "TPM storage key": EK.encode(),
    "TPM public area": tpm.area(tpm.rsa_key()).encode(),
    "configfs-tsm report": tsm.wrap("sev_guest", REPORT),
    "dstack quote": WRAPPED["dstack quote"][0],
    "dstack certificate": WRAPPED["dstack certificate"][0],
    "RA-TLS certificate": WRAPPED["tagged evidence"][0],
    "Open Enclave evidence": WRAPPED["evidence"][0],
    "TDREPORT": b"\x81" + bytes(1023),
    "IMA text log": f"10 {'0' * 40} ima-ng sha256:{'ab' * 32} /init\n".encode(),
    "IMA log": imas.written(imas.of_file("/init", b"init"), imas.oldest("/bin/sh", b"sh")),
}


def _labels(found: Found) -> list[str]:
    return [label for label, _ in found.within]


@pytest.mark.parametrize("name", GOOD)
def test_kinds(name: str) -> None:
    """Every kind is recognised only by its bytes."""
    assert sniff(GOOD[name]).name == name


def test_parts() -> None:
    """What holds other things shows them."""
    assert _labels(sniff(GOOD["SGX quote v3"])) == ["certificates"]
    assert _labels(sniff(GOOD["certificate chain"])) == ["[0]", "[1]", "[2]", "[3]", "[4]"]
    assert _labels(sniff(GOOD["dstack certificate"])) == ["evidence", "certificate", "event log"]
    assert _labels(sniff(GOOD["Intel collateral"])) == ["tcb_info", "qe_identity", "root_ca_crl", "pck_crl"]
    assert _labels(sniff(GOOD["SNP report v3"])) == ["certificate[0]"]
    gpu = dict(sniff(GPU.evidence()).within)
    assert {label: part.name for label, part in gpu.items()} == {
        "report": "NVIDIA report",
        "cert_chain": "certificate chain",
    }
    nitro = dict(sniff(GOOD["AWS Nitro document"]).within)
    assert nitro["certificate"].name == "X.509 certificate"


def test_parts_of_composed_evidence() -> None:
    """An Azure machine's report shows its hardware's where that is signed, a token its two halves."""
    azure, cca = AzureForge(), sample("cca.token")
    snp, tdx = (dict(sniff(data).within) for data in (azure.snp(), azure.tdx()))
    assert {label: part.name for label, part in snp.items()} == {
        "hardware report": "SNP report v3",
        "runtime data": "HCL runtime data",
    }
    assert list(tdx) == ["runtime data"]
    assert tdx["runtime data"].value == hcl_runtime.parse(azure.runtime)
    assert _labels(sniff(cca.data)) == ["realm", "platform"]
    nitro = sniff(GOOD["AWS Nitro document"])
    assert _labels(nitro)[:2] == ["certificate", "cabundle[0]"]


def test_a_manifest_that_is_signed() -> None:
    """A signed manifest is distinguished from other signed messages by its media type."""
    key = ec.generate_private_key(ec.SECP384R1())
    assert sniff(cose.sign1(manifest(comid()), key, {3: "application/rim+cbor"})).name == "CoRIM"


@pytest.mark.parametrize(("register", "kind"), [(0, 1), (23, 0x12), (3, 0x80000001), (23, 0x800000FF)])
def test_event_logs(register: int, kind: int) -> None:
    """A log begins with its own declaration, or with an event of a register and of a type that there is."""
    assert sniff(logs.log(logs.event(0, kind, b"x")).encode()).name == "event log"
    digest = bytes(20)
    first = register.to_bytes(4, "little") + kind.to_bytes(4, "little") + digest
    assert sniff(first + (1).to_bytes(4, "little") + b"x").name == "event log"


@pytest.mark.parametrize(
    ("register", "kind", "size"),
    [(24, 1, 1), (0, 0x13, 1), (0, 0x7FFFFF01, 1), (0, 0x80000100, 1), (0, 1, 2)],
)
def test_what_only_looks_like_a_log(register: int, kind: int, size: int) -> None:
    """An invalid register, an unknown type, or too little data: nothing is guessed."""
    data = b"".join(each.to_bytes(4, "little") for each in (register, kind)) + bytes(20)
    with pytest.raises(UnsupportedError) as caught:
        sniff(data + size.to_bytes(4, "little") + b"x")
    assert caught.value.code == "bad_magic"


def test_a_part_that_cannot_be_read() -> None:
    """A part that is malformed, or of no kind, does not hide the others."""
    parts = {"a": Part(OCTETS, SGX.quote()[:40]), "b": Part(OCTETS, b"\xfe?"), "c": Part(OCTETS, SGX.quote())}
    within = dict(sniff(Collection(parts).encode()).within)
    assert within["a"].name.startswith(
        "bytes that cannot be read: DCAP quote v3.header at 0x0: needs 48 bytes"
    )
    assert (within["b"].name, within["b"].value) == ("bytes", b"\xfe?")
    assert within["c"].name == "SGX quote v3"


def test_depth() -> None:
    """Wrappers in wrappers end somewhere."""
    data = SGX.quote()
    for _ in range(MAX_DEPTH + 2):
        data = Part(OCTETS, data).encode()
    found = sniff(data)
    names = []
    while found.within:
        names.append(found.name)
        found = found.within[0][1]
    assert names == ["CMW record"] * (MAX_DEPTH + 1)
    assert found.name == f"bytes that cannot be read: input: is wrapped more than {MAX_DEPTH} deep"


def test_token() -> None:
    """A token's header and claims are shown; claims that readers differ on are not."""
    value = sniff(GOOD["JSON web token"]).value
    assert value == Jwt({"alg": "ES384"}, {"iss": "x"})
    floats = _url({"alg": "none"}) + b"." + _url({"x": 1.5}) + b"."
    assert sniff(floats).value == Jwt({"alg": "none"}, None)
    assert sniff(_url({"alg": "none"}) + b"." + _url([1]) + b".").value.claims is None
    with pytest.raises(FormatError):
        sniff(_url([1]) + b"." + _url({}) + b".")


@pytest.mark.parametrize(
    "data", [b"", b"noise, and no more", b"\0\xff", b"[]", b"{}", b"\x0a\xff", bytes(2000)]
)
def test_unknown(data: bytes) -> None:
    """An unknown kind is refused, and not guessed."""
    with pytest.raises((UnsupportedError, FormatError)):
        sniff(data)


def test_local_report() -> None:
    """A recognised kind that cannot be handled is reported as that."""
    with pytest.raises(UnsupportedError) as caught:
        sniff(oe.encode_report(SGX.quote()).replace(b"\2", b"\1", 1))
    assert caught.value.code == "signer_kind_mismatch"


@PROPERTY
@given(mutations(*GOOD.values(), most=2))
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape."""
    try:
        sniff(data)
    except KluisError:
        return


# What the parts of recorded evidence are, by their roles.
ROLES = {
    "quote": ("SGX quote", "TDX quote"),
    "td_quote": ("TDX quote",),
    "document": ("AWS Nitro document",),
    "hcl_report": ("HCL report",),
    "token": ("CCA token",),
    "event_log": ("event log", "dstack event log"),
    "quote_msg": ("TPM quote",),
    "tpm_quote_msg": ("TPM quote",),
    "report": ("SNP report", "NVIDIA report"),
    "cert_chain": ("certificate chain",),
    "tcb_info": ("Intel TCB info",),
    "qe_identity": ("Intel enclave identity",),
    "pck_crl": ("X.509 CRL",),
    "ark_crl": ("X.509 CRL",),
    "endorsement_key": ("X.509 certificate",),
    "pcrs": ("PCR values",),
}


def _recorded() -> list[Any]:
    found = []
    for path in sorted(VECTORS.glob("*/*/meta.json")):
        meta = json.loads(path.read_text(encoding="utf-8"))
        if not meta["expected"]["outcome"].startswith("invalid"):
            found.append(pytest.param(path.parent, meta, id=meta["id"]))
    return found


@pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")
@pytest.mark.parametrize(("folder", "meta"), _recorded())
def test_vector(folder: Path, meta: dict[str, Any]) -> None:
    """Every part of recorded evidence that is not malformed is recognised as what it is."""
    for role, recorded in meta["files"].items():
        if role in ROLES:
            name = sniff((folder / recorded["file"]).read_bytes()).name
            assert name.startswith(ROLES[role]), role
