"""The numbered steps that SGX and TDX share, each with evidence in which only it fails."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from kluis.authority import documents, issuing
from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError, UnavailableError
from kluis.evidence import Collateral
from kluis.formats.sgx import quote as sgx_quote
from kluis.tee.platform.root import reports
from tests.evidence.forge import NOW, Forge, key, pem
from tests.evidence.intel.forge import TdxForge, as_tdx

OTHERS = {Forge: Forge(), TdxForge: TdxForge()}


class Case(NamedTuple):
    """What is forged, and what must be said of it."""

    make: Callable[[Forge], dict[str, object]]
    error: type[KluisError]
    code: str
    message: str


def _quote(make: Callable[[Forge], bytes]) -> Callable[[Forge], dict[str, object]]:
    return lambda forge: {"quote": make(forge)}


def _collateral(make: Callable[[Forge], Collateral]) -> Callable[[Forge], dict[str, object]]:
    return lambda forge: {"collateral": make(forge)}


CHAIN = "PCK chain"
CA = "PCK CA certificate"
LEAF = "PCK certificate"
UNSIGNED = "is not signed by the key it should be"

STEPS: dict[str, Case] = {
    "1 another vendor": Case(
        _quote(lambda f: f.with_header(qe_vendor_id=bytes(16))),
        AuthenticityError,
        "qe_vendor",
        f"{{quote}}.qe_vendor_id: want 939a7233f79c4ca9940a0db3957f0607, got {'00' * 16}",
    ),
    "2 other authentication data": Case(
        _quote(lambda f: f.requote(auth_data=bytes(32))),
        AuthenticityError,
        "ak_binding",
        "quoting enclave's report: does not bind this attestation key",
    ),
    "2 report data that ends in something": Case(
        _quote(
            lambda f: f.with_qe(report_data=sgx_quote.parse(f.quote()).qe_report.report_data[:63] + b"\x01")
        ),
        AuthenticityError,
        "ak_binding",
        "quoting enclave's report: does not bind this attestation key",
    ),
    "3 a key that is no point": Case(
        _quote(lambda f: f.with_attestation_key(bytes([1] * 64))),
        AuthenticityError,
        "sig_quote",
        "{quote}.attestation_key: is not a point on P-256",
    ),
    "3 a key of nobody's, bound": Case(
        _quote(lambda f: f.with_attestation_key(reports.point(key()))),
        AuthenticityError,
        "sig_quote",
        f"{{quote}}: {UNSIGNED}",
    ),
    "3 another body": Case(
        _quote(
            lambda f: f.requote(
                signed=sgx_quote.parse(f.quote()).signed[:-1] + b"\xff",
            )
        ),
        AuthenticityError,
        "sig_quote",
        f"{{quote}}: {UNSIGNED}",
    ),
    "3 a signature of zeros": Case(
        _quote(lambda f: f.requote(signature=bytes(64))),
        AuthenticityError,
        "sig_quote",
        f"{{quote}}: {UNSIGNED}",
    ),
    "4 an encrypted PPID instead of a chain": Case(
        _quote(lambda f: f.requote(certification_type=3)),
        UnavailableError,
        "chain_missing",
        "quote.certification_type: want 5, a PCK chain, got 3",
    ),
    "4 no root": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.ca)),
        AuthenticityError,
        "chain_missing",
        f"{CHAIN}: want 3 certificates, got 2",
    ),
    "4 two leaves": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.leaf(), f.ca)),
        AuthenticityError,
        "chain_missing",
        f"{CHAIN}: want 1 certificate named SGX PCK Certificate, got 2",
    ),
    "4 a leaf without the SGX extension": Case(
        _quote(lambda f: f.with_chain(f.leaf(sgx=None), f.ca, f.root)),
        FormatError,
        "cert_profile",
        f"{LEAF}: has no SGX extension",
    ),
    "5 a root of somebody's own, named as ours": Case(
        _quote(lambda f: OTHERS[type(f)].quote()),
        AuthenticityError,
        "root_untrusted",
        f"{CHAIN}: want root {{anchor}}, got another key named 'Kluis emulated SGX Root CA (no hardware)'",
    ),
    "5 collateral of somebody's own": Case(
        _collateral(lambda f: OTHERS[type(f)].collateral()),
        AuthenticityError,
        "root_untrusted",
        "PCK CRL issuer chain: want root {anchor}, got another key named "
        "'Kluis emulated SGX Root CA (no hardware)'",
    ),
    "5 a root certificate over the right key that it did not sign": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.ca, f.root_ca(issuer_key=key()))),
        AuthenticityError,
        "pck_chain",
        f"{CHAIN}: {UNSIGNED}",
    ),
    "5 a root that is no CA": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.ca, f.root_ca(path_length=None))),
        AuthenticityError,
        "cert_profile",
        f"{CHAIN}: want a CA that signs certificates and CRLs",
    ),
    "6 a CA with another path length": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.pck_ca(path_length=2), f.root)),
        AuthenticityError,
        "cert_profile",
        f"{CA}: want path length 0, got 2",
    ),
    "6 a CA of somebody's own": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.pck_ca(issuer_key=key()), f.root)),
        AuthenticityError,
        "pck_chain",
        f"{CA}: {UNSIGNED}",
    ),
    "6 a CA issued by another name": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.pck_ca(issuer=f.signer()), f.root)),
        AuthenticityError,
        "pck_chain",
        f"{CA}: its issuer is not 'Kluis emulated SGX Root CA (no hardware)'",
    ),
    "6 a CA that uses the maker's name": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.pck_ca(common_name="Intel SGX PCK Platform CA"), f.root)),
        AuthenticityError,
        "cert_profile",
        f"{CA}: want a name that begins 'Kluis emulated', got 'Intel SGX PCK Platform CA'",
    ),
    "6 a leaf that is a CA": Case(
        _quote(lambda f: f.with_chain(f.leaf(path_length=0), f.ca, f.root)),
        AuthenticityError,
        "cert_profile",
        f"{LEAF}: want an end entity that signs data",
    ),
    "6 a leaf of somebody's own": Case(
        _quote(lambda f: f.with_chain(f.leaf(issuer_key=key()), f.ca, f.root)),
        AuthenticityError,
        "pck_chain",
        f"{LEAF}: {UNSIGNED}",
    ),
    "6 a leaf that has run out": Case(
        _quote(lambda f: f.with_chain(f.leaf(now=NOW - timedelta(days=4000)), f.ca, f.root)),
        FreshnessError,
        "cert_expired",
        f"{LEAF} expired on 2025-06-16T11:55:00Z, judged at 2026-06-01T12:00:00Z",
    ),
    "6 a leaf from the future": Case(
        _quote(lambda f: f.with_chain(f.leaf(now=NOW + timedelta(days=1)), f.ca, f.root)),
        FreshnessError,
        "cert_not_yet_valid",
        f"{LEAF} is not valid before 2026-06-02T11:55:00Z, judged at 2026-06-01T12:00:00Z",
    ),
    "6 a CA that has run out": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.pck_ca(now=NOW - timedelta(days=4000)), f.root)),
        FreshnessError,
        "cert_expired",
        f"{CA} expired on 2025-06-16T11:55:00Z, judged at 2026-06-01T12:00:00Z",
    ),
    "6 a root that has run out": Case(
        _quote(lambda f: f.with_chain(f.leaf(), f.ca, f.root_ca(now=NOW - timedelta(days=4000)))),
        FreshnessError,
        "cert_expired",
        "root certificate expired on 2025-06-16T11:55:00Z, judged at 2026-06-01T12:00:00Z",
    ),
    "7 a quoting enclave's report that the PCK did not sign": Case(
        _quote(lambda f: f.requote(qe_signature=bytes(64))),
        AuthenticityError,
        "sig_qe_report",
        f"quoting enclave's report: {UNSIGNED}",
    ),
    "8 a leaf that is revoked": Case(
        lambda f: {"collateral": f.collateral(pck_crl=f.crl("platform_ca", 77)), "quote": _serial(f, 77)},
        AuthenticityError,
        "cert_revoked",
        f"{LEAF}: serial 0x4d is revoked",
    ),
    "8 a CA that is revoked": Case(
        _collateral(lambda f: f.collateral(root_ca_crl=f.crl("root", f.ca.serial_number))),
        AuthenticityError,
        "cert_revoked",
        f"{CA}: serial {{ca:#x}} is revoked",
    ),
    "8 a signer that is revoked": Case(
        _collateral(lambda f: f.collateral(root_ca_crl=f.crl("root", signer_serial(f)))),
        AuthenticityError,
        "signing_cert_revoked",
        "TCB signing certificate: serial {signer:#x} is revoked",
    ),
    "8 a PCK CRL that has run out": Case(
        _collateral(lambda f: f.collateral(pck_crl=f.crl("platform_ca", now=NOW - timedelta(days=31)))),
        FreshnessError,
        "crl_expired",
        "PCK CRL expired on 2026-05-31T11:55:00Z, judged at 2026-06-01T12:00:00Z",
    ),
    "8 a root CRL from the future": Case(
        _collateral(lambda f: f.collateral(root_ca_crl=f.crl("root", now=NOW + timedelta(days=1)))),
        FreshnessError,
        "crl_not_yet_valid",
        "root CA CRL is not valid before 2026-06-02T11:55:00Z, judged at 2026-06-01T12:00:00Z",
    ),
    "8 the CRL of another CA of the same root": Case(
        lambda f: _second_ca(f),
        AuthenticityError,
        "crl_issuer",
        "PCK CRL: want issuer 'Kluis emulated SGX PCK Platform CA (no hardware)', "
        "got 'Kluis emulated SGX PCK Processor CA (no hardware)'",
    ),
    "9 TCB info of another kind of platform": Case(
        _collateral(lambda f: f.with_tcb_info(lambda d: d.update(fmspc="00906ea10000"))),
        AuthenticityError,
        "tcb_info_mismatch",
        "TCB info.fmspc: want e0e0e0000000, got 00906ea10000",
    ),
    "9 TCB info of another PCE": Case(
        _collateral(lambda f: f.with_tcb_info(lambda d: d.update(pceId="0100"))),
        AuthenticityError,
        "tcb_info_mismatch",
        "TCB info.pceId: want 0000, got 0100",
    ),
    "9 TCB info of another TEE": Case(
        _collateral(lambda f: of_another_tee(f)),
        AuthenticityError,
        "tcb_info_mismatch",
        "TCB info.id: want {tee}, got {other}",
    ),
    "9 TCB info that has run out": Case(
        _collateral(lambda f: f.with_tcb_info(lambda d: d.update(nextUpdate="2026-05-01T00:00:00Z"))),
        FreshnessError,
        "tcb_info_expired",
        "TCB info expired on 2026-05-01T00:00:00Z, judged at 2026-06-01T12:00:00Z",
    ),
    "9 TCB info from the future": Case(
        _collateral(lambda f: f.with_tcb_info(lambda d: d.update(issueDate="2026-06-02T00:00:00Z"))),
        FreshnessError,
        "tcb_info_not_yet_valid",
        "TCB info is not valid before 2026-06-02T00:00:00Z, judged at 2026-06-01T12:00:00Z",
    ),
    "9 the identity of another enclave": Case(
        _collateral(lambda f: f.with_identity(lambda d: d.update(id="QVE"))),
        AuthenticityError,
        "qe_identity_mismatch",
        "QE identity.id: want {qe}, got QVE",
    ),
    "9 an identity that has run out": Case(
        _collateral(lambda f: f.with_identity(lambda d: d.update(nextUpdate="2026-05-01T00:00:00Z"))),
        FreshnessError,
        "qe_identity_expired",
        "QE identity expired on 2026-05-01T00:00:00Z, judged at 2026-06-01T12:00:00Z",
    ),
    "9 an enclave of another signer that quotes": Case(
        _quote(lambda f: f.with_qe(mrsigner=bytes(32))),
        AuthenticityError,
        "qe_identity_mismatch",
        f"QE identity.mrsigner: want {documents.QE_MRSIGNER.hex()}, got {'00' * 32}",
    ),
    "9 another product of the quoting enclave's signer": Case(
        _quote(lambda f: f.with_qe(isvprodid=2)),
        AuthenticityError,
        "qe_identity_mismatch",
        "QE identity.isvprodid: want 1, got 2",
    ),
    "9 a quoting enclave with extra state": Case(
        _quote(lambda f: f.with_qe(miscselect=1)),
        AuthenticityError,
        "qe_identity_mismatch",
        "QE identity.miscselect: want 0, got 1",
    ),
    "9 a debug quoting enclave": Case(
        _quote(lambda f: f.with_qe(flags=0x17)),
        AuthenticityError,
        "qe_identity_mismatch",
        "QE identity.attributes: want 0x11, got 0x13",
    ),
}


def of_another_tee(forge: Forge) -> Collateral:
    """Collateral whose TCB info is of the same platform, and of the other TEE."""
    if isinstance(forge, TdxForge):
        sgx = Forge.collateral(forge)
        return forge.collateral(tcb_info=sgx.tcb_info, tcb_info_signature=sgx.tcb_info_signature)
    return forge.with_tcb_info(as_tdx)


def said(case: Case, forge: Forge) -> str:
    """What must be said of a case of this forger's."""
    tdx = isinstance(forge, TdxForge)
    tee, other = ("TDX", "SGX") if tdx else ("SGX", "TDX")
    return case.message.format(
        anchor=next(iter(forge.anchors)).name,
        ca=forge.ca.serial_number,
        signer=signer_serial(forge),
        quote="TDX quote v4" if tdx else "SGX quote v3",
        qe="TD_QE" if tdx else "QE",
        tee=tee,
        other=other,
    )


def _serial(forge: Forge, serial: int) -> bytes:
    """A quote whose PCK certificate has this serial number."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    good = forge.leaf()
    builder = x509.CertificateBuilder(
        good.issuer,
        good.subject,
        good.public_key(),
        serial,
        good.not_valid_before_utc,
        good.not_valid_after_utc,
        list(good.extensions),
    )
    return forge.with_chain(builder.sign(forge.keys.platform_ca, SHA256()), forge.ca, forge.root)


def signer_serial(forge: Forge) -> int:
    return forge.held().signers[0].serial


def _second_ca(forge: Forge) -> dict[str, object]:
    own = key()
    ca = forge.pck_ca(
        common_name="Kluis emulated SGX PCK Processor CA (no hardware)", public_key=own.public_key()
    )
    crl = issuing.crl(ca, own, forge.now, life=timedelta(days=30), revoked=())
    return {"collateral": forge.collateral(pck_crl=crl, pck_crl_issuer_chain=pem(ca, forge.root))}
