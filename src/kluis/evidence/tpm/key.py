"""Attestation keys (AK): who says that a key is in a TPM, and signs only what that TPM made.

Spec: TCG "EK Credential Profile" and "TPM 2.0 Keys for Device Identity and Attestation", "AK
Certificates"; TCG "TPM 2.0 Library Part 2: Structures", "TPMA_OBJECT".
"""

from __future__ import annotations

import dataclasses
import itertools
from datetime import UTC, datetime
from typing import Final

from kluis.errors import AuthenticityError, UnavailableError
from kluis.evidence import chain as links
from kluis.evidence.anchors import Anchor
from kluis.evidence.context import Context
from kluis.evidence.levels import ProtectionLevel
from kluis.formats import x509
from kluis.formats.tpm import public as public_area
from kluis.formats.tpm.endorsements import TpmEndorsements
from kluis.formats.tpm.extended_usage import AK_CERTIFICATE, EK_CERTIFICATE, OID, parse_usages
from kluis.formats.tpm.public import Attribute, Public
from kluis.formats.x509 import Certificate, Crl, Scheme

WHAT: Final = "AK certificate"
# RFC 5280, "Validity": what has no well-defined end.
ENDLESS: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
# A quote is a TPM's word, and no processor's.
LEVELS: Final = (ProtectionLevel.NONE, ProtectionLevel.VTPM)
_SCHEMES: Final = tuple(Scheme)
_REQUIRED: Final = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.RESTRICTED
    | Attribute.SIGN
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """An attestation key that somebody vouches for.

    Attributes:
        spki: DER of the SubjectPublicKeyInfo.
        anchor: who vouches, in the end.
        chain: certificates, the AK's first; empty where the relying party named the AK itself.
        crls: that were checked.
    """

    spki: bytes
    anchor: Anchor
    chain: tuple[Certificate, ...] = ()
    crls: tuple[Crl, ...] = ()

    @property
    def valid_until(self) -> datetime:
        """When the first of certificates and CRLs runs out."""
        ends = [*(c.not_after for c in self.chain), *(crl.next_update for crl in self.crls)]
        return min(ends, default=ENDLESS)


def check_area(area: Public) -> None:
    """Refuse a public area whose key is not bound to its TPM, or may sign what anybody hands it.

    An unrestricted key signs a forged quote as well as a true one.

    Raises:
        AuthenticityError: an attribute is missing, or one too many is there.
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


def certified(endorsements: TpmEndorsements, *, context: Context, now: datetime) -> TrustedKey:
    """The key of an AK certificate.

    1. Certificate and chain parse; each issuer is in the chain, by its name, and no more than those.
    2. The last one's key is an anchor's, and no processor maker's for a TEE.
    3. The AK certificate is an end entity's for attestation keys (2.23.133.8.3); its issuers are CAs.
    4. Each is signed by its issuer.
    5. Each is in its time at ``now``.
    6. Each CRL is of one of those issuers, who may sign one, signed and in its time, and lists none of
       them; an issuer has one.

    Raises:
        FormatError: a certificate or CRL is malformed.
        AuthenticityError: a step fails.
        FreshnessError: a certificate or CRL is out of its time.
        UnavailableError: an issuer is missing.
    """
    chain, anchor = _linked(endorsements.certificate or b"", endorsements.chain, context)  # 1 to 4
    for certificate in chain:  # 5
        links.valid(certificate, _name(certificate), now)
    crls = tuple(_crl(der, chain, context, now) for der in endorsements.crls)  # 6
    if len({crl.issuer for crl in crls}) != len(crls):
        raise AuthenticityError("AK chain CRL: two are of one issuer", code="crl_issuer")
    return TrustedKey(spki=chain[0].spki, anchor=anchor, chain=chain, crls=crls)


def named(spki: bytes, context: Context) -> TrustedKey:
    """The key that the relying party named as an anchor itself, as a bare public key.

    Raises:
        AuthenticityError: it named others, or keys of a TEE's hardware alone.
        UnavailableError: it named none, and nobody else vouches.
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
    """Anchors that are bare keys, and of no TEE's hardware: they alone may be attestation keys themselves.

    Raises:
        AuthenticityError: the only ones were stated to be of hardware, which no TPM's key is.
        UnavailableError: there are none.
    """
    bare = tuple(anchor for anchor in context.anchors if not anchor.maker)
    if not bare:
        raise UnavailableError(
            "AK: nobody vouches for it: no certificate is given, and no key is named",
            hint="give the AK's certificate and chain as collateral, or name the AK itself as a root",
            code="chain_missing",
        )
    found = tuple(anchor for anchor in bare if anchor.level in LEVELS)
    if not found:
        raise AuthenticityError(
            f"AK: want a key of {ProtectionLevel.VTPM}, got {bare[0].name} of {bare[0].level}",
            hint=f"state the level of a TPM's key: --root-level {ProtectionLevel.VTPM}",
            code="root_untrusted",
        )
    return found


def area_of(data: bytes) -> Public:
    """Read a public area, bare or with its size before it.

    Raises:
        FormatError: neither.
    """
    sized = len(data) >= 2 and int.from_bytes(data[:2], "big") == len(data) - 2
    return public_area.parse_sized(data) if sized else public_area.parse(data)


def _linked(certificate: bytes, others: bytes, context: Context) -> tuple[tuple[Certificate, ...], Anchor]:
    """The chain in order, and its anchor; held by its exact bytes, for nothing here depends on time."""
    key = len(certificate).to_bytes(4, "big") + certificate + others
    held: tuple[tuple[Certificate, ...], Anchor] | None = context.memory.get(WHAT, key)
    if held is None:
        held = _link(certificate, others, context)
        context.memory.put(WHAT, key, held)
    return held


def _link(certificate: bytes, others: bytes, context: Context) -> tuple[tuple[Certificate, ...], Anchor]:
    pool = list(x509.parse_pem(others, "AK chain")) if others else []
    chain = _ordered(_certificate(certificate), pool, context)  # 1
    anchor = links.match_root(chain[-1], context, "AK chain")  # 2
    if anchor.level.hardware:
        raise AuthenticityError(
            f"AK chain: want a root for TPMs, got {anchor.name}, which is for {anchor.level}",
            code="root_untrusted",
        )
    _check_profiles(chain)  # 3
    for child, issuer in itertools.pairwise(chain):  # 4
        links.issued(child, issuer, _name(child), schemes=_SCHEMES, context=context, code="cert_chain")
    return chain, anchor


def _certificate(data: bytes) -> Certificate:
    if data.startswith(b"-----BEGIN"):
        (data,) = x509.split_pem(data, WHAT, most=1)
    return x509.parse(data, WHAT)


def _ordered(leaf: Certificate, pool: list[Certificate], context: Context) -> tuple[Certificate, ...]:
    chain = [leaf]
    while pool:
        issuers = [c for c in pool if c.subject == chain[-1].issuer]
        if not issuers:
            break
        chain.append(issuers[0])
        pool.remove(issuers[0])
    if pool:
        raise AuthenticityError(
            f"AK chain: {len(pool)} certificates issued none of the others", code="cert_chain"
        )
    if context.anchors.match(chain[-1].spki) is None and chain[-1].issuer != chain[-1].subject:
        raise UnavailableError(
            f"AK chain: the issuer of {chain[-1].common_name!a} is missing",
            hint="give every issuer up to the root",
            code="chain_missing",
        )
    return tuple(chain)


def _check_profiles(chain: tuple[Certificate, ...]) -> None:
    leaf = chain[0]
    usages = parse_usages(leaf.extensions.get(OID, b""), WHAT) if OID in leaf.extensions else ()
    if AK_CERTIFICATE not in usages:
        got = "an endorsement key's, which signs nothing" if EK_CERTIFICATE in usages else "another's"
        raise AuthenticityError(
            f"{WHAT}: want one for attestation keys ({AK_CERTIFICATE}), got {got}", code="cert_profile"
        )
    if leaf.ca or (leaf.usage is not None and not leaf.usage.digital_signature):
        raise AuthenticityError(f"{WHAT}: want an end entity that signs data", code="cert_profile")
    for depth, certificate in enumerate(chain[1:]):
        length = certificate.path_length
        signs = certificate.usage is None or certificate.usage.key_cert_sign
        if not certificate.ca or not signs or (length is not None and length < depth):
            raise AuthenticityError(
                f"{_name(certificate)}: want a CA above {depth} others", code="cert_profile"
            )


def _crl(der: bytes, chain: tuple[Certificate, ...], context: Context, now: datetime) -> Crl:
    crl = x509.parse_crl(der, "AK chain CRL")
    for child, issuer in itertools.pairwise(chain):
        if crl.issuer == issuer.subject:
            if issuer.usage is not None and not issuer.usage.crl_sign:
                raise AuthenticityError(f"{_name(issuer)}: want a CA that signs CRLs", code="cert_profile")
            links.issued(crl, issuer, "AK chain CRL", schemes=_SCHEMES, context=context, code="crl_sig")
            links.in_time("AK chain CRL", crl.this_update, crl.next_update, now, kind="crl")
            links.not_revoked(child, crl, _name(child))
            return crl
    raise AuthenticityError("AK chain CRL: is of nobody in the chain", code="crl_issuer")


def _name(certificate: Certificate) -> str:
    return f"AK chain: {certificate.common_name!a}"
