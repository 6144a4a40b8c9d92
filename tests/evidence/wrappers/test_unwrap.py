"""Wrappers: the evidence within is verified, and must bind the wrapper's other parts."""

from __future__ import annotations

import base64
import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given

from kluis.errors import AuthenticityError, FormatError, KluisError, UnsupportedError
from kluis.evidence import Claims, verify
from kluis.evidence.registry import unwrap_if_wrapped
from kluis.evidence.wrappers.unwrap import unwrap
from kluis.formats.encoding import cbor, der
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.kluis.evidence_file import EvidenceFile
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.wrappers import dstack, gotpm, oe, ratls, tsm
from kluis.hashes import sha256
from tests.evidence.azure.forge import AzureForge
from tests.evidence.cca.forge import Forge as CcaForge
from tests.evidence.forge import NOW, Forge
from tests.evidence.intel.forge import TdxForge
from tests.evidence.nvidia.forge import NONCE
from tests.evidence.nvidia.forge import Forge as GpuForge
from tests.evidence.tpm import forge as tpm
from tests.formats.snp import samples
from tests.formats.wrappers import test_coco_parts as coco_parts
from tests.formats.wrappers import test_gosev as gosev
from tests.formats.wrappers.test_coco import as_json
from tests.formats.wrappers.test_dstack import event
from tests.formats.wrappers.test_gotpm import attestation, quote
from tests.formats.wrappers.test_nvtrust import entry
from tests.strategies import PROPERTY, mutations

SGX = Forge()
TDX = TdxForge()
GPU = GpuForge()
KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
LOG = json.dumps([event()]).encode()
REGISTERS = {"rtmr3": dstack.replay(dstack.parse_log(LOG))[3]}
BARE_CLAIMS = b"\1" + bytes(15)
TAGGED_CLAIMS = cbor.dumps({"pubkey-hash": cbor.dumps([1, sha256(SPKI)])})


def sgx_quote(bound: bytes) -> bytes:
    """A quote whose report data are a hash, and zeros."""
    return SGX.quote(SGX.body(report_data=sha256(bound) + bytes(32)))


def certificate(**extensions: bytes) -> x509.Certificate:
    """A self-signed certificate that carries evidence, by dotted identifier with underscores."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "enclave")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=400))
        .not_valid_after(NOW - timedelta(days=300))
    )
    for oid, value in extensions.items():
        made = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid.replace("_", ".")), value)
        builder = builder.add_extension(made, critical=False)
    return builder.sign(KEY, hashes.SHA256())


def der_of(oid: str, value: bytes, **more: bytes) -> bytes:
    """Such a certificate, DER."""
    return certificate(**{oid: value, **more}).public_bytes(Encoding.DER)


def octets(value: bytes) -> bytes:
    """As dstack wraps what its extensions hold."""
    return der.element(der.OCTET_STRING, value)


def verified(data: bytes, forge: Forge = SGX) -> Claims:
    """Verify what is wrapped."""
    return forge.verify(data)


GOOD: dict[str, tuple[bytes, Forge, str, dict[str, bytes]]] = {
    "report": (oe.encode_report(SGX.quote()), SGX, "Open Enclave report", {}),
    "evidence": (
        oe.Evidence(oe.SGX_ECDSA, sgx_quote(b"claims"), b"claims").encode(),
        SGX,
        "Open Enclave evidence",
        {"custom claims": b"claims"},
    ),
    "evidence without a header": (
        sgx_quote(BARE_CLAIMS) + BARE_CLAIMS,
        SGX,
        "Open Enclave evidence",
        {"custom claims": BARE_CLAIMS},
    ),
    "evidence without claims": (
        oe.Evidence(oe.RAW_QUOTE, SGX.quote(), None).encode(),
        SGX,
        "Open Enclave evidence",
        {},
    ),
    "certificate of Open Enclave, report": (
        der_of(oe.REPORT_OIDS[1], oe.encode_report(sgx_quote(oe.pem_of(SPKI)))),
        SGX,
        "Open Enclave certificate",
        {"public key": SPKI},
    ),
    "certificate of Open Enclave, evidence": (
        der_of(
            oe.EVIDENCE_OIDS[0],
            oe.Evidence(oe.SGX_ECDSA, sgx_quote(oe.pem_of(SPKI)[:-1]), oe.pem_of(SPKI)[:-1]).encode(),
        ),
        SGX,
        "Open Enclave certificate",
        {"public key": SPKI},
    ),
    "Gramine": (
        der_of(ratls.GRAMINE_OIDS[0], sgx_quote(SPKI)),
        SGX,
        "RA-TLS certificate",
        {"public key": SPKI},
    ),
    "Gramine, PEM chain": (
        certificate(**{ratls.GRAMINE_OIDS[1]: sgx_quote(SPKI)}).public_bytes(Encoding.PEM) * 2,
        SGX,
        "RA-TLS certificate",
        {"public key": SPKI},
    ),
    "tagged evidence": (
        der_of(ratls.DICE_OID, cbor.dumps(cbor.Tagged(60000, [sgx_quote(TAGGED_CLAIMS), TAGGED_CLAIMS]))),
        SGX,
        "RA-TLS certificate",
        {"public key": SPKI},
    ),
    "dstack certificate": (
        der_of(
            dstack.QUOTE_OID,
            octets(TDX.quote(TDX.td(report_data=dstack.key_report_data(SPKI), **REGISTERS))),
            **{dstack.EVENT_LOG_OID: octets(LOG)},
        ),
        TDX,
        "dstack certificate",
        {"public key": SPKI, "event log": LOG},
    ),
    "dstack certificate without a log": (
        der_of(dstack.QUOTE_OID, octets(TDX.quote(TDX.td(report_data=dstack.key_report_data(SPKI))))),
        TDX,
        "dstack certificate",
        {"public key": SPKI},
    ),
    "dstack quote": (
        json.dumps(
            {
                "quote": TDX.quote(TDX.td(report_data=b"\x12".ljust(64, b"\0"), **REGISTERS)).hex(),
                "event_log": LOG.decode(),
                "report_data": "12",
            }
        ).encode(),
        TDX,
        "dstack quote",
        {"event log": LOG, "report data": b"\x12".ljust(64, b"\0")},
    ),
    "CoCo quote": (
        json.dumps({"quote": base64.b64encode(TDX.quote()).decode()}).encode(),
        TDX,
        "CoCo quote",
        {},
    ),
    "configfs-tsm, one object": (
        json.dumps({"provider": "tdx_guest", "outblob": base64.b64encode(TDX.quote()).decode()}).encode(),
        TDX,
        "configfs-tsm report",
        {},
    ),
    "configfs-tsm": (tsm.wrap("tdx_guest", TDX.quote()), TDX, "configfs-tsm report", {}),
    "CMW record": (Part(OCTETS, SGX.quote()).encode(), SGX, "CMW record", {}),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_loads_fewer_wrappers(case: str) -> None:
    """The registry removes the same wrapper, whether its evidence is in an evidence file or not."""
    data = GOOD[case][0]
    packed = EvidenceFile(evidence=data).encode()
    for each in (data, data[:-1], data + b"\0", packed, packed[:-1]):
        found = []
        for remove in (unwrap, unwrap_if_wrapped):
            try:
                found.append(repr(remove(each)))
            except KluisError as error:
                found.append(repr(error))
        assert found[0] == found[1]


@pytest.mark.parametrize("case", GOOD)
def test_good(case: str) -> None:
    """The evidence within is verified, and its claims tell what it came in and binds."""
    data, forge, name, binds = GOOD[case]
    wrapper = verified(data, forge).wrapper
    assert wrapper is not None
    assert (wrapper.name, dict(wrapper.binds)) == (name, binds)


def test_no_wrapper() -> None:
    """Evidence that comes as it is has none."""
    assert verified(SGX.quote()).wrapper is None
    assert unwrap(SGX.quote()) is None
    assert unwrap(GPU.evidence()) is None
    assert unwrap(certificate().public_bytes(Encoding.DER)) is None
    assert unwrap(b"{}") is None
    assert unwrap(b"\x0a\x01x") is None
    assert unwrap(b"\x12" + attestation(quote())[1:]) is None


def test_nvidia() -> None:
    """A list of NVIDIA's SDK with one device is the collection that we take, and its nonce is compared."""
    good = json.dumps([entry(GPU.report(), GPU.chain(), NONCE)]).encode()
    wrapper = GPU.verify(good).wrapper
    assert wrapper is not None
    assert dict(wrapper.binds) == {"nonce": NONCE}
    with pytest.raises(AuthenticityError) as caught:
        GPU.verify(json.dumps([entry(GPU.report(), GPU.chain(), bytes(32))]).encode())
    assert caught.value.code == "nonce"


def _values() -> list[bytes]:
    return [tpm.VALUES[HashId.SHA256][index] for index in range(24)]


def test_coco_azure() -> None:
    """An Azure machine's evidence is what its parts are: a quote of another key is refused."""
    forge = AzureForge()
    good = forge.tpm()
    for report, more in ((forge.snp(), {"vcek": b"vcek"}), (forge.tdx(), {"td_quote": forge.td_quote()})):
        for signature, error in ((good["tpm_signature"], None), (bytes(256), "sig_tpm")):
            quoted = coco_parts.texts(good["tpm_quote"], signature, _values())
            members = {"hcl_report": report, **more}
            told = {name: base64.urlsafe_b64encode(data).decode() for name, data in members.items()}
            data = json.dumps({"version": 1, "tpm_quote": quoted, **told}).encode()
            if error is None:
                claims = forge.verify(data)
                assert claims.wrapper is not None
                assert claims.wrapper.name == "CoCo Azure evidence"
                assert claims.nonce == b"nonce"
                continue
            with pytest.raises(AuthenticityError) as caught:
                forge.verify(data)
            assert caught.value.code == error


def test_coco_tpm() -> None:
    """A TPM's evidence is verified under a key that the relying party names, and not the one next to it."""
    key = tpm.Tpm(tpm.rsa_key())
    parts = {label: part.value for label, part in Collection.parse(key.evidence()).parts.items()}
    data = coco_parts.tpm(parts["tpm_quote"], parts["tpm_signature"], _values())
    claims = verify(data, anchors=key.named(), collateral=None, now=NOW).value
    assert claims.wrapper is not None
    assert (claims.wrapper.name, claims.nonce) == ("CoCo TPM evidence", b"nonce")
    with pytest.raises(AuthenticityError):
        verify(data, anchors=tpm.Tpm(tpm.rsa_key()).named(), collateral=None, now=NOW)


def test_coco_cca() -> None:
    """A CCA token in JSON is the token."""
    cca = CcaForge()
    claims = cca.verify(json.dumps({"token": list(cca.token())}).encode())
    assert claims.wrapper is not None
    assert claims.wrapper.name == "CoCo CCA evidence"


def test_coco_nvidia() -> None:
    """A list with one device is that device's evidence; the nonce is the report's own."""
    made = {name: value for name, value in entry(GPU.report(), GPU.chain()).items() if name != "nonce"}
    claims = GPU.verify(json.dumps({"device_evidence_list": [made]}).encode())
    assert claims.wrapper is not None
    assert (claims.wrapper.name, dict(claims.wrapper.binds)) == ("CoCo NVIDIA evidence", {})
    assert claims.nonce == NONCE


def test_snp_json() -> None:
    """A report that comes field by field is put together again."""
    report = samples.make(2)
    data = json.dumps({"attestation_report": as_json(report)}).encode()
    unwrapped = unwrap(data)
    assert unwrapped is not None
    assert (unwrapped.name, unwrapped.inner) == ("CoCo SEV-SNP evidence", report.encode())


def test_go_sev() -> None:
    """A report as go-sev-guest has it is put together again, and is the report."""
    report = samples.make(3).encode()
    for data in (gosev.binary(gosev.fields_of(report)), gosev.text(gosev.fields_of(report))):
        unwrapped = unwrap(data)
        assert unwrapped is not None
        assert (unwrapped.name, unwrapped.inner) == ("go-sev-guest attestation", report)


def test_go_tpm() -> None:
    """The quote of the strongest bank is used, with key and log; evidence with only SHA-1 is refused."""
    unwrapped = unwrap(attestation(quote(4), quote(0xB)))
    assert unwrapped is not None
    parts = Collection.parse(unwrapped.inner).parts
    assert list(parts) == ["tpm_quote", "tpm_signature", "pcrs", "tpm_public", "event_log"]
    assert json.loads(parts["pcrs"].value) == {"sha256": {"0": "00" * 32, "4": "04" * 32}}
    with pytest.raises(UnsupportedError):
        unwrap(attestation(quote(4)))


def test_go_tpm_without_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key and log are left out where the attestation has none."""
    parsed = dataclasses.replace(gotpm.parse(attestation(quote())), ak_public=b"", event_log=b"")
    monkeypatch.setattr(gotpm, "parse", lambda _: parsed)
    unwrapped = unwrap(attestation(quote()))
    assert unwrapped is not None
    assert list(Collection.parse(unwrapped.inner).parts) == ["tpm_quote", "tpm_signature", "pcrs"]


def test_go_tpm_with_a_report() -> None:
    """A report of a TEE that came along is not looked at, and that is said."""
    unwrapped = unwrap(attestation(quote(), more=b"\x42\x00"))
    assert unwrapped is not None
    assert unwrapped.name == "go-tpm-tools attestation, whose SEV-SNP report is not looked at"


REFUSED: dict[str, tuple[bytes, Forge, type[KluisError], str]] = {
    "evidence binds other claims": (
        oe.Evidence(oe.SGX_ECDSA, sgx_quote(b"claims"), b"others").encode(),
        SGX,
        AuthenticityError,
        "report_data",
    ),
    "claims that were changed, without a header": (
        sgx_quote(BARE_CLAIMS) + BARE_CLAIMS + b"\1",
        SGX,
        AuthenticityError,
        "report_data",
    ),
    "a local report": (
        oe.encode_report(SGX.quote()).replace(b"\2", b"\1", 1),
        SGX,
        UnsupportedError,
        "signer_kind_mismatch",
    ),
    "Gramine binds another key": (
        der_of(ratls.GRAMINE_OIDS[0], sgx_quote(b"other")),
        SGX,
        AuthenticityError,
        "key_binding",
    ),
    "Gramine binds a prefix": (
        der_of(ratls.GRAMINE_OIDS[0], SGX.quote(SGX.body(report_data=sha256(SPKI) + b"\1" + bytes(31)))),
        SGX,
        AuthenticityError,
        "key_binding",
    ),
    "tagged claims of another key": (
        der_of(
            ratls.DICE_OID,
            cbor.dumps(cbor.Tagged(60000, [b"", cbor.dumps({"pubkey-hash": cbor.dumps([1, bytes(32)])})])),
        ),
        SGX,
        AuthenticityError,
        "key_binding",
    ),
    "Open Enclave's claims of another key": (
        der_of(oe.EVIDENCE_OIDS[1], oe.Evidence(oe.SGX_ECDSA, sgx_quote(b"x"), b"x").encode()),
        SGX,
        AuthenticityError,
        "key_binding",
    ),
    "Open Enclave's report of another key": (
        der_of(oe.REPORT_OIDS[0], oe.encode_report(sgx_quote(b"x"))),
        SGX,
        AuthenticityError,
        "key_binding",
    ),
    "dstack binds another key": (
        der_of(dstack.QUOTE_OID, octets(TDX.quote())),
        TDX,
        AuthenticityError,
        "key_binding",
    ),
    "dstack's log of another run": (
        json.dumps({"quote": TDX.quote().hex(), "event_log": LOG.decode()}).encode(),
        TDX,
        AuthenticityError,
        "event_log",
    ),
    "dstack's log that was cut": (
        json.dumps({"quote": TDX.quote(TDX.td(**REGISTERS)).hex(), "event_log": "[]"}).encode(),
        TDX,
        AuthenticityError,
        "event_log",
    ),
    "dstack's other report data": (
        json.dumps(
            {
                "quote": TDX.quote(TDX.td(**REGISTERS)).hex(),
                "event_log": LOG.decode(),
                "report_data": "00",
            }
        ).encode(),
        TDX,
        AuthenticityError,
        "report_data",
    ),
    "a log beside evidence without registers": (
        json.dumps({"quote": SGX.quote().hex(), "event_log": LOG.decode()}).encode(),
        SGX,
        AuthenticityError,
        "event_log",
    ),
    "a wrapper in a wrapper": (oe.encode_report(oe.encode_report(SGX.quote())), SGX, KluisError, ""),
    "forged evidence within": (
        oe.encode_report(SGX.requote(signature=bytes(64))),
        SGX,
        AuthenticityError,
        "sig_quote",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """A wrapper whose evidence binds something else is refused, however genuine the evidence is."""
    data, forge, error, code = REFUSED[case]
    with pytest.raises(error) as caught:
        verified(data, forge)
    assert not code or caught.value.code == code


def _no_errors_but_ours(data: bytes) -> None:
    try:
        unwrap(data)
    except KluisError:
        return


@PROPERTY
@given(mutations(*(data for data, *_ in GOOD.values()), attestation(quote()), most=2))
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape."""
    _no_errors_but_ours(data)


def test_json_of_other_kinds() -> None:
    """Malformed wrappers are refused as what they are."""
    broken: list[Any] = [{"quote": 1}, {"quote": "", "event_log": 1}, {"attestation_report": 1}]
    for value in broken:
        with pytest.raises(FormatError):
            unwrap(json.dumps(value).encode())
