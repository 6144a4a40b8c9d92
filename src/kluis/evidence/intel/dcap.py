"""Verify what DCAP quotes of SGX and TDX have in common: steps 1 to 9 of either verification.

Spec: Intel "SGX ECDSA QuoteLibReference DCAP API", "Quote Verification".
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kluis.errors import AuthenticityError, FormatError, UnavailableError, UnsupportedError
from kluis.evidence import chain as links
from kluis.evidence import signatures
from kluis.evidence.anchors import Anchor
from kluis.evidence.context import Context
from kluis.evidence.engine import Key
from kluis.evidence.intel import collateral as holding
from kluis.evidence.intel import pck, tcb
from kluis.evidence.intel.collateral import HeldCollateral
from kluis.evidence.intel.pck import PckChain
from kluis.evidence.levels import ProtectionLevel
from kluis.formats.sgx import extension
from kluis.formats.sgx import quote as dcap_quote
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.sgx.quote import PCK_CHAIN, QE_VENDOR_INTEL, TEE_SGX, TEE_TDX, Quote
from kluis.formats.x509 import KeyKind, PublicKey, Scheme
from kluis.frozen import frozen
from kluis.hashes import sha256

# Intel's names for the TEE and its quoting enclave in documents.
NAMES: Final = {TEE_SGX: ("SGX", "QE"), TEE_TDX: ("TDX", "TD_QE")}
# What a root that is not emulated may certify; Intel's one root is for both SGX and TDX.
LEVELS: Final = {
    TEE_SGX: (ProtectionLevel.NONE, ProtectionLevel.HARDWARE_SGX),
    TEE_TDX: (ProtectionLevel.NONE, ProtectionLevel.HARDWARE_SGX, ProtectionLevel.HARDWARE_TDX),
}
_KIND: Final = "DCAP attestation key"
# The bytes before the coordinates in the SubjectPublicKeyInfo of a key on P-256.
_SPKI: Final = PublicKey.of_point(KeyKind.P256, b"\x04" + bytes(64)).spki[:-64]


@frozen(eq=False)
class Vouched:
    """An attestation key certified by a platform's quoting enclave.

    Its bytes prove it: the enclave's report binds the key, the PCK signed the report, and the chain leads to
    the anchor. Time, revocation and status are not included.
    """

    key: Key
    chain: PckChain
    anchor: Anchor


@frozen(eq=False)
class Proof:
    """The result of steps 1 to 9."""

    quote: Quote
    chain: PckChain
    anchor: Anchor
    held: HeldCollateral

    def valid_until(self) -> datetime:
        """When the first of certificates and collateral expires."""
        certificates = (self.chain.leaf, self.chain.ca, self.chain.root)
        return min(self.held.end, *(certificate.not_after for certificate in certificates))

    def level(self, *, debug: bool) -> ProtectionLevel:
        """The anchor's level; for Intel's root, the level of SGX or TDX; ``none`` for a debug enclave."""
        if debug:
            return ProtectionLevel.NONE
        if self.anchor.level is ProtectionLevel.HARDWARE_SGX and self.quote.header.tee_type == TEE_TDX:
            return ProtectionLevel.HARDWARE_TDX
        return self.anchor.level


def prove(
    data: bytes,
    tee_type: int,
    *,
    context: Context,
    collateral: Collateral | HeldCollateral | None,
    now: datetime,
) -> Proof:
    """Steps 1 to 9, numbered as in :func:`kluis.evidence.intel.sgx.verify` and its counterpart for TDX.

    Args:
        data: the quote.
        tee_type: from the header.
        context: of the verifier.
        collateral: as fetched, or already verified.
        now: aware.

    Raises:
        KluisError: as for those functions.
    """
    quote = dcap_quote.parse(data)  # 1
    _check_header(quote, tee_type)
    chain_pem = chain_of(quote, collateral)
    known = _recall(quote, chain_pem, context)
    key = _bound_key(quote, context) if known is None else known.key  # 2
    signatures.check_raw_by(
        key, quote.signature, quote.signed, Scheme.ES256, quote.name, code="sig_quote"
    )  # 3
    # A quote that its own bytes contradict is refused, even if other inputs are missing.
    documents = _hold(collateral, context) if collateral is not None else None
    vouched = known
    if known is not None or documents is not None or chain_pem:
        vouched = _vouch(
            quote, known, key, chain_pem, documents, tee_type, context=context, now=now
        )  # 4 to 7
    if vouched is None or documents is None:
        raise UnavailableError(
            f"{quote.name}: no collateral given: TCB info, QE identity and CRLs",
            hint="kluis collateral fetch QUOTE, or kluis platform collateral for an emulated platform",
            code="collateral_missing",
        )
    chain, anchor = vouched.chain, vouched.anchor
    _check_issuer(chain, anchor, documents)  # 8
    documents.check(now)  # 8 and 9
    # The quote's own certificate of that CA may differ from the collateral's.
    links.not_revoked(chain.ca, documents.root_crl, "PCK CA certificate")
    links.not_revoked(chain.leaf, documents.pck_crl, "PCK certificate", code="cert_revoked")
    tee, enclave = NAMES[tee_type]
    tcb.check_platform(documents.tcb_info, chain.sgx, tee)  # 9
    tcb.check_quoting_enclave(documents.identity, quote.qe_report, enclave)
    return Proof(quote, chain, anchor, documents)


def _recall(quote: Quote, chain_pem: bytes, context: Context) -> Vouched | None:
    """What steps 2 and 4 to 7 found before about the same bytes, if this verifier remembers any."""
    if not context.lasting:
        return None
    remembered: Vouched | None = context.memory.get(_KIND, _name(quote, chain_pem))
    return remembered


def _vouch(
    quote: Quote,
    known: Vouched | None,
    key: Key,
    chain_pem: bytes,
    documents: HeldCollateral | None,
    tee_type: int,
    *,
    context: Context,
    now: datetime,
) -> Vouched:
    """Steps 4 to 7. What the same bytes always prove is remembered; the anchor's level and time are not."""
    vouched = known
    if vouched is None:
        vouched = Vouched(key, *_prove_chain(chain_pem, quote, documents, context))  # 4 to 6
        _check_qe_signature(quote, vouched.chain, context)  # 7
        if context.lasting:
            context.memory.put(_KIND, _name(quote, chain_pem), vouched)
    _check_level(vouched.anchor, tee_type)  # of step 5
    pck.check_time(vouched.chain, now)  # of step 6
    return vouched


def _name(quote: Quote, chain_pem: bytes) -> bytes:
    """The cache key is everything that certifies the attestation key, including the chain."""
    if chain_pem == quote.certification_data:
        return sha256(quote.certified)
    return sha256(quote.certified + chain_pem)


def _check_header(quote: Quote, tee_type: int) -> None:
    if quote.header.tee_type != tee_type:
        raise UnsupportedError(f"{quote.name}: want a quote of {NAMES[tee_type][0]}", code="bad_type")
    if quote.header.qe_vendor_id != QE_VENDOR_INTEL:
        raise AuthenticityError(
            f"{quote.name}.qe_vendor_id: want {QE_VENDOR_INTEL.hex()}, got {quote.header.qe_vendor_id.hex()}",
            code="qe_vendor",
        )


def _bound_key(quote: Quote, context: Context) -> Key:
    """Step 2, and that the key is a point; cached only after its signature and certification are verified."""
    bound = sha256(quote.attestation_key + quote.auth_data) + bytes(32)
    if quote.qe_report.report_data != bound:
        raise AuthenticityError(
            "quoting enclave's report: does not bind this attestation key", code="ak_binding"
        )
    spki = _SPKI + quote.attestation_key
    try:
        return context.engine.key(spki, Scheme.ES256)
    except ValueError:
        raise AuthenticityError(
            f"{quote.name}.attestation_key: is not a point on P-256", code="sig_quote"
        ) from None


def _check_qe_signature(quote: Quote, chain: PckChain, context: Context) -> None:
    signatures.check_raw(
        quote.qe_signature,
        quote.qe_report_bytes,
        chain.leaf.spki,
        Scheme.ES256,
        "quoting enclave's report",
        context=context,
        code="sig_qe_report",
    )


def _hold(collateral: Collateral | HeldCollateral, context: Context) -> HeldCollateral:
    if isinstance(collateral, Collateral):
        return holding.recall(collateral, context)
    if context.anchors.match(collateral.anchor.spki) != collateral.anchor:
        raise AuthenticityError(
            f"collateral: want root {' or '.join(a.name for a in context.anchors)}, "
            f"got {collateral.anchor.name}",
            code="root_untrusted",
        )
    return collateral


def _check_level(anchor: Anchor, tee_type: int) -> None:
    if not anchor.emulated and anchor.level not in LEVELS[tee_type]:
        raise AuthenticityError(
            f"PCK chain: {anchor.name}, of {anchor.level}, is no root of {NAMES[tee_type][0]}",
            code="root_untrusted",
        )


def _check_issuer(chain: PckChain, anchor: Anchor, documents: HeldCollateral) -> None:
    if anchor.spki != documents.anchor.spki:
        raise AuthenticityError(
            f"collateral: want root {anchor.name}, got {documents.anchor.name}", code="root_untrusted"
        )
    if (chain.ca.spki, chain.ca.subject) != (documents.pck_ca.spki, documents.pck_ca.subject):
        raise AuthenticityError(
            f"PCK CRL: want issuer {chain.ca.common_name!a}, got {documents.pck_ca.common_name!a}",
            code="crl_issuer",
        )


def chain_of(quote: Quote, collateral: Collateral | HeldCollateral | None) -> bytes:
    """The PEM chain of the platform: the quote's own, or else the collateral's; empty if there is none."""
    own = quote.certification_data if quote.certification_type == PCK_CHAIN else b""
    return own or (collateral.pck_certificate_chain if collateral is not None else None) or b""


def _prove_chain(
    pem: bytes, quote: Quote, documents: HeldCollateral | None, context: Context
) -> tuple[PckChain, Anchor]:
    """Steps 4 to 6: one leaf, one CA and one root, in profile, each signed by the next, up to an anchor.

    Args:
        pem: from :func:`chain_of`.
        quote: for messages.
        documents: verified collateral, whose certificates are not verified again. None without collateral.
        context: of the verifier.

    Raises:
        UnavailableError: there is no chain.
        FormatError: it contains something else.
        AuthenticityError: a certificate is missing, extra, of an unknown role, or does not meet its profile.
    """
    if not pem:
        got = "no data" if quote.certification_type == PCK_CHAIN else quote.certification_type
        raise UnavailableError(
            f"quote.certification_type: want {PCK_CHAIN.value}, a PCK chain, got {got}",
            hint="give the platform's PCK chain as the collateral's pck_certificate_chain",
            code="chain_missing",
        )
    proven = (documents.pck_ca, documents.root) if documents is not None else ()
    chain = pck.parse(pem, "PCK chain", context, known=proven)
    leaf, ca, root = pck.by_role(chain, pck.LEAF, pck.CA, pck.ROOT, what="PCK chain")  # 4
    sgx = leaf.extensions.get(extension.OID)
    if sgx is None:
        raise FormatError("PCK certificate: has no SGX extension", code="cert_profile")
    anchor = (
        documents.anchor
        if documents and root is documents.root
        else pck.match_root(root, context, "PCK chain")
    )  # 5
    if not (
        documents
        and ca is documents.pck_ca
        and (root.spki, root.subject) == (documents.root.spki, documents.root.subject)
    ):
        pck.check_ca(ca, root, anchor, "PCK CA certificate", context)  # 6
    pck.check_leaf(leaf, ca, anchor, "PCK certificate", context)
    return PckChain(leaf, ca, root, extension.parse(sgx)), anchor
