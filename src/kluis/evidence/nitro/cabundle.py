"""Verify the certificates of a Nitro document: root, authorities, leaf. Steps 2 to 4.

Spec: AWS "Nitro Enclaves: Attestation Process", "Certificates validation", "Certificate bundle".
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kluis.errors import AuthenticityError
from kluis.evidence import chain as links
from kluis.evidence.anchors import Anchor, TrustAnchors
from kluis.evidence.context import Context
from kluis.evidence.levels import ProtectionLevel
from kluis.formats import x509
from kluis.formats.nitro.document import Document
from kluis.formats.x509 import Certificate, KeyKind, Scheme
from kluis.frozen import frozen

KIND: Final = "nitro cabundle"
SCHEMES: Final = (Scheme.ES384,)
LEVELS: Final = (ProtectionLevel.NONE, ProtectionLevel.HARDWARE_NITRO)
_LEAF: Final = "Nitro certificate"
_NAME_SIZE: Final = 32


@frozen(eq=False)
class Cabundle:
    """Certificates whose names, profile and signatures are verified, but not their time.

    Attributes:
        parts: the bytes of all, leaf first.
        anchors: that were trusted.
        anchor: the root's.
        leaf: whose key signs documents.
        authorities: root first.
        start: the latest start of validity.
        end: the earliest end of validity.
    """

    parts: tuple[bytes, ...]
    anchors: TrustAnchors
    anchor: Anchor
    leaf: Certificate
    authorities: tuple[Certificate, ...]
    start: datetime
    end: datetime

    def check_time(self, now: datetime) -> None:
        """Step 4: every certificate is in its validity period.

        Raises:
            FreshnessError: code ``cert_not_yet_valid`` or ``cert_expired``.
        """
        if self.start <= now <= self.end:
            return
        for index, certificate in enumerate(self.authorities):
            links.valid(certificate, _name(index), now)
        links.valid(self.leaf, _LEAF, now)


def verify(document: Document, context: Context) -> Cabundle:
    """Steps 2 and 3, once for the same certificates.

    Raises:
        FormatError: one is not a certificate.
        AuthenticityError: a step fails.
    """
    parts = (document.certificate, *document.cabundle)
    # Looked up by the end of the leaf's signature; then compared by the bytes of all certificates and the
    # anchors.
    name = document.certificate[-_NAME_SIZE:]
    cabundle: Cabundle | None = context.memory.get(KIND, name)
    if cabundle is None or cabundle.parts != parts or cabundle.anchors is not context.anchors:
        cabundle = _verify(document, context)
        context.memory.put(KIND, name, cabundle)
    return cabundle


def _verify(document: Document, context: Context) -> Cabundle:
    root = x509.parse(document.cabundle[0], _name(0))
    anchor = links.match_root(root, context, "Nitro cabundle")  # 2
    if anchor.level not in LEVELS:
        raise AuthenticityError(
            f"Nitro cabundle: want a root of {ProtectionLevel.HARDWARE_NITRO}, got {anchor.name} of "
            f"{anchor.level}",
            code="root_untrusted",
        )
    authorities = (root, *(x509.parse(der, _name(i)) for i, der in enumerate(document.cabundle[1:], 1)))
    leaf = x509.parse(document.certificate, _LEAF)
    last = len(authorities) - 1
    issuer = root
    for index, certificate in enumerate(authorities):  # 3
        _check_authority(certificate, _name(index), below=last - index)
        _check_issued(certificate, issuer, _name(index), context)
        issuer = certificate
    if leaf.ca or leaf.usage is None or not leaf.usage.digital_signature or leaf.usage.key_cert_sign:
        raise AuthenticityError(f"{_LEAF}: want an end entity that signs data", code="cert_profile")
    _check_issued(leaf, issuer, _LEAF, context)
    every = (*authorities, leaf)
    return Cabundle(
        (document.certificate, *document.cabundle),
        context.anchors,
        anchor,
        leaf,
        authorities,
        max(certificate.not_before for certificate in every),
        min(certificate.not_after for certificate in every),
    )


def _check_authority(certificate: Certificate, what: str, *, below: int) -> None:
    if not certificate.ca or certificate.usage is None or not certificate.usage.key_cert_sign:
        raise AuthenticityError(f"{what}: want a CA that signs certificates", code="cert_profile")
    if certificate.path_length is not None and certificate.path_length < below:
        raise AuthenticityError(
            f"{what}: want at most {certificate.path_length} authorities below it, got {below}",
            code="cert_profile",
        )


def _check_issued(certificate: Certificate, issuer: Certificate, what: str, context: Context) -> None:
    kind = certificate.public_key.kind
    if kind is not KeyKind.P384:
        raise AuthenticityError(f"{what}: want a key on P-384, got {kind.value}", code="cert_profile")
    links.check_issued(certificate, issuer, what, schemes=SCHEMES, context=context, code="cert_chain")


def _name(index: int) -> str:
    return f"Nitro cabundle[{index}]"
