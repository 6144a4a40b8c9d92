"""Credential activation: is this attestation key in the TPM whose endorsement key a maker certified?

A TPM's maker certifies the endorsement key (EK), which signs nothing. A secret that is sealed to the
EK and to the name of an attestation key (AK) comes out of the one TPM that holds both. Two messages: a
challenge goes there, its answer comes back. What the answer proves is a value, :class:`Activated`,
which :func:`kluis.evidence.verify` takes as what endorses a quote.

Spec: TCG "TPM 2.0 Library Part 1: Architecture", "Credential Protection"; TCG "EK Credential
Profile". The steps are numbered once, here, and each has a forged case in the tests.
"""

from __future__ import annotations

import dataclasses
import hmac
from datetime import datetime
from typing import Final

from kluis.errors import AuthenticityError, UsageError
from kluis.evidence.context import Context
from kluis.evidence.tpm import key as trust
from kluis.evidence.tpm.key import TrustedKey
from kluis.formats.tpm import credential, public
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.credential import Credential
from kluis.formats.tpm.endorsements import TpmEndorsements
from kluis.formats.tpm.public import Attribute, Public

FRESH_SIZE: Final = 96
_STRONG: Final = (HashId.SHA256, HashId.SHA384, HashId.SHA512)
_REQUIRED: Final = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.RESTRICTED
    | Attribute.DECRYPT
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Activated:
    """An AK that was found to be in the TPM of a certified EK. Only :meth:`Challenge.accept` makes one.

    Attributes:
        area: the AK's public area.
        ek: whom the maker certified, with chain and anchor.
    """

    area: Public
    ek: TrustedKey

    def key(self, context: Context, now: datetime) -> TrustedKey:
        """The AK, vouched for by the EK's maker.

        Raises:
            AuthenticityError: the maker is none of those that this verifier believes.
            FreshnessError: a certificate or CRL of the EK is out of its time at ``now``.
        """
        # What the root is worth, this verifier says, and not the one that made the challenge.
        anchor = trust.check_anchor(self.ek.chain[-1], "EK chain", context)
        trust.check_time(self.ek, "EK chain", now)
        return dataclasses.replace(self.ek, spki=self.area.spki, anchor=anchor)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What goes to the TPM, and what is kept to judge its answer.

    Attributes:
        credential: to send: ``tpm2_activatecredential`` takes its bytes.
    """

    credential: Credential
    _secret: bytes = dataclasses.field(repr=False)
    _activated: Activated = dataclasses.field(repr=False)

    def accept(self, answer: bytes, *, now: datetime) -> Activated:
        """Judge the answer.

        5. It is the secret, in full, compared in constant time.
        6. The EK's certificates and CRLs are still in their time at ``now``.

        Raises:
            AuthenticityError: it is not.
            FreshnessError: a certificate or CRL has run out since.
        """
        if not hmac.compare_digest(answer, self._secret):  # 5
            raise AuthenticityError(
                "TPM credential: want the secret, got another answer: the AK is not in the EK's TPM",
                hint="activate it with the AK of this very challenge: tpm2_activatecredential",
                code="credential",
            )
        trust.check_time(self._activated.ek, "EK chain", now)  # 6
        return self._activated


def challenge(
    endorsements: TpmEndorsements, ek: bytes, ak: bytes, *, context: Context, now: datetime, fresh: bytes
) -> Challenge:
    """Make a credential that the EK's TPM opens, if the AK is in it.

    1. The EK's certificate chains to an anchor (:func:`key.endorsed`).
    2. The EK's public area is of the certified key, and is that of a restricted storage key of the TPM's own.
    3. The AK's public area is that of a restricted signing key of the TPM's own.
    4. The AK's name is hashed with SHA-256 or better, so that no other area has it.

    Args:
        endorsements: ``certificate`` of the EK, its chain and CRLs; ``public``, where it is given, is
            the AK's that the relying party expects.
        ek: the EK's public area, TPMT_PUBLIC or TPM2B_PUBLIC.
        ak: the AK's, likewise.
        context: the roots that the relying party believes.
        now: aware.
        fresh: 96 bytes of the operating system's randomness, used for this and for nothing else.

    Raises:
        FormatError: a certificate or an area is malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
        FreshnessError: a certificate or CRL is out of its time.
        UnavailableError: the EK's certificate (``ek_missing``) or an issuer is missing.
        UsageError: ``fresh`` has another size.
    """
    if len(fresh) != FRESH_SIZE:
        raise UsageError(f"fresh: want {FRESH_SIZE} bytes, got {len(fresh)}")
    certified = trust.endorsed(endorsements, context=context, now=now)  # 1
    endorsing, area = public.parse_storage(ek), trust.area_of(ak)
    if endorsing.spki != certified.spki:  # 2
        raise AuthenticityError("EK: the public area is not of the certified key", code="key_binding")
    if _REQUIRED & ~endorsing.attributes or endorsing.attributes & Attribute.SIGN:
        raise AuthenticityError(
            f"EK: want a restricted storage key of the TPM's own, got attributes {endorsing.attributes:#x}",
            code="ak_binding",
        )
    trust.check_area(area)  # 3
    if endorsements.public is not None and trust.area_of(endorsements.public) != area:
        raise AuthenticityError("AK: want the area that is expected, got another", code="key_binding")
    for name, each in (("EK", endorsing), ("AK", area)):  # 4
        if each.name_hash not in _STRONG:
            raise AuthenticityError(
                f"{name}: want a name of SHA-256 or better, got {each.name_hash.label}", code="ak_binding"
            )
    secret = fresh[: credential.SECRET_SIZE]
    seed = fresh[credential.SECRET_SIZE :][: endorsing.name_hash.size]
    return Challenge(
        credential=credential.make(endorsing, area.name, secret, seed),
        _secret=secret,
        _activated=Activated(area=area, ek=certified),
    )
