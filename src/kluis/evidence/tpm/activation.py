"""Credential activation: prove that an attestation key is in a TPM whose endorsement key a vendor certified.

A TPM's vendor certifies the endorsement key (EK), which signs nothing. Only the TPM that has both the EK and
an attestation key (AK) can decrypt a secret that is encrypted to the EK and the AK's name. There are two
messages: a challenge to the TPM, and its answer. The proof is a value, :class:`Activated`, which
:func:`kluis.evidence.verify` takes as a quote's endorsement.

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
from kluis.frozen import frozen

FRESH_SIZE: Final = 96
_STRONG: Final = (HashId.SHA256, HashId.SHA384, HashId.SHA512)
_REQUIRED: Final = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.RESTRICTED
    | Attribute.DECRYPT
)


@frozen(kw_only=True)
class Activated:
    """An AK proven to be in the TPM of a certified EK. Only :meth:`Challenge.accept` makes one.

    Attributes:
        area: the AK's public area.
        ek: certified by the vendor, with chain and anchor.
    """

    area: Public
    ek: TrustedKey

    def key(self, context: Context, now: datetime) -> TrustedKey:
        """The AK, certified through the EK's vendor.

        Raises:
            AuthenticityError: this verifier does not trust the vendor.
            FreshnessError: a certificate or CRL of the EK is expired or not yet valid at ``now``.
        """
        # This verifier determines the root's level, not the one that made the challenge.
        anchor = trust.check_anchor(self.ek.chain[-1], "EK chain", context)
        trust.check_time(self.ek, "EK chain", now)
        return dataclasses.replace(self.ek, spki=self.area.spki, anchor=anchor)


@frozen(kw_only=True)
class Challenge:
    """A credential for the TPM, and the data to check its answer.

    Attributes:
        credential: to send; ``tpm2_activatecredential`` takes its bytes.
    """

    credential: Credential
    _secret: bytes = dataclasses.field(repr=False)
    _activated: Activated = dataclasses.field(repr=False)

    def accept(self, answer: bytes, *, now: datetime) -> Activated:
        """Check the answer.

        5. It is the secret, in full, compared in constant time.
        6. The EK's certificates and CRLs are still valid at ``now``.

        Raises:
            AuthenticityError: the answer is wrong.
            FreshnessError: a certificate or CRL has expired since.
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
    """Make a credential that the EK's TPM opens if it has the AK.

    1. The EK's certificate chains to an anchor (:func:`key.verify_ek`).
    2. The EK's public area is of the certified key, and is that of a restricted storage key that the TPM
       generated.
    3. The AK's public area is that of a restricted signing key that the TPM generated.
    4. The AK's name is hashed with SHA-256 or better, so that no other area has it.

    Args:
        endorsements: ``certificate`` of the EK, its chain and CRLs; ``public``, if given, is the AK that the
            relying party expects.
        ek: the EK's public area, TPMT_PUBLIC or TPM2B_PUBLIC.
        ak: the AK's public area, TPMT_PUBLIC or TPM2B_PUBLIC.
        context: the trusted roots and the rest of the verifier's state.
        now: aware.
        fresh: 96 bytes of the operating system's randomness, used only for this.

    Raises:
        FormatError: a certificate or an area is malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
        FreshnessError: a certificate or CRL is expired or not yet valid.
        UnavailableError: the EK's certificate (``ek_missing``) or an issuer is missing.
        UsageError: ``fresh`` has another size.
    """
    if len(fresh) != FRESH_SIZE:
        raise UsageError(f"fresh: want {FRESH_SIZE} bytes, got {len(fresh)}")
    certified = trust.verify_ek(endorsements, context=context, now=now)  # 1
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
