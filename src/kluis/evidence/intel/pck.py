"""The PCK chain of a quote: roles, root, profile and signatures. Steps 4 to 6.

Spec: Intel "SGX PCK Certificate and CRL Profile Specification".
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Final

from kluis.errors import AuthenticityError, FormatError, FreshnessError, UnavailableError
from kluis.evidence import signatures
from kluis.evidence.anchors import Anchor, TrustAnchors
from kluis.formats import x509
from kluis.formats.sgx import extension
from kluis.formats.sgx.quote import PCK_CHAIN, Quote
from kluis.formats.x509 import Certificate

LEAF: Final = ("SGX PCK Certificate",)
CA: Final = ("SGX PCK Platform CA", "SGX PCK Processor CA")
ROOT: Final = ("SGX Root CA",)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PckChain:
    """A quote's certificates by role, and what the leaf says of the platform."""

    leaf: Certificate
    ca: Certificate
    root: Certificate
    sgx: extension.SgxExtension


def read(quote: Quote, held: tuple[Certificate, ...] = ()) -> PckChain:
    """Step 4: find exactly one leaf, one CA and one root in the quote's certification data.

    Args:
        quote: its signatures are not looked at.
        held: certificates already parsed; the same bytes are not parsed again.

    Raises:
        UnavailableError: the quote does not carry its chain.
        FormatError: it carries something else.
        AuthenticityError: a certificate is missing, extra, or of no known role.
    """
    if quote.certification_type != PCK_CHAIN:
        raise UnavailableError(
            f"quote.certification_type: want {PCK_CHAIN}, a PCK chain, got {quote.certification_type}",
            hint="the platform must quote with its PCK certificate chain inside",
            code="chain_missing",
        )
    known = {certificate.der: certificate for certificate in held}
    chain = tuple(
        known.get(der) or x509.parse(der, "PCK chain")
        for der in x509.split_pem(quote.certification_data, "PCK chain")
    )
    leaf, ca, root = by_role(chain, LEAF, CA, ROOT, what="PCK chain")
    sgx = leaf.extensions.get(extension.OID)
    if sgx is None:
        raise FormatError("PCK certificate: has no SGX extension", code="cert_profile")
    return PckChain(leaf, ca, root, extension.parse(sgx))


def by_role(chain: tuple[Certificate, ...], *roles: tuple[str, ...], what: str) -> tuple[Certificate, ...]:
    """Give the certificates of ``chain`` in the order of ``roles``, each exactly once.

    Args:
        chain: in any order.
        roles: for each role, what its common name may contain.
        what: for messages.

    Raises:
        AuthenticityError: one is missing, extra, or of no role.
    """
    if len(chain) != len(roles):
        raise AuthenticityError(
            f"{what}: want {len(roles)} certificates, got {len(chain)}", code="chain_missing"
        )
    found = []
    for names in roles:
        matching = [c for c in chain if any(name in c.common_name for name in names)]
        if len(matching) != 1:
            raise AuthenticityError(
                f"{what}: want 1 certificate named {' or '.join(names)}, got {len(matching)}",
                code="chain_missing",
            )
        found.append(matching[0])
    return tuple(found)


def match_root(root: Certificate, anchors: TrustAnchors, what: str) -> Anchor:
    """Step 5: the anchor whose key the root certificate holds; the certificate's bytes prove nothing.

    Raises:
        AuthenticityError: its key is no anchor's, or it does not sign itself.
    """
    anchor = anchors.match(root.point)
    if anchor is None:
        raise AuthenticityError(
            f"{what}: want root {' or '.join(a.name for a in anchors)}, got another key "
            f"named {root.common_name!a}",
            hint="name the root you trust with --root; an emulated root is never trusted by default",
            code="root_untrusted",
        )
    _ca_profile(root, what, lengths=(None, 1))
    _issued(root, root, anchor, what)
    return anchor


def check_ca(ca: Certificate, root: Certificate, anchor: Anchor, what: str) -> None:
    """Step 6, of a CA under the root: profile, name and signature.

    Raises:
        AuthenticityError: one of them fails.
    """
    _ca_profile(ca, what, lengths=(0,))
    _issued(ca, root, anchor, what)


def check_leaf(leaf: Certificate, issuer: Certificate, anchor: Anchor, what: str) -> None:
    """Step 6, of an end entity: profile, name and signature.

    Raises:
        AuthenticityError: one of them fails.
    """
    if leaf.ca or leaf.signs_certificates or not leaf.signs_data:
        raise AuthenticityError(f"{what}: want an end entity that signs data", code="cert_profile")
    _issued(leaf, issuer, anchor, what)


def check_time(certificate: Certificate, what: str, now: datetime) -> None:
    """Step 6, at ``now``: the certificate is in its time.

    Raises:
        FreshnessError: not yet, or no longer.
    """
    in_time(what, certificate.not_before, certificate.not_after, now, kind="cert")


def in_time(what: str, start: datetime, end: datetime, now: datetime, *, kind: str) -> None:
    """Refuse ``now`` outside ``start``..``end``.

    Raises:
        FreshnessError: code ``<kind>_not_yet_valid`` or ``<kind>_expired``.
    """
    if now < start:
        raise FreshnessError(
            f"{what}: want a time from {_shown(start)}, got {_shown(now)}", code=f"{kind}_not_yet_valid"
        )
    if now > end:
        raise FreshnessError(
            f"{what}: want a time until {_shown(end)}, got {_shown(now)}",
            hint="fetch fresh collateral" if kind != "cert" else None,
            code=f"{kind}_expired",
        )


def _shown(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


def _ca_profile(certificate: Certificate, what: str, lengths: tuple[int | None, ...]) -> None:
    if not (certificate.ca and certificate.signs_certificates and certificate.signs_crls):
        raise AuthenticityError(f"{what}: want a CA that signs certificates and CRLs", code="cert_profile")
    if certificate.path_length not in lengths:
        raise AuthenticityError(
            f"{what}: want path length {lengths[-1]}, got {certificate.path_length}", code="cert_profile"
        )


def _issued(certificate: Certificate, issuer: Certificate, anchor: Anchor, what: str) -> None:
    if not certificate.common_name.startswith(anchor.maker):
        raise AuthenticityError(
            f"{what}: want a name that begins {anchor.maker!a}, got {certificate.common_name!a}",
            code="cert_profile",
        )
    if certificate.issuer != issuer.subject:
        raise AuthenticityError(f"{what}: its issuer is not {issuer.common_name!a}", code="pck_chain")
    signatures.check(certificate, issuer.key, what, code="pck_chain")
