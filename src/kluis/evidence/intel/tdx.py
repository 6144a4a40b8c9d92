"""Verify TDX quotes, versions 4 and 5, and return their claims.

Spec: Intel "TDX DCAP Quoting Library API"; Intel's quote verification library for the module and for
relaunch. The steps are numbered once, here, and each has a forged case in the tests.
"""

from __future__ import annotations

from datetime import datetime
from types import MappingProxyType
from typing import cast

from kluis.errors import AuthenticityError
from kluis.evidence.context import Context
from kluis.evidence.intel import claims, dcap, tcb
from kluis.evidence.intel.claims import IntelClaims
from kluis.evidence.intel.collateral import HeldCollateral
from kluis.evidence.intel.dcap import Proof
from kluis.evidence.intel.tcb import Judgement
from kluis.evidence.model import Claims, Platform, Tcb, TcbStatus, Tee
from kluis.evidence.verified import Verified, mint
from kluis.formats.sgx import quote as dcap_quote
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.sgx.quote import TEE_TDX
from kluis.formats.sgx.tcb_info import TcbInfo
from kluis.formats.tdx.report import Attribute, TdReport, TdReport15, TdReport15Ex
from kluis.frozen import frozen
from kluis.hashes import Digest

KIND = "TDX quote"
NO_MODULE_ATTRIBUTES = bytes(8)
# Plain numbers: a flag of an enum costs more than the rest of a claim.
_SEPT_VE_DISABLE = int(Attribute.SEPT_VE_DISABLE)
_MIGRATABLE = int(Attribute.MIGRATABLE)
_PKS = int(Attribute.PKS)
_KL = int(Attribute.KL)
_LASS = int(Attribute.LASS)
_PERFMON = int(Attribute.PERFMON)


@frozen(kw_only=True)
class Migration:
    """The fields that a report of TDX 1.5-Ex adds: the domain's name, its devices, and its origin.

    Attributes:
        vmid: 0..255.
        td_id: 32 bytes.
        dev_info: 48 bytes.
        init_servtd_hash: 48 bytes, of the service domain bound first.
        init_servtd_attributes: 64 bits.
        init_cpusvn: 16 bytes, of the platform of origin.
        init_tee_tcb_svn: 16 bytes, of the platform of origin.
        init_fmspc: 12 bytes, of the platform of origin.
        servtd_hash: 48 bytes, of the service domain bound now.
        servtd_attributes: 64 bits.
    """

    vmid: int
    td_id: bytes
    dev_info: bytes
    init_servtd_hash: bytes
    init_servtd_attributes: int
    init_cpusvn: bytes
    init_tee_tcb_svn: bytes
    init_fmspc: bytes
    servtd_hash: bytes
    servtd_attributes: int


@frozen(kw_only=True)
class TdxClaims(IntelClaims):
    """The vendor-specific claims of a TDX quote and its PCK certificate.

    Attributes:
        td_attributes: 64 bits, named in :class:`kluis.formats.tdx.report.Attribute`.
        sept_ve_disable: whether the domain stops if the host changes its private memory.
        migratable: whether it may be moved to another platform.
        pks: whether protection keys for supervisor pages are on.
        kl: whether key locker is on.
        lass: whether linear address space separation is on.
        perfmon: whether the domain has its own performance counters.
        xfam: 64 bits, extended features.
        tee_tcb_svn: 16 bytes, of the module at launch.
        mrseam: 48 bytes, the module's measurement at launch.
        mrsignerseam: 48 bytes, its signer; zero is Intel.
        seam_attributes: 64 bits.
        mrconfigid: 48 bytes, the host's choice.
        mrowner: 48 bytes, the host's choice.
        mrownerconfig: 48 bytes, the host's choice.
        tee_tcb_svn_2: 16 bytes, of the module that runs now; None before TDX 1.5.
        mrservicetd: 48 bytes, of the service domain bound to it, zero without one; None before TDX 1.5.
        module: the vendor's judgement of the module at launch; None for TDX 1.0.
        launch: of all parts, at launch.
        current: of all parts, now; None before TDX 1.5.
        migration: for TDX 1.5-Ex, else None.
    """

    td_attributes: int
    sept_ve_disable: bool
    migratable: bool
    pks: bool
    kl: bool
    lass: bool
    perfmon: bool
    xfam: int
    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seam_attributes: int
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    tee_tcb_svn_2: bytes | None
    mrservicetd: bytes | None
    module: TcbStatus | None
    launch: Tcb
    current: Tcb | None
    migration: Migration | None


def matches(data: bytes) -> bool:
    """Whether ``data`` starts like a DCAP quote for TDX."""
    return dcap_quote.matches(data, TEE_TDX)


def verify(
    data: bytes, *, context: Context, collateral: Collateral | HeldCollateral | None, now: datetime
) -> Verified[Claims]:
    """Verify one TDX quote.

    1. It parses, and its quoting enclave's vendor is Intel.
    2. The quoting enclave's report binds the attestation key: its report data is the SHA-256 of key
       and authentication data, and 32 zero bytes.
    3. The attestation key is a point on P-256, and signed header and body.
    4. The quote, or else the collateral, has one PCK leaf, one PCK CA and one root.
    5. The root's key is one of the context's anchors, and that anchor is for TDX.
    6. Leaf, CA and root have their profile, names, signatures and time.
    7. The PCK leaf signed the quoting enclave's report.
    8. The collateral's CRLs are of that root and CA, signed, in time; CA, leaf and the signers of
       the collateral are on neither.
    9. TCB info and QE identity are signed, in time, of TDX, this kind of platform and quoting enclave.
    10. The module's signer and attributes are those that the TCB info states for its major version.
    11. Platform, module and quoting enclave each reach a TCB level, at launch and, from TDX 1.5 on, now. The
        worse one counts; judging it is appraisal's task.

    Args:
        data: the quote; zero bytes may follow it.
        context: the trusted roots and the rest of the verifier's state.
        collateral: as fetched, or already verified.
        now: aware.

    Raises:
        FormatError: the quote or the collateral is malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
        FreshnessError: a certificate, CRL or document is expired or not yet valid.
        UnavailableError: no collateral is given, or there is no certificate chain, and the quote's own bytes
            contradict nothing.
    """
    proof = dcap.prove(data, TEE_TDX, context=context, collateral=collateral, now=now)  # 1 to 9
    body = cast("TdReport", proof.quote.body)
    _check_module(proof.held.tcb_info, body)  # 10
    launch, current = _judge(proof, body)  # 11
    return mint(_claims(proof, body, launch, current, now))


def _check_module(info: TcbInfo, body: TdReport) -> None:
    module = tcb.module_of(info, body.module_version)
    attributes = body.seam_attributes.to_bytes(8, "little")
    # The published mask is all ones, and no verifier applies it: attributes are zero, or refused.
    for name, want, got in (
        ("mrsignerseam", module.mrsigner, body.mrsignerseam),
        ("seam_attributes", module.attributes, attributes),
        ("seam_attributes", NO_MODULE_ATTRIBUTES, attributes),
    ):
        if want != got:
            raise AuthenticityError(
                f"TDX module.{name}: want {want.hex()}, got {got.hex()}", code="tdx_module"
            )


def _judge(proof: Proof, body: TdReport) -> tuple[Judgement, Judgement | None]:
    documents, sgx, qe = proof.held, proof.chain.sgx, proof.quote.qe_report
    launch = tcb.evaluate(documents.tcb_info, documents.identity, sgx, qe, body.tee_tcb_svn)
    if not isinstance(body, TdReport15):
        return launch, None
    if body.tee_tcb_svn_2 == body.tee_tcb_svn:
        # The module that launched it still runs.
        return launch, launch
    return launch, tcb.evaluate(documents.tcb_info, documents.identity, sgx, qe, body.tee_tcb_svn_2)


def _claims(
    proof: Proof, body: TdReport, launch: Judgement, current: Judgement | None, now: datetime
) -> Claims:
    sgx = proof.chain.sgx
    return Claims(
        kind=proof.quote.name,
        tee=Tee.TDX,
        level=proof.level(debug=body.debug),
        anchor=proof.anchor.name,
        debug=body.debug,
        measurement=Digest("sha384", body.mrtd),
        signer=None,
        product_id=None,
        svn=None,
        config_id=None,
        family_id=None,
        registers=MappingProxyType(
            {
                "rtmr0": Digest("sha384", body.rtmr0),
                "rtmr1": Digest("sha384", body.rtmr1),
                "rtmr2": Digest("sha384", body.rtmr2),
                "rtmr3": Digest("sha384", body.rtmr3),
            }
        ),
        report_data=body.report_data,
        nonce=None,
        tcb=launch.tcb if current in (None, launch) else tcb.of_both(launch.tcb, current.tcb),
        platform=Platform(id=sgx.ppid, product=sgx.fmspc.hex().upper()),
        collateral_issued=proof.held.issued,
        valid_until=proof.valid_until(),
        verified_at=now,
        vendor=_vendor(proof, body, launch, current),
    )


def _vendor(proof: Proof, body: TdReport, launch: Judgement, current: Judgement | None) -> TdxClaims:
    later = body if isinstance(body, TdReport15) else None
    bits = body.td_attributes
    return TdxClaims(
        td_attributes=bits,
        sept_ve_disable=bool(bits & _SEPT_VE_DISABLE),
        migratable=bool(bits & _MIGRATABLE),
        pks=bool(bits & _PKS),
        kl=bool(bits & _KL),
        lass=bool(bits & _LASS),
        perfmon=bool(bits & _PERFMON),
        xfam=body.xfam,
        tee_tcb_svn=body.tee_tcb_svn,
        mrseam=body.mrseam,
        mrsignerseam=body.mrsignerseam,
        seam_attributes=body.seam_attributes,
        mrconfigid=body.mrconfigid,
        mrowner=body.mrowner,
        mrownerconfig=body.mrownerconfig,
        tee_tcb_svn_2=later.tee_tcb_svn_2 if later else None,
        mrservicetd=later.mrservicetd if later else None,
        module=launch.module,
        launch=launch.tcb,
        current=current.tcb if current else None,
        migration=_migration(body) if isinstance(body, TdReport15Ex) else None,
        **claims.facts(proof, launch),
    )


def _migration(body: TdReport15Ex) -> Migration:
    return Migration(
        vmid=body.vmid,
        td_id=body.td_id,
        dev_info=body.dev_info,
        init_servtd_hash=body.init_servtd_hash,
        init_servtd_attributes=body.init_servtd_attr,
        init_cpusvn=body.init_cpusvn,
        init_tee_tcb_svn=body.init_tee_tcb_svn,
        init_fmspc=body.init_tee_fmspc,
        servtd_hash=body.cur_servtd_hash,
        servtd_attributes=body.cur_servtd_attr,
    )
