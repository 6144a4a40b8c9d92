"""Verify AMD's certificate chains: ARK, ASK or ASVK, and the VCEK or VLEK that signs reports. Steps 3 to 8.

VCEKs and VLEKs have serial number 0 and neither basic constraints nor key usage, so general path validation
refuses them. The rules are therefore written out here. Emulated anchors follow the same rules, with names
that mark it as emulated.

Spec: AMD 57230, "VCEK Certificate and KDS Interface Specification", "Certificate Chain".
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Final

from kluis.errors import AuthenticityError, UnavailableError, UnsupportedError
from kluis.evidence import chain as links
from kluis.evidence.anchors import Anchor
from kluis.evidence.context import Context
from kluis.evidence.levels import ProtectionLevel
from kluis.formats import x509
from kluis.formats.snp import extensions
from kluis.formats.snp.endorsements import Endorsements
from kluis.formats.snp.extensions import TURIN_ID_SIZE, VCEK_ID_SIZE, VekExtensions
from kluis.formats.snp.flags import SigningKey
from kluis.formats.snp.tcb import Product, TcbVersion
from kluis.formats.x509 import Certificate, Crl, KeyKind, Scheme
from kluis.frozen import frozen

SCHEMES: Final = (Scheme.PS384,)
ROOT: Final = "ARK certificate"
CA: Final = {SigningKey.VCEK: "ASK certificate", SigningKey.VLEK: "ASVK certificate"}
LEAF: Final = {SigningKey.VCEK: "VCEK certificate", SigningKey.VLEK: "VLEK certificate"}
_LEVELS: Final = (ProtectionLevel.HARDWARE_SNP, ProtectionLevel.NONE)
_HELD_CRL: Final = "AMD CRL"
_HELD_VEK: Final = "AMD VEK"


@frozen(eq=False)
class Authority:
    """The issuer of endorsement keys for one product.

    Attributes:
        root: the ARK.
        ca: the ASK or ASVK.
        anchor: with the root's key.
        product: of both certificates.
        kind: of the keys that the CA issues: VCEKs or VLEKs.
        crl: the root's, or None if none was given.
    """

    root: Certificate
    ca: Certificate
    anchor: Anchor
    product: Product
    kind: SigningKey
    crl: Crl | None = None


@frozen(eq=False)
class Vek:
    """An endorsement key with a verified chain, except time and revocation.

    Attributes:
        certificate: the VCEK or VLEK.
        extensions: of the certificate.
        tcb: that the key was derived for.
        tcb_bytes: the same, 8 bytes in the product's layout.
        authority: the issuer.
    """

    certificate: Certificate
    extensions: VekExtensions
    tcb: TcbVersion
    tcb_bytes: bytes
    authority: Authority


def verify_authority(endorsements: Endorsements, *, context: Context, now: datetime) -> Authority:
    """Verify ARK and ASK or ASVK, and the CRL if there is one; no VCEK or VLEK is needed.

    Raises:
        UnavailableError: ARK or ASK is missing.
        FormatError: one is malformed.
        AuthenticityError: one is not AMD's, or is revoked.
        FreshnessError: one is expired or not yet valid.
    """
    ask, ark = _authority_bytes(endorsements)
    authority = _authority(ask, ark, context)
    check_time(authority, now)
    return dataclasses.replace(authority, crl=check_crl(endorsements.crl, authority, context, now))


def verify_vek(vek: bytes, endorsements: Endorsements, kind: SigningKey, context: Context) -> Vek:
    """Steps 3 to 6 without the report: verify a key of ``kind`` under an anchor. Cached by exact bytes.

    Args:
        vek: the VCEK's or VLEK's certificate.
        endorsements: only the ASK or ASVK and the ARK are used.
        kind: as stated in the report.
        context: of the verifier.

    Raises:
        UnavailableError: ARK or ASK is missing.
        FormatError: a certificate is malformed.
        AuthenticityError: a step fails.
    """
    ask, ark = _authority_bytes(endorsements)
    key = b"".join(len(part).to_bytes(4, "big") + part for part in (vek, ask, ark))
    verified: Vek | None = context.memory.get(_HELD_VEK, key)
    if verified is None or context.anchors.match(verified.authority.root.spki) != verified.authority.anchor:
        verified = _vek(vek, _authority(ask, ark, context), context)
        context.memory.put(_HELD_VEK, key, verified)
    if verified.authority.kind is not kind:  # 3
        raise AuthenticityError(
            f"SNP report: want a {kind.name}, which its signing key field names, got a"
            f" {verified.authority.kind.name}",
            code="signer_kind_mismatch",
        )
    return verified


def leaf_of(vek: bytes, kind: SigningKey) -> Certificate:
    """Parse a VCEK's or VLEK's certificate, without verifying its chain.

    Raises:
        FormatError: it is malformed.
        AuthenticityError: its key cannot sign reports.
    """
    leaf = _parse(vek, LEAF[kind])
    _check_key(leaf, LEAF[kind])
    return leaf


def check_time(authority: Authority, now: datetime, leaf: Certificate | None = None) -> None:
    """Step 7: every certificate is in its validity period.

    Raises:
        FreshnessError: a certificate is not.
    """
    links.valid(authority.root, ROOT, now)
    links.valid(authority.ca, CA[authority.kind], now)
    if leaf is not None:
        links.valid(leaf, LEAF[authority.kind], now)


def check_crl(data: bytes | None, authority: Authority, context: Context, now: datetime) -> Crl | None:
    """Step 8: the CRL is the root's and is current, and lists neither the CA nor the root.

    The leaf is not looked up: all leaves have serial number 0.

    Raises:
        FormatError: not a CRL.
        AuthenticityError: not the root's CRL, or it lists a certificate of the chain.
        FreshnessError: it is expired or not yet valid.
    """
    if data is None:
        return None
    what = "ARK CRL"
    key = len(authority.root.der).to_bytes(4, "big") + authority.root.der + data
    crl: Crl | None = context.memory.get(_HELD_CRL, key)
    if crl is None:
        crl = x509.parse_crl(data, what)
        links.check_issued(
            crl,
            authority.root,
            what,
            schemes=SCHEMES,
            context=context,
            code="crl_sig",
            name_code="crl_issuer",
        )
        context.memory.put(_HELD_CRL, key, crl)
    links.in_time(what, crl.this_update, crl.next_update, now, kind="crl")
    links.not_revoked(authority.ca, crl, CA[authority.kind], code="cert_revoked")
    links.not_revoked(authority.root, crl, ROOT, code="cert_revoked")
    return crl


def name_of(anchor: Anchor, name: str) -> str:
    """The common name for AMD's ``name`` under ``anchor``."""
    return f"{anchor.vendor} {name} (no hardware)" if anchor.emulated else name


def _authority_bytes(endorsements: Endorsements) -> tuple[bytes, bytes]:
    ask, ark = endorsements.ask, endorsements.ark
    if ask is None or ark is None:
        missing = " and ".join(n for n, part in (("ASK or ASVK", ask), ("ARK", ark)) if part is None)
        raise UnavailableError(
            f"SNP endorsements: {missing} missing",
            hint="https://kdsintf.amd.com/vcek/v1/PRODUCT/cert_chain, or vlek for a VLEK",
            code="chain_missing",
        )
    return ask, ark


def _authority(ask: bytes, ark: bytes, context: Context) -> Authority:
    root, ca = _parse(ark, ROOT), _parse(ask, "ASK certificate")
    anchor = links.match_root(root, context, "SNP endorsements")  # 4
    if not anchor.emulated and anchor.level not in _LEVELS:
        raise AuthenticityError(
            f"SNP endorsements: {anchor.name} is no root of SEV-SNP", code="root_untrusted"
        )
    product = _product(root, anchor)  # 6
    kind = _kind(ca, anchor, product)
    _check_ca(root, ROOT, lengths=(None, 1))  # 5
    if root.usage is None or not root.usage.crl_sign:
        raise AuthenticityError(f"{ROOT}: want a CA that signs CRLs", code="cert_profile")
    _check_issued(root, root, ROOT, context)
    _check_ca(ca, CA[kind], lengths=(0,))
    _check_issued(ca, root, CA[kind], context)
    return Authority(root, ca, anchor, product, kind)


def _product(root: Certificate, anchor: Anchor) -> Product:
    """The product of an anchor; an anchor without one leaves it to the root."""
    names = {name_of(anchor, f"ARK-{product}"): product for product in Product}
    named = names.get(root.common_name)
    if named is None or anchor.product not in ("", named):
        want = anchor.product or " or ".join(Product)
        raise AuthenticityError(
            f"{ROOT}: want {name_of(anchor, f'ARK-{want}')!a}, got {root.common_name!a}",
            code="product_mismatch",
        )
    return named


def _kind(ca: Certificate, anchor: Anchor, product: Product) -> SigningKey:
    names = {
        name_of(anchor, f"SEV-{product}"): SigningKey.VCEK,
        name_of(anchor, f"SEV-VLEK-{product}"): SigningKey.VLEK,
    }
    kind = names.get(ca.common_name)
    if kind is None:
        raise AuthenticityError(
            f"ASK certificate: want {' or '.join(map(ascii, names))}, got {ca.common_name!a}",
            code="product_mismatch",
        )
    return kind


def _vek(data: bytes, authority: Authority, context: Context) -> Vek:
    what = LEAF[authority.kind]
    leaf = _parse(data, what)
    want = name_of(authority.anchor, f"SEV-{authority.kind.name}")
    if leaf.common_name != want:  # 3
        raise AuthenticityError(
            f"{what}: want {want!a}, got {leaf.common_name!a}", code="signer_kind_mismatch"
        )
    if leaf.ca or (leaf.usage is not None and leaf.usage.key_cert_sign):  # 5
        raise AuthenticityError(f"{what}: want an end entity", code="cert_profile")
    _check_key(leaf, what)
    _check_issued(leaf, authority.ca, what, context)
    parsed = extensions.parse(leaf.extensions)
    _check_kind(parsed, authority, what)  # 3
    if _product_of(parsed) is not authority.product:  # 6
        raise AuthenticityError(
            f"{what}: want product {authority.product}, got {parsed.product_name!a}", code="product_mismatch"
        )
    tcb = parsed.tcb
    return Vek(leaf, parsed, tcb, tcb.encode(), authority)


def _check_key(leaf: Certificate, what: str) -> None:
    if leaf.public_key.kind is not KeyKind.P384:
        raise AuthenticityError(
            f"{what}: want a key on P-384, got {leaf.public_key.kind.value}", code="cert_profile"
        )


def _product_of(parsed: VekExtensions) -> Product | None:
    try:
        return parsed.product
    except UnsupportedError:
        return None


def _check_kind(parsed: VekExtensions, authority: Authority, what: str) -> None:
    """Check that a VCEK names a chip and no cloud, and a VLEK a cloud and no chip."""
    vcek = authority.kind is SigningKey.VCEK
    if (parsed.hw_id is not None, parsed.csp_id is not None) != (vcek, not vcek):
        raise AuthenticityError(
            f"{what}: want {'hwID and no cspID' if vcek else 'cspID and no hwID'}",
            code="signer_kind_mismatch",
        )
    size = TURIN_ID_SIZE if authority.product.has_fmc else VCEK_ID_SIZE
    if parsed.hw_id is not None and len(parsed.hw_id) != size:
        raise AuthenticityError(
            f"{what}: want an hwID of {size} bytes, got {len(parsed.hw_id)}", code="cert_profile"
        )


def _parse(data: bytes, what: str) -> Certificate:
    if data.startswith(b"-----BEGIN "):
        (data,) = x509.split_pem(data, what, most=1)
    return x509.parse(data, what)


def _check_ca(certificate: Certificate, what: str, lengths: tuple[int | None, ...]) -> None:
    usage = certificate.usage
    if not certificate.ca or usage is None or not usage.key_cert_sign:
        raise AuthenticityError(f"{what}: want a CA that signs certificates", code="cert_profile")
    if certificate.path_length not in lengths:
        raise AuthenticityError(
            f"{what}: want path length {lengths[-1]}, got {certificate.path_length}", code="cert_profile"
        )


def _check_issued(certificate: Certificate, issuer: Certificate, what: str, context: Context) -> None:
    links.check_issued(certificate, issuer, what, schemes=SCHEMES, context=context, code="cert_chain")
