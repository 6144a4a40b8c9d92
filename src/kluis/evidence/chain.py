"""Check the links of a vendor's certificate chain: root, issuer, time. Each vendor's package checks its own
profile.

Spec: RFC 5280, "Basic Path Validation", to the extent that vendors' chains need it.
"""

from __future__ import annotations

from datetime import datetime

from kluis.errors import AuthenticityError, FreshnessError
from kluis.evidence import signatures
from kluis.evidence.anchors import Anchor
from kluis.evidence.context import Context
from kluis.formats.encoding.brief import instant
from kluis.formats.x509 import Certificate, Crl, Scheme


def match_root(root: Certificate, context: Context, what: str) -> Anchor:
    """The anchor with the root certificate's key. Only the key is compared: the certificate's bytes prove
    nothing.

    Raises:
        AuthenticityError: no anchor has its key.
    """
    anchor = context.anchors.match(root.spki)
    if anchor is None:
        raise AuthenticityError(
            f"{what}: want root {' or '.join(a.name for a in context.anchors)}, got another key "
            f"named {root.common_name!a}",
            hint="trust its root by --root or kluis trust add; an emulated root is never trusted by default",
            code="root_untrusted",
        )
    return anchor


def check_root(
    root: Certificate, anchor: Anchor, what: str, *, schemes: tuple[Scheme, ...], context: Context
) -> None:
    """Check that a root signed itself: only then are its validity period and constraints trusted.

    If the relying party named a bare key, the chain may end with a certificate that another issuer signed;
    that signature cannot be checked here.

    Raises:
        AuthenticityError: it did not sign itself.
    """
    if root.issuer != root.subject and not anchor.vendor:
        return
    if anchor.proven.get(root.der) is not None and root.scheme in schemes:
        return  # seen when the anchor was loaded
    check_issued(root, root, f"{what}.root", schemes=schemes, context=context, code="cert_chain")


def check_issued(
    document: Certificate | Crl,
    issuer: Certificate,
    what: str,
    *,
    schemes: tuple[Scheme, ...],
    context: Context,
    code: str,
    name_code: str | None = None,
) -> None:
    """Check that ``issuer`` issued a certificate or CRL: its name, byte for byte, and its signature.

    Args:
        document: the certificate or CRL.
        issuer: with the key that must have signed it.
        what: for messages.
        schemes: that this vendor signs with.
        context: of the verifier.
        code: of the error.
        name_code: of the error if the name differs; ``code`` if None.

    Raises:
        AuthenticityError: it did not.
    """
    if document.issuer != issuer.subject:
        raise AuthenticityError(f"{what}: its issuer is not {issuer.common_name!a}", code=name_code or code)
    signatures.check(document, issuer.spki, what, schemes=schemes, context=context, code=code)


def not_revoked(certificate: Certificate, crl: Crl, what: str, *, code: str = "cert_revoked") -> None:
    """Refuse a certificate that ``crl``, its issuer's, lists.

    Raises:
        AuthenticityError: it is listed.
    """
    if crl.lists(certificate.serial):
        raise AuthenticityError(f"{what}: serial {certificate.serial:#x} is revoked", code=code)


def in_time(what: str, start: datetime, end: datetime, now: datetime, *, kind: str) -> None:
    """Refuse ``now`` outside ``start``..``end``.

    Args:
        what: for messages.
        start: the first moment.
        end: the last moment.
        now: aware.
        kind: prefix of the error code: ``<kind>_not_yet_valid`` or ``<kind>_expired``.

    Raises:
        FreshnessError: it is outside.
    """
    if now < start:
        raise FreshnessError(
            f"{what} is not valid before {instant(start)}, judged at {instant(now)}",
            code=f"{kind}_not_yet_valid",
        )
    if now > end:
        raise FreshnessError(
            f"{what} expired on {instant(end)}, judged at {instant(now)}",
            hint="fetch fresh collateral" if kind != "cert" else None,
            code=f"{kind}_expired",
        )


def valid(certificate: Certificate, what: str, now: datetime) -> None:
    """Refuse a certificate outside its validity period.

    Raises:
        FreshnessError: code ``cert_not_yet_valid`` or ``cert_expired``.
    """
    in_time(what, certificate.not_before, certificate.not_after, now, kind="cert")
