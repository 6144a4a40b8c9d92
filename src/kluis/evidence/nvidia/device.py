"""Verify the certificate chain of one device, from the key that signs reports to NVIDIA's root.

Spec: NVIDIA attestation SDK 2026-05, "device identity chain"; TCG DICE Attestation Architecture 1.1.
"""

from __future__ import annotations

import enum
import itertools
from datetime import datetime
from typing import Final

from kluis.errors import AuthenticityError, UnsupportedError
from kluis.evidence import chain as links
from kluis.evidence.anchors import Anchor
from kluis.evidence.context import Context
from kluis.evidence.levels import ProtectionLevel
from kluis.formats import x509
from kluis.formats.nvidia import dice, identity
from kluis.formats.nvidia.dice import Dice
from kluis.formats.nvidia.identity import Identity
from kluis.formats.x509 import Certificate, KeyKind, Scheme
from kluis.frozen import frozen

WHAT: Final = "NVIDIA certificate chain"
FEWEST: Final = 3
MOST: Final = 6
SCHEMES: Final = (Scheme.ES384,)
# Names of the certificates in messages.
_NAMES: Final = tuple(f"{WHAT}[{index}]" for index in range(MOST))
_MEMORY: Final = "nvidia chain"


class Device(enum.StrEnum):
    """The kind of device of a chain."""

    GPU = "gpu"
    SWITCH = "switch"


# By prefix of the product line's name: Grace Hopper, Grace Blackwell; the switches of NVLink.
_DEVICES: Final = {"GH": Device.GPU, "GB": Device.GPU, "LS": Device.SWITCH}


@frozen(kw_only=True)
class Chain:
    """A chain whose links are verified, but not its time.

    Attributes:
        certificates: the leaf first, the root last.
        anchor: with the root's key.
        device: the leaf's kind of device.
        identity: of the device.
        dice: measurements from before the leaf's key was made; None if the leaf has none.
        start: the latest start of validity.
        end: the earliest end of validity.
    """

    certificates: tuple[Certificate, ...]
    anchor: Anchor
    device: Device
    identity: Identity
    dice: Dice | None
    start: datetime
    end: datetime

    @property
    def leaf(self) -> Certificate:
        """The certificate of the key that signs reports."""
        return self.certificates[0]

    def check_time(self, now: datetime) -> None:
        """Refuse a certificate outside its validity period.

        Raises:
            FreshnessError: code ``cert_not_yet_valid`` or ``cert_expired``.
        """
        if not self.start <= now <= self.end:
            self._out_of_time(now)

    def _out_of_time(self, now: datetime) -> None:
        """Name the first certificate outside its validity period, and refuse it."""
        index = next(
            i for i, each in enumerate(self.certificates) if not each.not_before <= now <= each.not_after
        )
        links.valid(self.certificates[index], _NAMES[index], now)


def check(data: bytes, context: Context) -> Chain:
    """Check the links of a chain: profile, names, signatures, root. Once for the same bytes.

    Args:
        data: PEM, 3 to 6 certificates, the leaf first.
        context: of the verifier.

    Raises:
        FormatError: malformed.
        UnsupportedError: an unknown product line.
        AuthenticityError: a link fails, or the root is not trusted.
    """
    chain: Chain | None = context.memory.get(_MEMORY, data)
    if chain is None:
        chain = _check(x509.parse_pem(data, WHAT, MOST), context)
        context.memory.put(_MEMORY, data, chain)
    return chain


def _check(certificates: tuple[Certificate, ...], context: Context) -> Chain:
    if len(certificates) < FEWEST:
        raise AuthenticityError(
            f"{WHAT}: want {FEWEST} to {MOST} certificates, got {len(certificates)}", code="cert_profile"
        )
    anchor = links.match_root(certificates[-1], context, WHAT)
    if anchor.level not in (ProtectionLevel.HARDWARE_GPU, ProtectionLevel.NONE):
        raise AuthenticityError(
            f"{WHAT}: want a root for {ProtectionLevel.HARDWARE_GPU}, got {anchor.name} for {anchor.level}",
            code="root_untrusted",
        )
    for index, certificate in enumerate(certificates):
        _check_profile(certificate, index)
    links.check_root(certificates[-1], anchor, WHAT, schemes=SCHEMES, context=context)
    for index, (child, issuer) in enumerate(itertools.pairwise(certificates)):
        links.check_issued(child, issuer, _NAMES[index], schemes=SCHEMES, context=context, code="cert_chain")
    named = identity.read(certificates[0].extensions, _NAMES[0])
    device = _DEVICES.get(named.product[:2])
    if device is None:
        raise UnsupportedError(
            f"{_NAMES[0]}: want a product line that begins with {' or '.join(_DEVICES)}, got {named.product}",
            code="bad_version",
        )
    return Chain(
        certificates=certificates,
        anchor=anchor,
        device=device,
        identity=named,
        dice=dice.read(certificates[0].extensions, _NAMES[0]),
        start=max(certificate.not_before for certificate in certificates),
        end=min(certificate.not_after for certificate in certificates),
    )


def _check_profile(certificate: Certificate, index: int) -> None:
    usage = certificate.usage
    if index == 0:
        fits = not certificate.ca and usage is not None and usage.digital_signature
    else:
        below = certificate.path_length is None or index - 1 <= certificate.path_length
        fits = certificate.ca and usage is not None and usage.key_cert_sign and below
    if not fits or certificate.public_key.kind is not KeyKind.P384:
        wanted = "a CA's" if index else "one that signs reports"
        raise AuthenticityError(
            f"{_NAMES[index]}: want a P-384 key, {wanted}, got {certificate.common_name!a}'s",
            code="cert_profile",
        )
