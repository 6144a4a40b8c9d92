"""SGX quotes, version 3: is this evidence authentic, and what does it say?

Spec: Intel "SGX ECDSA QuoteLibReference DCAP API", "Quote Verification"; the steps are numbered
once, here, and each has a forged case in the tests.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime

from kluis.errors import AuthenticityError, UnavailableError
from kluis.evidence import chain as links
from kluis.evidence import signatures
from kluis.evidence.anchors import Anchor
from kluis.evidence.context import Context
from kluis.evidence.intel import collateral as holding
from kluis.evidence.intel import pck, tcb
from kluis.evidence.intel.collateral import HeldCollateral
from kluis.evidence.intel.pck import PckChain
from kluis.evidence.intel.tcb import Judgement
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import Claims, Platform, TcbStatus, Tee, VendorClaims
from kluis.evidence.verified import Verified, mint
from kluis.formats.sgx import quote as sgx_quote
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.sgx.quote import QE_VENDOR_INTEL, Quote
from kluis.formats.sgx.report import Flag
from kluis.formats.x509 import KeyKind, PublicKey, Scheme
from kluis.hashes import Digest, sha256

KIND = "SGX quote v3"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SgxClaims(VendorClaims):
    """What an SGX quote and its PCK certificate say beside the claims that all TEEs share.

    Attributes:
        attributes: flags, and above their 64 bits xfrm.
        platform: the maker's judgement of the platform alone.
        quoting_enclave: of the quoting enclave alone.
        instance: 16 bytes, the platform instance id, or None.
        fmspc: 6 bytes, the kind of platform.
        components: 16 component SVNs.
        pcesvn: 0..65535.
        smt: whether hyper-threading is on; None where the certificate does not say.
    """

    attributes: int
    platform: TcbStatus
    quoting_enclave: TcbStatus
    instance: bytes | None
    fmspc: bytes
    components: tuple[int, ...]
    pcesvn: int
    smt: bool | None


def matches(data: bytes) -> bool:
    """Whether ``data`` looks like a DCAP quote for SGX: by version, and by TEE type from 4 on."""
    version, tee = int.from_bytes(data[:2], "little"), data[4:8]
    return len(data) >= sgx_quote.HEADER_SIZE and 1 <= version <= 5 and tee == bytes(4)


def verify(
    data: bytes, *, context: Context, collateral: Collateral | HeldCollateral | None, now: datetime
) -> Verified[Claims]:
    """Verify one SGX quote.

    1. It parses, and its quoting enclave's vendor is Intel.
    2. The quoting enclave's report binds the attestation key: its report data is the SHA-256 of key
       and authentication data, and 32 zero bytes.
    3. The attestation key is a point on P-256, and signed header and body.
    4. The certification data are one PCK leaf, one PCK CA and one root.
    5. The root's key is one of the context's anchors.
    6. Leaf, CA and root have their profile, names, signatures and time.
    7. The collateral's CRLs are of that root and CA, signed, in time; CA, leaf and the signers of
       the collateral are on neither.
    8. The PCK leaf signed the quoting enclave's report.
    9. TCB info and QE identity are signed, in time, of this kind of platform and quoting enclave.
    10. The TCB level that both have reached is found; judging it is appraisal's work.

    Args:
        data: the quote; zero bytes may follow it.
        context: the roots that the relying party believes, and more.
        collateral: as fetched, or verified before and held.
        now: aware.

    Raises:
        FormatError: the quote or the collateral is malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
        FreshnessError: a certificate, CRL or document is out of its time.
        UnavailableError: no collateral is given, or the quote does not carry its certificate chain.
    """
    quote = sgx_quote.parse(data)  # 1
    if quote.header.qe_vendor_id != QE_VENDOR_INTEL:
        raise AuthenticityError(
            f"{KIND}.qe_vendor_id: want {QE_VENDOR_INTEL.hex()}, got {quote.header.qe_vendor_id.hex()}",
            code="qe_vendor",
        )
    _check_binding(quote)  # 2
    _check_quote_signature(quote, context)  # 3
    held = _hold(collateral, context)
    chain = pck.read(quote, held=(held.pck_ca, held.root))  # 4
    anchor = held.anchor if chain.root is held.root else pck.match_root(chain.root, context, "PCK chain")  # 5
    if chain.ca is not held.pck_ca:
        pck.check_ca(chain.ca, chain.root, anchor, "PCK CA certificate", context)  # 6
    pck.check_leaf(chain.leaf, chain.ca, anchor, "PCK certificate", context)
    links.valid(chain.leaf, "PCK certificate", now)
    links.valid(chain.ca, "PCK CA certificate", now)
    links.valid(chain.root, "root certificate", now)
    _check_issuer(chain, anchor, held)  # 7
    held.check(now)  # 7 and 9
    links.not_revoked(chain.leaf, held.pck_crl, "PCK certificate")
    signatures.check_raw(  # 8
        quote.qe_signature,
        quote.qe_report_bytes,
        chain.leaf.spki,
        Scheme.ES256,
        "quoting enclave's report",
        context=context,
        code="sig_qe_report",
    )
    tcb.check_platform(held.tcb_info, chain.sgx)  # 9
    tcb.check_quoting_enclave(held.identity, quote.qe_report)
    judged = tcb.evaluate(held.tcb_info, held.identity, chain.sgx, quote.qe_report)  # 10
    return mint(_claims(quote, chain, anchor, held, judged, now))


def _hold(collateral: Collateral | HeldCollateral | None, context: Context) -> HeldCollateral:
    if collateral is None:
        raise UnavailableError(
            f"{KIND}: no collateral given: TCB info, QE identity and CRLs",
            hint="kluis collateral fetch QUOTE, or kluis platform collateral for an emulated platform",
            code="collateral_missing",
        )
    if isinstance(collateral, Collateral):
        return holding.verify(collateral, context)
    if context.anchors.match(collateral.anchor.spki) is None:
        raise AuthenticityError(
            f"collateral: want root {' or '.join(a.name for a in context.anchors)}, "
            f"got {collateral.anchor.name}",
            code="root_untrusted",
        )
    return collateral


def _check_binding(quote: Quote) -> None:
    bound = sha256(quote.attestation_key + quote.auth_data) + bytes(32)
    if quote.qe_report.report_data != bound:
        raise AuthenticityError(
            "quoting enclave's report: does not bind this attestation key", code="ak_binding"
        )


def _check_quote_signature(quote: Quote, context: Context) -> None:
    spki = PublicKey.of_point(KeyKind.P256, b"\x04" + quote.attestation_key).spki
    context.key(spki, Scheme.ES256, f"{KIND}.attestation_key", code="sig_quote")
    signatures.check_raw(
        quote.signature, quote.signed, spki, Scheme.ES256, KIND, context=context, code="sig_quote"
    )


def _check_issuer(chain: PckChain, anchor: Anchor, held: HeldCollateral) -> None:
    if anchor.spki != held.anchor.spki:
        raise AuthenticityError(
            f"collateral: want root {anchor.name}, got {held.anchor.name}", code="root_untrusted"
        )
    if (chain.ca.spki, chain.ca.subject) != (held.pck_ca.spki, held.pck_ca.subject):
        raise AuthenticityError(
            f"PCK CRL: want issuer {chain.ca.common_name!a}, got {held.pck_ca.common_name!a}",
            code="crl_issuer",
        )


def _claims(
    quote: Quote, chain: PckChain, anchor: Anchor, held: HeldCollateral, judged: Judgement, now: datetime
) -> Claims:
    body, sgx = quote.body, chain.sgx
    kss = bool(body.flags & Flag.KSS)
    return Claims(
        kind=KIND,
        tee=Tee.SGX,
        level=ProtectionLevel.NONE if body.debug else anchor.level,
        anchor=anchor.name,
        debug=body.debug,
        measurement=Digest("sha256", body.mrenclave),
        signer=Digest("sha256", body.mrsigner),
        product_id=body.isvprodid,
        svn=body.isvsvn,
        config_id=body.configid if kss else None,
        family_id=body.isvfamilyid if kss else None,
        registers={},
        report_data=body.report_data,
        nonce=None,
        tcb=judged.tcb,
        platform=Platform(id=sgx.ppid, product=sgx.fmspc.hex().upper()),
        collateral_issued=held.issued,
        valid_until=min(held.end, chain.leaf.not_after, chain.ca.not_after, chain.root.not_after),
        verified_at=now,
        vendor=SgxClaims(
            attributes=body.flags | body.xfrm << 64,
            platform=judged.platform,
            quoting_enclave=judged.quoting_enclave,
            instance=sgx.platform_instance_id,
            fmspc=sgx.fmspc,
            components=sgx.components,
            pcesvn=sgx.pcesvn,
            smt=sgx.configuration.smt_enabled if sgx.configuration else None,
        ),
    )
