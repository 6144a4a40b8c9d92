"""Verify SGX quotes, versions 3, 4 and 5, and return their claims.

Spec: Intel "SGX ECDSA QuoteLibReference DCAP API", "Quote Verification"; the steps are numbered
once, here, and each has a forged case in the tests.
"""

from __future__ import annotations

from datetime import datetime
from typing import cast

from kluis.evidence.context import Context
from kluis.evidence.intel import claims, dcap, tcb
from kluis.evidence.intel.claims import IntelClaims
from kluis.evidence.intel.collateral import HeldCollateral
from kluis.evidence.intel.dcap import Proof
from kluis.evidence.intel.tcb import Judgement
from kluis.evidence.model import NO_REGISTERS, Claims, Platform, Tee
from kluis.evidence.verified import Verified, mint
from kluis.formats.sgx import quote as dcap_quote
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.sgx.quote import TEE_SGX
from kluis.formats.sgx.report import KSS, ReportBody
from kluis.frozen import frozen
from kluis.hashes import Digest

KIND = "SGX quote"


@frozen(kw_only=True)
class SgxClaims(IntelClaims):
    """The vendor-specific claims of an SGX quote and its PCK certificate.

    Attributes:
        attributes: flags in the low 64 bits, xfrm above.
        miscselect: 32 bits.
        cpusvn: 16 bytes, opaque; levels compare the PCK certificate's components instead.
        extended_product_id: ISVEXTPRODID, 16 bytes; None if key separation and sharing is off.
        configsvn: 0..65535; None if key separation and sharing is off.
    """

    attributes: int
    miscselect: int
    cpusvn: bytes
    extended_product_id: bytes | None
    configsvn: int | None


def matches(data: bytes) -> bool:
    """Whether ``data`` starts like a DCAP quote for SGX."""
    return dcap_quote.matches(data, TEE_SGX)


def verify(
    data: bytes, *, context: Context, collateral: Collateral | HeldCollateral | None, now: datetime
) -> Verified[Claims]:
    """Verify one SGX quote.

    1. It parses, and its quoting enclave's vendor is Intel.
    2. The quoting enclave's report binds the attestation key: its report data is the SHA-256 of key
       and authentication data, and 32 zero bytes.
    3. The attestation key is a point on P-256, and signed header and body.
    4. The quote, or else the collateral, has one PCK leaf, one PCK CA and one root.
    5. The root's key is one of the context's anchors, and that anchor is for SGX.
    6. Leaf, CA and root have their profile, names, signatures and time.
    7. The PCK leaf signed the quoting enclave's report.
    8. The collateral's CRLs are of that root and CA, signed, in time; CA, leaf and the signers of
       the collateral are on neither.
    9. TCB info and QE identity are signed, in time, of this kind of platform and quoting enclave.
    10. Platform and quoting enclave each reach a TCB level; judging it is appraisal's task.

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
    proof = dcap.prove(data, TEE_SGX, context=context, collateral=collateral, now=now)  # 1 to 9
    documents = proof.held
    judged = tcb.evaluate(
        documents.tcb_info, documents.identity, proof.chain.sgx, proof.quote.qe_report
    )  # 10
    return mint(_claims(proof, judged, now))


def _claims(proof: Proof, judged: Judgement, now: datetime) -> Claims:
    quote, sgx = proof.quote, proof.chain.sgx
    body = cast("ReportBody", quote.body)
    kss = bool(body.flags & KSS)
    return Claims(
        kind=quote.name,
        tee=Tee.SGX,
        level=proof.level(debug=body.debug),
        anchor=proof.anchor.name,
        debug=body.debug,
        measurement=Digest("sha256", body.mrenclave),
        signer=Digest("sha256", body.mrsigner),
        product_id=body.isvprodid,
        svn=body.isvsvn,
        config_id=body.configid if kss else None,
        family_id=body.isvfamilyid if kss else None,
        registers=NO_REGISTERS,
        report_data=body.report_data,
        nonce=None,
        tcb=judged.tcb,
        platform=Platform(id=sgx.ppid, product=sgx.fmspc.hex().upper()),
        collateral_issued=proof.held.issued,
        valid_until=proof.valid_until(),
        verified_at=now,
        vendor=SgxClaims(
            attributes=body.flags | body.xfrm << 64,
            miscselect=body.miscselect,
            cpusvn=body.cpusvn,
            extended_product_id=body.isvextprodid if kss else None,
            configsvn=body.configsvn if kss else None,
            **claims.facts(proof, judged),
        ),
    )
