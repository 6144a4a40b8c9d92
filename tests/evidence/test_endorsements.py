"""Endorsements of every kind: one forged case for each step, and what a good one of each kind proves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import (
    AuthenticityError,
    FormatError,
    FreshnessError,
    KluisError,
    UnavailableError,
    UnsupportedError,
)
from kluis.evidence import Anchor, ProtectionLevel, Tee, TrustAnchors, endorsements
from kluis.evidence.context import Context
from kluis.evidence.endorsements import KINDS, Endorsed
from kluis.formats.kluis import runtime_data
from kluis.formats.kluis.endorsement import Endorsement
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from kluis.formats.snp import table
from kluis.hashes import sha256
from tests.evidence.azure.forge import AzureForge
from tests.evidence.forge import NOW
from tests.evidence.intel.forge import TdxForge
from tests.evidence.machine import MachineForge
from tests.evidence.nitro.forge import INSTANCE, PCRS
from tests.evidence.nitro.forge import Forge as NitroForge
from tests.evidence.tpm import forge as tpm

FORGE = MachineForge()
CONFIGURATION = FORGE.configuration()
DOCUMENT = CONFIGURATION.runtime_data()
BOUND = runtime_data.report_data(DOCUMENT)
HASH = sha256(DOCUMENT).hex()[:16]
AZURE = AzureForge()
TPM = tpm.Tpm(tpm.rsa_key(), nonce=sha256(DOCUMENT))
MAKER = tpm.Maker(NOW)
TDX = TdxForge("process")
NITRO = NitroForge(NOW)


def _document(user_data: bytes = BOUND) -> bytes:
    """A document of an instance's NitroTPM."""
    module = f"{INSTANCE}-tpm0000000000000000"
    return NITRO.document(pcrs=..., nitrotpm_pcrs=PCRS, module_id=module, user_data=user_data)


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def _at_vm(forge: TdxForge) -> TrustAnchors:
    """The root of emulated trust domains, as if it were of a machine's level."""
    (anchor,) = forge.anchors
    return TrustAnchors((dataclasses.replace(anchor, level=ProtectionLevel.VM),))


ANCHORS = (
    FORGE.anchors | AZURE.amd.anchors | _at_vm(TDX) | _at_vm(AZURE.intel) | MAKER.anchors | NITRO.anchors
)


def _quoted(nonce: bytes = sha256(DOCUMENT)) -> dict[str, bytes]:
    message = tpm.quote(tpm.VALUES, tpm.SELECTED, nonce=nonce).encode()
    parts = AZURE.tpm(tpm_quote=message)
    return {"quote": message, "signature": parts["tpm_signature"], "pcrs": parts["pcrs"]}


def _tpm_parts(nonce: bytes = sha256(DOCUMENT)) -> dict[str, bytes]:
    message = tpm.quote(tpm.VALUES, tpm.SELECTED, nonce=nonce).encode()
    signed = tpm.sign(TPM.key, message).encode()
    return {"quote": message, "signature": signed, "pcrs": tpm.pcrs.dumps(tpm.VALUES)}


def _good(kind: str) -> dict[str, bytes]:
    """The parts of a good endorsement."""
    match kind:
        case "snp":
            return FORGE.parts(DOCUMENT)
        case "tdx":
            quote = TDX.quote(TDX.td(report_data=BOUND))
            return {"quote": quote, "collateral": TDX.collateral().to_json()}
        case "azure-snp":
            chain = _pem(AZURE.amd.vek, AZURE.amd.ask, AZURE.amd.ark)
            return {"hcl": AZURE.snp(), "certificates": chain, **_quoted()}
        case "azure-tdx":
            collateral = AZURE.intel.collateral().to_json()
            return {"hcl": AZURE.tdx(), "td_quote": AZURE.td_quote(), "collateral": collateral, **_quoted()}
        case "nitro":
            return {"document": NITRO.document(user_data=BOUND)}
        case "nitro-tpm":
            return {"document": _document()}
        case _:
            ak = MAKER.ak(TPM.key)
            return {**_tpm_parts(), "certificates": _pem(ak, MAKER.ca, MAKER.root), "crl": MAKER.crl()}


def _verify(
    kind: str = "snp",
    *,
    without: tuple[str, ...] = (),
    runtime: bytes = DOCUMENT,
    anchors: TrustAnchors = ANCHORS,
    now: Any = NOW,
    **parts: bytes,
) -> Endorsed:
    whole = {**(_good(kind) if kind in KINDS else _good("snp")), **parts}
    held = {name: part for name, part in whole.items() if name not in without}
    data = Endorsement(kind=kind, runtime_data=runtime, parts=held).encode()
    return endorsements.verify(endorsements.read(data), context=Context(anchors), now=now)


def _over(document: bytes) -> Callable[[], object]:
    """An endorsement that binds this document, well signed."""
    return lambda: _verify(runtime=document, report=FORGE.report(document))


def _changed(**changes: Any) -> Callable[[], object]:
    good = {
        "purpose": Purpose.PLATFORM,
        "image_id": bytes(32),
        "nonce": b"",
        "payload": CONFIGURATION.encode(),
    }
    return _over(RuntimeData(**{**good, **changes}).encode())


Case = tuple[type[KluisError], str, str, Callable[[], object]]
STEPS: dict[str, Case] = {
    "1 not a document": (
        FormatError,
        "bad_encoding",
        "",
        lambda: endorsements.read(b"{}x"),
    ),
    "1 unknown kind": (
        UnsupportedError,
        "bad_type",
        "endorsement.kind: want one of snp, tdx, azure-snp, azure-tdx, nitro, nitro-tpm, tpm, got 'sgx'",
        lambda: _verify("sgx"),
    ),
    "1 a part that is missing": (
        FormatError,
        "bad_type",
        "endorsement.parts: snp needs report",
        lambda: _verify(without=("report",)),
    ),
    "1 parts of two TEEs": (
        FormatError,
        "bad_type",
        "endorsement.parts: snp has no quote",
        lambda: _verify(**{"quote": _good("tdx")["quote"]}),
    ),
    "1 a TPM next to a report": (
        FormatError,
        "bad_type",
        "endorsement.parts: tpm has no report",
        lambda: _verify("tpm", report=_good("snp")["report"]),
    ),
    "2 another root": (
        AuthenticityError,
        "root_untrusted",
        "",
        lambda: _verify(anchors=AZURE.amd.anchors),
    ),
    "2 two certificates": (
        FormatError,
        "bad_length",
        "endorsement: certificates: want 3, VCEK or VLEK, ASK and ARK, got 2",
        lambda: _verify(certificates=_pem(AZURE.amd.vek, AZURE.amd.ask)),
    ),
    "2 certificates that are none": (
        FormatError,
        "bad_encoding",
        "endorsement: certificates at 0x0: is not a PEM certificate",
        lambda: _verify(certificates=b"x"),
    ),
    "2 no certificates": (
        UnavailableError,
        "collateral_missing",
        "endorsement: SNP report v3: no VCEK certificate given",
        lambda: _verify(without=("certificates", "crl")),
    ),
    "2 no collateral of Intel's": (
        UnavailableError,
        "collateral_missing",
        "endorsement: TDX quote v4: no collateral given: TCB info, QE identity and CRLs",
        lambda: _verify("tdx", without=("collateral",)),
    ),
    "2 no collateral of Intel's on Azure": (
        UnavailableError,
        "collateral_missing",
        "endorsement: TDX quote v4: no collateral given: TCB info, QE identity and CRLs",
        lambda: _verify("azure-tdx", without=("collateral",)),
    ),
    "2 expired": (
        FreshnessError,
        "crl_expired",
        "endorsement: ARK CRL expired on 2027-06-01T11:55:00Z, judged at 2027-06-02T12:00:00Z",
        lambda: _verify(now=NOW + timedelta(days=366)),
    ),
    "2 not yet": (
        FreshnessError,
        "cert_not_yet_valid",
        "endorsement: ARK certificate is not valid before 2026-06-01T11:55:00Z, "
        "judged at 2026-05-31T12:00:00Z",
        lambda: _verify(now=NOW - timedelta(days=1)),
    ),
    "2 another certificate of the AK": (
        AuthenticityError,
        "sig_tpm",
        "",
        lambda: _verify("tpm", certificates=_pem(MAKER.ak(tpm.rsa_key()), MAKER.ca, MAKER.root)),
    ),
    "2 a report of another type": (
        UnavailableError,
        "collateral_missing",
        "",
        lambda: _verify("azure-snp", hcl=AZURE.tdx()),
    ),
    "2 a document of an enclave": (
        FormatError,
        "bad_type",
        "endorsement: document: want one of NitroTPM, got Nitro Enclaves",
        lambda: _verify("nitro-tpm", document=NITRO.document(user_data=BOUND)),
    ),
    "2 a document of a NitroTPM": (
        FormatError,
        "bad_type",
        "endorsement: document: want one of Nitro Enclaves, got NitroTPM",
        lambda: _verify("nitro", document=_document()),
    ),
    "2 endorsed collateral": (
        AuthenticityError,
        "endorsement_nested",
        "endorsement: collateral.endorsement: an endorsement is not itself endorsed",
        lambda: _verify("tdx", collateral=dataclasses.replace(TDX.collateral(), endorsement=b"{}").to_json()),
    ),
    "3 report data": (
        AuthenticityError,
        "endorsement_binding",
        f"endorsement: report: report data: want the hash of the runtime data, {HASH}.., got {'00' * 8}..",
        lambda: _verify(report=FORGE.processor.report(FORGE.launch, bytes(64))),
    ),
    "3 report data that end in something": (
        AuthenticityError,
        "endorsement_binding",
        f"endorsement: report: report data: want the hash of the runtime data, {HASH}.., got {HASH}..",
        lambda: _verify(report=FORGE.processor.report(FORGE.launch, BOUND[:63] + b"\1")),
    ),
    "3 a trust domain's report data": (
        AuthenticityError,
        "endorsement_binding",
        f"endorsement: quote: report data: want the hash of the runtime data, {HASH}.., got {'00' * 8}..",
        lambda: _verify("tdx", quote=TDX.quote(TDX.td(report_data=bytes(64)))),
    ),
    "3 a vTPM's nonce": (
        AuthenticityError,
        "endorsement_binding",
        f"endorsement: quote: nonce: want the hash of the runtime data, {HASH}.., got {'11' * 8}..",
        lambda: _verify("azure-snp", **_quoted(b"\x11" * 32)),
    ),
    "3 a vTPM's nonce under TDX": (
        AuthenticityError,
        "endorsement_binding",
        f"endorsement: quote: nonce: want the hash of the runtime data, {HASH}.., got {HASH}..",
        lambda: _verify("azure-tdx", **_quoted(BOUND)),
    ),
    "3 a TPM's nonce": (
        AuthenticityError,
        "endorsement_binding",
        f"endorsement: quote: nonce: want the hash of the runtime data, {HASH}.., got none",
        lambda: _verify("tpm", **_tpm_parts(b"")),
    ),
    "3 a document's user data": (
        AuthenticityError,
        "endorsement_binding",
        f"endorsement: document: user data: want the hash of the runtime data, {HASH}.., got {'00' * 8}..",
        lambda: _verify("nitro-tpm", document=_document(bytes(64))),
    ),
    "3 an enclave's user data": (
        AuthenticityError,
        "endorsement_binding",
        f"endorsement: document: user data: want the hash of the runtime data, {HASH}.., got {'00' * 8}..",
        lambda: _verify("nitro", document=NITRO.document(user_data=bytes(64))),
    ),
    "4 the root of a platform": (
        AuthenticityError,
        "root_untrusted",
        "",
        lambda: _verify("tdx", anchors=TDX.anchors),
    ),
    "5 another purpose": (
        FormatError,
        "bad_type",
        "endorsement: runtime data.purpose: want platform, got app",
        _changed(purpose=Purpose.APP),
    ),
    "5 an image": (
        FormatError,
        "bad_type",
        "endorsement: runtime data: want no image id, no nonce and no key with purpose platform",
        _changed(image_id=b"\1" * 32),
    ),
    "5 a nonce": (
        FormatError,
        "bad_type",
        "endorsement: runtime data: want no image id, no nonce and no key with purpose platform",
        _changed(nonce=b"n"),
    ),
    "5 a key": (
        FormatError,
        "bad_type",
        "endorsement: runtime data: want no image id, no nonce and no key with purpose platform",
        _changed(keys=({"kty": "x"},)),
    ),
    "5 no configuration": (FormatError, "bad_encoding", "", _changed(payload=b"{ }")),
}


@pytest.mark.parametrize("name", STEPS)
def test_step(name: str) -> None:
    """An endorsement in which only this step fails is refused, by this step."""
    error, code, message, make = STEPS[name]
    with pytest.raises(error) as caught:
        make()
    assert caught.value.code == code
    if message:
        assert caught.value.message == message
    assert type(caught.value) is error


def test_every_step_has_a_case() -> None:
    """No step is without a forged case."""
    assert {int(name.split()[0]) for name in STEPS} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("kind", "tee", "level"),
    [
        ("snp", Tee.SNP, ProtectionLevel.VM),
        ("tdx", Tee.TDX, ProtectionLevel.VM),
        ("azure-snp", Tee.AZURE, ProtectionLevel.HARDWARE_SNP),
        ("azure-tdx", Tee.AZURE, ProtectionLevel.VM),
        ("nitro", Tee.NITRO, ProtectionLevel.HARDWARE_NITRO),
        ("nitro-tpm", Tee.NITRO, ProtectionLevel.VTPM),
        ("tpm", Tee.TPM, ProtectionLevel.VTPM),
    ],
)
def test_good_ones(kind: str, tee: Tee, level: ProtectionLevel) -> None:
    """Evidence of each kind proves the configuration, and has the level of its own anchor."""
    found = _verify(kind)
    assert (found.kind, found.configuration) == (kind, CONFIGURATION)
    assert (found.claims.tee, found.claims.level) == (tee, level)


def test_every_kind_has_a_good_case() -> None:
    """The kinds are those that are tested above."""
    assert set(KINDS) == {"snp", "tdx", "azure-snp", "azure-tdx", "nitro", "nitro-tpm", "tpm"}


def test_a_report_with_its_certificates() -> None:
    """A report may be followed by the host's certificate table, in place of the part."""
    vcek, ask, ark = (
        each.public_bytes(Encoding.DER)
        for each in x509.load_pem_x509_certificates(FORGE.processor.certificates())
    )
    held = table.build({table.VCEK: vcek, table.ASK: ask, table.ARK: ark}).encode()
    found = _verify(without=("certificates",), report=FORGE.report(DOCUMENT) + held)
    assert found.configuration == CONFIGURATION


def test_a_key_that_the_relying_party_names() -> None:
    """A TPM without a certificate needs its key among the anchors, and may bring its public area."""
    named = TPM.named()
    ak = tpm.area(TPM.key).encode()
    for parts in ({}, {"ak": ak}):
        found = _verify("tpm", without=("certificates", "crl"), anchors=named, **parts)
        assert found.claims.level is ProtectionLevel.VTPM
    with pytest.raises(UnavailableError):
        _verify("tpm", without=("certificates", "crl"))


def test_a_tpm_without_its_list() -> None:
    """Without a list, revocation is unknown, which the claims state."""
    with_list, without = _verify("tpm").claims, _verify("tpm", without=("crl",)).claims
    assert with_list.collateral_issued is not None
    assert without.collateral_issued is None


def test_large_certificates() -> None:
    """A part of a megabyte is refused before anything in it is read, and named."""
    with pytest.raises(FormatError) as caught:
        _verify(certificates=FORGE.processor.certificates() * 200)
    assert caught.value.code == "too_large"
    assert "its largest part is certificates" in caught.value.message
    with pytest.raises(FormatError) as raw:
        endorsements.read(b" " * (1 << 20))
    assert raw.value.message == "endorsement: is 1048576 bytes, must be at most 98304"


def test_a_named_key_is_no_tees() -> None:
    """A bare key at a TEE's level is not a TPM's."""
    anchor = Anchor(name="x", vendor="", spki=tpm.spki(TPM.key), level=ProtectionLevel.HARDWARE_SNP)
    with pytest.raises(KluisError):
        _verify("tpm", without=("certificates", "crl"), anchors=TrustAnchors((anchor,)))
