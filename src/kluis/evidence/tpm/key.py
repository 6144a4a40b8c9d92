"""Verify attestation keys (AK): that a key is in a TPM, and signs only what that TPM made.

Spec: TCG "EK Credential Profile" and "TPM 2.0 Keys for Device Identity and Attestation", "AK
Certificates"; TCG "TPM 2.0 Library Part 2: Structures", "TPMA_OBJECT".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from kluis.errors import AuthenticityError, UnavailableError
from kluis.evidence import chain as links
from kluis.evidence.anchors import Anchor
from kluis.evidence.context import Context
from kluis.evidence.levels import ProtectionLevel
from kluis.formats import x509
from kluis.formats.tpm import public as public_area
from kluis.formats.tpm.endorsements import TpmEndorsements
from kluis.formats.tpm.extended_usage import AK_CERTIFICATE, EK_CERTIFICATE, parse_usages
from kluis.formats.tpm.public import Attribute, Public
from kluis.formats.x509 import Certificate, Crl, Scheme
from kluis.formats.x509.certificate import KeyUsage
from kluis.formats.x509.parts import EXTENDED_KEY_USAGE
from kluis.frozen import frozen

# RFC 5280, "Validity": the value for no well-defined end.
ENDLESS: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
# A quote is a TPM's statement, not a processor's.
LEVELS: Final = (ProtectionLevel.NONE, ProtectionLevel.VTPM)
_SCHEMES: Final = tuple(Scheme)
_REQUIRED: Final = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.RESTRICTED
    | Attribute.SIGN
)


class _Purpose(NamedTuple):
    """The purpose of a TPM certificate: the key's name, its usage, the purpose it may be mistaken for, its
    action.
    """

    name: str
    keys: str
    usage: str
    other: str
    does: str
    may: Callable[[KeyUsage], bool]


_ATTESTS: Final = _Purpose(
    "AK",
    "attestation keys",
    AK_CERTIFICATE,
    "an endorsement key's, which signs nothing",
    "signs data",
    lambda usage: usage.digital_signature,
)
_ENDORSES: Final = _Purpose(
    "EK",
    "endorsement keys",
    EK_CERTIFICATE,
    "an attestation key's, which opens nothing",
    "receives keys",
    lambda usage: usage.key_encipherment or usage.key_agreement,
)


@frozen(kw_only=True)
class TrustedKey:
    """An attestation key, or an endorsement key, that is trusted.

    Attributes:
        spki: DER of the SubjectPublicKeyInfo.
        anchor: that certifies it in the end.
        chain: certificates, the key's first; empty if the relying party named the key itself.
        crls: that were checked.
    """

    spki: bytes
    anchor: Anchor
    chain: tuple[Certificate, ...] = ()
    crls: tuple[Crl, ...] = ()

    @property
    def valid_until(self) -> datetime:
        """When the first of certificates and CRLs expires."""
        ends = [*(c.not_after for c in self.chain), *(crl.next_update for crl in self.crls)]
        return min(ends, default=ENDLESS)


def check_area(area: Public) -> None:
    """Refuse a public area whose key is not bound to its TPM, or can sign arbitrary data.

    An unrestricted key signs forged quotes as well as true ones.

    Raises:
        AuthenticityError: an attribute is missing, or there is one too many.
    """
    missing = _REQUIRED & ~area.attributes
    if missing or area.attributes & Attribute.DECRYPT:
        names = [flag.name or "" for flag in _REQUIRED if flag & missing]
        raise AuthenticityError(
            f"AK: want a restricted signing key of the TPM's own, got attributes {area.attributes:#x}"
            + (f" without {', '.join(names)}" if names else " that decrypt"),
            hint="make the key with tpm2 createak",
            code="ak_binding",
        )


def verify_ak(endorsements: TpmEndorsements, *, context: Context, now: datetime) -> TrustedKey:
    """Verify an AK certificate and return its key.

    1. Certificate and chain parse; each issuer is in the chain, by name, and there are no other certificates.
    2. An anchor has the last certificate's key, and is not a processor vendor's for a TEE.
    3. The AK certificate is an end entity's for attestation keys (2.23.133.8.3); its issuers are CAs.
    4. Each is signed by its issuer, and the root by itself.
    5. Each is valid at ``now``.
    6. Each CRL is from one of those issuers, which may sign one. It is signed and current, and lists none of
       them; each issuer has one.

    Raises:
        FormatError: a certificate or CRL is malformed.
        AuthenticityError: a step fails.
        FreshnessError: a certificate or CRL is expired or not yet valid.
        UnavailableError: an issuer is missing.
    """
    return _verify_chain(endorsements, _ATTESTS, context, now)  # 1 to 6


def verify_ek(endorsements: TpmEndorsements, *, context: Context, now: datetime) -> TrustedKey:
    """Verify an EK certificate and return its key, by the steps of :func:`verify_ak`.

    3. The certificate is an end entity's for endorsement keys (2.23.133.8.1), which receives keys.

    Args:
        endorsements: ``certificate`` is of the EK.
        context: of the verifier.
        now: aware.

    Raises:
        FormatError: a certificate or CRL is malformed.
        AuthenticityError: a step fails.
        FreshnessError: a certificate or CRL is expired or not yet valid.
        UnavailableError: the EK's certificate (``ek_missing``) or an issuer is missing.
    """
    if endorsements.certificate is None:
        raise UnavailableError(
            "EK certificate: want the TPM vendor's certificate, got no certificate",
            hint="tpm2_getekcertificate reads it from the TPM, or requests it from the vendor",
            code="ek_missing",
        )
    return _verify_chain(endorsements, _ENDORSES, context, now)  # 3: the others are of ``certified``


def _verify_chain(
    endorsements: TpmEndorsements, purpose: _Purpose, context: Context, now: datetime
) -> TrustedKey:
    what = f"{purpose.name} chain"
    chain, anchor = _link_chain(
        endorsements.certificate or b"", endorsements.chain, purpose, context
    )  # 1 to 4
    for certificate in chain:  # 5
        links.valid(certificate, _name(certificate, what), now)
    crls = tuple(_crl(der, chain, what, context, now) for der in endorsements.crls)  # 6
    if len({crl.issuer for crl in crls}) != len(crls):
        raise AuthenticityError(f"{what} CRL: two are of one issuer", code="crl_issuer")
    return TrustedKey(spki=chain[0].spki, anchor=anchor, chain=chain, crls=crls)


def check_anchor(root: Certificate, what: str, context: Context) -> Anchor:
    """The anchor of a chain's root, which must not be a processor vendor's for a TEE.

    Raises:
        AuthenticityError: it is one, or the root is not trusted.
    """
    anchor = links.match_root(root, context, what)
    if anchor.level.hardware:
        raise AuthenticityError(
            f"{what}: want a root for TPMs, got {anchor.name}, which is for {anchor.level}",
            code="root_untrusted",
        )
    return anchor


def check_time(key: TrustedKey, what: str, now: datetime) -> None:
    """Refuse expired and not yet valid certificates and CRLs.

    Raises:
        FreshnessError: a certificate or CRL is not valid now.
    """
    for certificate in key.chain:
        links.valid(certificate, _name(certificate, what), now)
    for crl in key.crls:
        links.in_time(f"{what} CRL", crl.this_update, crl.next_update, now, kind="crl")


def match_named(spki: bytes, context: Context) -> TrustedKey:
    """The key that the relying party named directly as an anchor, as a bare public key.

    Raises:
        AuthenticityError: it named other keys, or only keys of TEE hardware.
        UnavailableError: it named no key, and nothing else certifies it.
    """
    for anchor in named_keys(context):
        if anchor.spki == spki:
            return TrustedKey(spki=spki, anchor=anchor)
    raise AuthenticityError(
        "AK: want one of the keys that were named, got another",
        hint="name the AK itself as a root, or give its certificate as collateral",
        code="root_untrusted",
    )


def named_keys(context: Context) -> tuple[Anchor, ...]:
    """Anchors that are bare keys and not of TEE hardware: only these can themselves be attestation keys.

    Raises:
        AuthenticityError: all were stated to be of hardware, which no TPM's key is.
        UnavailableError: there are no such keys.
    """
    bare = tuple(anchor for anchor in context.anchors if not anchor.vendor)
    if not bare:
        raise UnavailableError(
            "AK: want a certificate, or a root that names the key, got neither",
            hint="give the AK's certificate and chain as collateral, or name the AK itself as a root",
            code="chain_missing",
        )
    anchors = tuple(anchor for anchor in bare if anchor.level in LEVELS)
    if not anchors:
        raise AuthenticityError(
            f"AK: want a key of {ProtectionLevel.VTPM}, got {bare[0].name} of {bare[0].level}",
            hint=f"state the level of a TPM's key: --root-level {ProtectionLevel.VTPM}",
            code="root_untrusted",
        )
    return anchors


def area_of(data: bytes) -> Public:
    """Parse a public area, bare or preceded by its size.

    Raises:
        FormatError: neither form.
    """
    sized = len(data) >= 2 and int.from_bytes(data[:2], "big") == len(data) - 2
    return public_area.parse_sized(data) if sized else public_area.parse(data)


def _link_chain(
    certificate: bytes, others: bytes, purpose: _Purpose, context: Context
) -> tuple[tuple[Certificate, ...], Anchor]:
    """The chain in order, and its anchor; cached by its exact bytes, because nothing here depends on time."""
    kind = f"{purpose.name} certificate"
    key = len(certificate).to_bytes(4, "big") + certificate + others
    linked: tuple[tuple[Certificate, ...], Anchor] | None = context.memory.get(kind, key)
    if linked is None:
        linked = _link(certificate, others, purpose, context)
        context.memory.put(kind, key, linked)
    return linked


def _link(
    certificate: bytes, others: bytes, purpose: _Purpose, context: Context
) -> tuple[tuple[Certificate, ...], Anchor]:
    what = f"{purpose.name} chain"
    pool = list(x509.parse_pem(others, what)) if others else []
    chain = _order_chain(_certificate(certificate, purpose), pool, what, context)  # 1
    anchor = check_anchor(chain[-1], what, context)  # 2
    _check_leaf(chain[0], purpose)  # 3
    _check_issuers(chain, what)  # 3
    if len(chain) > 1:  # 4; a leaf whose key was named as an anchor may have any issuer
        links.check_root(chain[-1], anchor, what, schemes=_SCHEMES, context=context)
    for child, issuer in itertools.pairwise(chain):
        links.check_issued(
            child, issuer, _name(child, what), schemes=_SCHEMES, context=context, code="cert_chain"
        )
    return chain, anchor


def _certificate(data: bytes, purpose: _Purpose) -> Certificate:
    what = f"{purpose.name} certificate"
    if data.startswith(b"-----BEGIN"):
        (data,) = x509.split_pem(data, what, most=1)
    return x509.parse(data, what)


def _order_chain(
    leaf: Certificate, pool: list[Certificate], what: str, context: Context
) -> tuple[Certificate, ...]:
    chain = [leaf]
    while pool:
        issuers = [c for c in pool if c.subject == chain[-1].issuer]
        if not issuers:
            break
        chain.append(issuers[0])
        pool.remove(issuers[0])
    if pool:
        raise AuthenticityError(
            f"{what}: {len(pool)} certificates issued none of the others", code="cert_chain"
        )
    if context.anchors.match(chain[-1].spki) is None and chain[-1].issuer != chain[-1].subject:
        raise UnavailableError(
            f"{what}: the issuer of {chain[-1].common_name!a} is missing",
            hint="give every issuer up to the root",
            code="chain_missing",
        )
    return tuple(chain)


def _check_leaf(leaf: Certificate, purpose: _Purpose) -> None:
    what = f"{purpose.name} certificate"
    stated = leaf.extensions.get(EXTENDED_KEY_USAGE)
    usages = () if stated is None else parse_usages(stated, what)
    if purpose.usage not in usages:
        got = purpose.other if usages else "another's"
        raise AuthenticityError(
            f"{what}: want one for {purpose.keys} ({purpose.usage}), got {got}", code="cert_profile"
        )
    if leaf.ca or (leaf.usage is not None and not purpose.may(leaf.usage)):
        raise AuthenticityError(f"{what}: want an end entity that {purpose.does}", code="cert_profile")


def _check_issuers(chain: tuple[Certificate, ...], what: str) -> None:
    for depth, certificate in enumerate(chain[1:]):
        length = certificate.path_length
        signs = certificate.usage is None or certificate.usage.key_cert_sign
        if not certificate.ca or not signs or (length is not None and length < depth):
            raise AuthenticityError(
                f"{_name(certificate, what)}: want a CA above {depth} others", code="cert_profile"
            )


def _crl(der: bytes, chain: tuple[Certificate, ...], what: str, context: Context, now: datetime) -> Crl:
    crl = x509.parse_crl(der, f"{what} CRL")
    for child, issuer in itertools.pairwise(chain):
        if crl.issuer == issuer.subject:
            if issuer.usage is not None and not issuer.usage.crl_sign:
                raise AuthenticityError(
                    f"{_name(issuer, what)}: want a CA that signs CRLs", code="cert_profile"
                )
            links.check_issued(crl, issuer, f"{what} CRL", schemes=_SCHEMES, context=context, code="crl_sig")
            links.in_time(f"{what} CRL", crl.this_update, crl.next_update, now, kind="crl")
            links.not_revoked(child, crl, _name(child, what))
            return crl
    raise AuthenticityError(f"{what} CRL: is of nobody in the chain", code="crl_issuer")


def _name(certificate: Certificate, what: str) -> str:
    return f"{what}: {certificate.common_name!a}"
