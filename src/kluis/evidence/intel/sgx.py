"""SGX quotes, version 3: is this evidence authentic, and what does it say?

Spec: Intel "SGX ECDSA QuoteLibReference DCAP API", "Quote Verification"; the steps are numbered
once, here, and each has a forged case in the tests.
"""

from __future__ import annotations

from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from kluis.errors import AuthenticityError, UsageError
from kluis.evidence import signatures
from kluis.evidence.anchors import Anchor, TrustAnchors
from kluis.evidence.intel import collateral as holding
from kluis.evidence.intel import pck, tcb
from kluis.evidence.intel.collateral import HeldCollateral
from kluis.evidence.intel.pck import PckChain
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import Claims, Platform, Tcb
from kluis.evidence.verified import Verified, mint
from kluis.formats.sgx import quote as sgx_quote
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.sgx.quote import QE_VENDOR_INTEL, Quote
from kluis.formats.sgx.report import Flag
from kluis.hashes import Digest, sha256

KIND = "SGX quote v3"


def matches(data: bytes) -> bool:
    """Whether ``data`` looks like a DCAP quote for SGX: by version, and by TEE type from 4 on."""
    version, tee = int.from_bytes(data[:2], "little"), data[4:8]
    return len(data) >= sgx_quote.HEADER_SIZE and 1 <= version <= 5 and tee == bytes(4)


def verify(
    data: bytes, *, anchors: TrustAnchors, collateral: Collateral | HeldCollateral, now: datetime
) -> Verified[Claims]:
    """Verify one SGX quote.

    1. It parses, and its quoting enclave's vendor is Intel.
    2. The quoting enclave's report binds the attestation key: its report data is the SHA-256 of key
       and authentication data, and 32 zero bytes.
    3. The attestation key is a point on P-256, and signed header and body.
    4. The certification data are one PCK leaf, one PCK CA and one root.
    5. The root's key is one of ``anchors``.
    6. Leaf, CA and root have their profile, names, signatures and time.
    7. The collateral's CRLs are of that root and CA, signed, in time; CA, leaf and the signers of
       the collateral are on neither.
    8. The PCK leaf signed the quoting enclave's report.
    9. TCB info and QE identity are signed, in time, of this kind of platform and quoting enclave.
    10. The TCB level that both have reached is found; judging it is appraisal's work.

    Args:
        data: the quote; zero bytes may follow it.
        anchors: the roots that the relying party believes.
        collateral: as fetched, or verified before and held.
        now: aware.

    Raises:
        FormatError: the quote or the collateral is malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
        FreshnessError: a certificate, CRL or document is out of its time.
        UnavailableError: the quote does not carry its certificate chain.
    """
    if now.tzinfo is None:
        raise UsageError("now: want an aware time, got a naive one")
    quote = sgx_quote.parse(data)  # 1
    if quote.header.qe_vendor_id != QE_VENDOR_INTEL:
        raise AuthenticityError(
            f"{KIND}.qe_vendor_id: want {QE_VENDOR_INTEL.hex()}, got {quote.header.qe_vendor_id.hex()}",
            code="qe_vendor",
        )
    _check_binding(quote)  # 2
    _check_quote_signature(quote)  # 3
    held = _hold(collateral, anchors)
    chain = pck.read(quote, held=(held.pck_ca, held.root))  # 4
    anchor = held.anchor if chain.root is held.root else pck.match_root(chain.root, anchors, "PCK chain")  # 5
    if chain.ca is not held.pck_ca:
        pck.check_ca(chain.ca, chain.root, anchor, "PCK CA certificate")  # 6
    pck.check_leaf(chain.leaf, chain.ca, anchor, "PCK certificate")
    pck.check_time(chain.leaf, "PCK certificate", now)
    pck.check_time(chain.ca, "PCK CA certificate", now)
    pck.check_time(chain.root, "root certificate", now)
    _check_issuer(chain, anchor, held)  # 7
    held.check(now)  # 7 and 9
    holding.check_revoked(chain.leaf, held.pck_crl, "PCK certificate", code="cert_revoked")
    signatures.check_raw(  # 8
        quote.qe_signature,
        quote.qe_report_bytes,
        chain.leaf.key,
        "quoting enclave's report",
        code="sig_qe_report",
    )
    tcb.check_platform(held.tcb_info, chain.sgx)  # 9
    tcb.check_quoting_enclave(held.identity, quote.qe_report)
    judged = tcb.evaluate(held.tcb_info, held.identity, chain.sgx, quote.qe_report)  # 10
    return mint(_claims(quote, chain, anchor, held, judged, now))


def _hold(collateral: Collateral | HeldCollateral, anchors: TrustAnchors) -> HeldCollateral:
    if isinstance(collateral, Collateral):
        return holding.verify(collateral, anchors)
    if anchors.match(collateral.anchor.point) is None:
        raise AuthenticityError(
            f"collateral: want root {' or '.join(a.name for a in anchors)}, got {collateral.anchor.name}",
            code="root_untrusted",
        )
    return collateral


def _check_binding(quote: Quote) -> None:
    bound = sha256(quote.attestation_key + quote.auth_data) + bytes(32)
    if quote.qe_report.report_data != bound:
        raise AuthenticityError(
            "quoting enclave's report: does not bind this attestation key", code="ak_binding"
        )


def _check_quote_signature(quote: Quote) -> None:
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + quote.attestation_key)
    except ValueError:
        raise AuthenticityError(
            f"{KIND}.attestation_key: is not a point on P-256", code="sig_quote"
        ) from None
    signatures.check_raw(quote.signature, quote.signed, key, KIND, code="sig_quote")


def _check_issuer(chain: PckChain, anchor: Anchor, held: HeldCollateral) -> None:
    if anchor.point != held.anchor.point:
        raise AuthenticityError(
            f"collateral: want root {anchor.name}, got {held.anchor.name}", code="root_untrusted"
        )
    if (chain.ca.point, chain.ca.subject) != (held.pck_ca.point, held.pck_ca.subject):
        raise AuthenticityError(
            f"PCK CRL: want issuer {chain.ca.common_name!a}, got {held.pck_ca.common_name!a}",
            code="crl_issuer",
        )


def _claims(
    quote: Quote, chain: PckChain, anchor: Anchor, held: HeldCollateral, judged: Tcb, now: datetime
) -> Claims:
    body, sgx = quote.body, chain.sgx
    kss = bool(body.flags & Flag.KSS)
    return Claims(
        kind=KIND,
        level=ProtectionLevel.NONE if body.debug else anchor.level,
        anchor=anchor.name,
        debug=body.debug,
        measurement=Digest("sha256", body.mrenclave),
        signer=Digest("sha256", body.mrsigner),
        product_id=body.isvprodid,
        svn=body.isvsvn,
        config_id=body.configid if kss else None,
        family_id=body.isvfamilyid if kss else None,
        report_data=body.report_data,
        attributes=body.flags | body.xfrm << 64,
        tcb=judged,
        platform=Platform(
            id=sgx.ppid,
            instance=sgx.platform_instance_id,
            kind=sgx.fmspc,
            components=sgx.components,
            pcesvn=sgx.pcesvn,
            smt=sgx.configuration.smt_enabled if sgx.configuration else None,
        ),
        collateral_issued=held.issued,
        valid_until=min(held.end, chain.leaf.not_after, chain.ca.not_after, chain.root.not_after),
        verified_at=now,
    )
