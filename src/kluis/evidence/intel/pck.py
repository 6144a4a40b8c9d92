"""Verify the PCK chain of a quote: roles, root, profile and signatures. Steps 4 to 6.

Spec: Intel "SGX PCK Certificate and CRL Profile Specification".
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kluis.errors import AuthenticityError
from kluis.evidence import chain
from kluis.evidence.anchors import Anchor
from kluis.evidence.context import Context
from kluis.formats import x509
from kluis.formats.sgx import extension
from kluis.formats.x509 import Certificate, KeyUsage, Scheme
from kluis.formats.x509.parts import BASIC_CONSTRAINTS
from kluis.frozen import frozen

LEAF: Final = ("SGX PCK Certificate",)
CA: Final = ("SGX PCK Platform CA", "SGX PCK Processor CA")
ROOT: Final = ("SGX Root CA",)
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
SCHEMES: Final = (Scheme.ES256,)


@frozen(eq=False)
class PckChain:
    """A quote's certificates by role, and the platform's description in the leaf."""

    leaf: Certificate
    ca: Certificate
    root: Certificate
    sgx: extension.SgxExtension


def parse(
    pem: bytes, what: str, context: Context, known: tuple[Certificate, ...] = ()
) -> tuple[Certificate, ...]:
    """Parse a PEM chain; a certificate known by its bytes is not parsed again.

    Args:
        pem: the chain.
        what: for messages.
        context: of the verifier, whose anchors have parsed certificates.
        known: further parsed certificates.

    Raises:
        FormatError: it contains something else, or more than 4 certificates.
    """
    # Most chains are known in their usual form, as a whole or except the leaf.
    text = pem.removesuffix(b"\0")
    text += b"" if text.endswith(b"\n") else b"\n"
    if whole := context.anchors.chain(text):
        return whole
    second = text.find(_BEGIN, 1)
    rest = context.anchors.chain(text[second:]) if second > 0 else None
    certificates = []
    for der in x509.split_pem(text[:second] if rest else pem, what):
        same = [each for each in known if each.der == der]
        certificates.append(same[0] if same else context.anchors.proven(der) or x509.parse(der, what))
    return (*certificates, *(rest or ()))


def check_time(pck_chain: PckChain, now: datetime) -> None:
    """Step 6, at ``now``: leaf, CA and root are in their validity periods.

    Raises:
        FreshnessError: a certificate is not.
    """
    chain.valid(pck_chain.leaf, "PCK certificate", now)
    chain.valid(pck_chain.ca, "PCK CA certificate", now)
    chain.valid(pck_chain.root, "root certificate", now)


def by_role(
    certificates: tuple[Certificate, ...], *roles: tuple[str, ...], what: str
) -> tuple[Certificate, ...]:
    """Return the certificates of ``certificates`` in the order of ``roles``, each exactly once.

    Args:
        certificates: in any order.
        roles: for each role, the strings that its common name may contain: one, or two.
        what: for messages.

    Raises:
        AuthenticityError: one is missing, extra, or without a role.
    """
    if len(certificates) != len(roles):
        raise AuthenticityError(
            f"{what}: want {len(roles)} certificates, got {len(certificates)}", code="chain_missing"
        )
    ordered = []
    for names in roles:
        one, other = names[0], names[-1]
        matching = [c for c in certificates if one in c.common_name or other in c.common_name]
        if len(matching) != 1:
            raise AuthenticityError(
                f"{what}: want 1 certificate named {' or '.join(names)}, got {len(matching)}",
                code="chain_missing",
            )
        ordered.append(matching[0])
    return tuple(ordered)


def match_root(root: Certificate, context: Context, what: str) -> Anchor:
    """Step 5: the anchor with the root certificate's key. Only the key is compared: the certificate's bytes
    prove nothing.

    Raises:
        AuthenticityError: no anchor has its key, or it does not sign itself.
    """
    anchor = chain.match_root(root, context, what)
    _ca_profile(root, what, lengths=(None, 1))
    _check_issued(root, root, anchor, what, context)
    return anchor


def check_ca(ca: Certificate, root: Certificate, anchor: Anchor, what: str, context: Context) -> None:
    """Step 6, for a CA under the root: profile, name and signature.

    Raises:
        AuthenticityError: one of them fails.
    """
    _ca_profile(ca, what, lengths=(0,))
    _check_issued(ca, root, anchor, what, context)


def check_leaf(leaf: Certificate, issuer: Certificate, anchor: Anchor, what: str, context: Context) -> None:
    """Step 6, for an end entity: profile, name and signature.

    Raises:
        AuthenticityError: one of them fails.
    """
    usage = _usage(leaf, what)
    if leaf.ca or usage.key_cert_sign or not usage.digital_signature:
        raise AuthenticityError(f"{what}: want an end entity that signs data", code="cert_profile")
    _check_issued(leaf, issuer, anchor, what, context)


def _usage(certificate: Certificate, what: str) -> KeyUsage:
    if certificate.usage is None or BASIC_CONSTRAINTS not in certificate.extensions:
        missing = "key usage" if certificate.usage is None else "basic constraints"
        raise AuthenticityError(f"{what}: has no {missing}", code="cert_profile")
    return certificate.usage


def _ca_profile(certificate: Certificate, what: str, lengths: tuple[int | None, ...]) -> None:
    usage = _usage(certificate, what)
    if not (certificate.ca and usage.key_cert_sign and usage.crl_sign):
        raise AuthenticityError(f"{what}: want a CA that signs certificates and CRLs", code="cert_profile")
    if certificate.path_length not in lengths:
        raise AuthenticityError(
            f"{what}: want path length {lengths[-1]}, got {certificate.path_length}", code="cert_profile"
        )


def _check_issued(
    certificate: Certificate, issuer: Certificate, anchor: Anchor, what: str, context: Context
) -> None:
    if not certificate.common_name.startswith(anchor.vendor):
        raise AuthenticityError(
            f"{what}: want a name that begins {anchor.vendor!a}, got {certificate.common_name!a}",
            code="cert_profile",
        )
    if issuer.spki == anchor.spki and anchor.proven.get(certificate.der) is certificate:
        return
    chain.check_issued(certificate, issuer, what, schemes=SCHEMES, context=context, code="pck_chain")
