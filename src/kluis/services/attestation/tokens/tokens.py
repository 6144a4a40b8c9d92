"""The service's tokens: about evidence, and about policies. All are signed by the instance's key of the time.

Spec: Microsoft Azure Attestation, "Attestation Token"; RFC 7519.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

from kluis.appraisal.tokens import ear_claims
from kluis.appraisal.tokens.ear import Ear
from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.services.attestation.faults import InvalidParameter
from kluis.services.attestation.instances import Instance
from kluis.services.attestation.settings import AttestationSettings
from kluis.services.attestation.tokens import ears
from kluis.services.attestation.tokens.signing import SigningKeys

SCHEMA: Final = "1.0"
# What a claim was called in 2018, for relying parties that have not changed since: the service's own words,
# whatever a policy issues under these names.
_DEPRECATED: Final = {
    "ver": "x-ms-ver",
    "tee": "x-ms-attestation-type",
    "policy_hash": "x-ms-policy-hash",
    "maa-policyHash": "x-ms-policy-hash",
    "policy_signer": "x-ms-policy-signer",
    "rp_data": "nonce",
}


class Tokens:
    """Makes tokens.

    Args:
        settings: how long they live.
        keys: that sign them.
    """

    def __init__(self, settings: AttestationSettings, keys: SigningKeys) -> None:
        self._settings = settings
        self._keys = keys

    def about_policies(self, instance: Instance, claims: Mapping[str, Any], now: datetime) -> str:
        """A token that says ``claims`` of an instance's policies, for as long as the settings say."""
        made = {**_times(instance, now, self._settings.policy_token_seconds), **claims}
        return self._keys.current(instance.key, instance.url, now).sign(made)

    def certificate(self, instance: Instance, now: datetime) -> bytes:
        """DER of the certificate of the key that signs now."""
        return self._keys.current(instance.key, instance.url, now).certificate

    def about_evidence(
        self,
        instance: Instance,
        claims: Mapping[str, Any],
        now: datetime,
        *,
        seconds: int | None = None,
        draft: bool = False,
        header: Mapping[str, Any] | None = None,
    ) -> str:
        """An attestation token.

        Args:
            instance: that attests.
            claims: what the service says and the policy issued.
            now: aware.
            seconds: of its life; None for the usual one.
            draft: whether a draft policy was evaluated: nobody signs that.
            header: members in place of the usual ones.
        """
        life = self._settings.token_seconds if seconds is None else seconds
        made = {
            **_times(instance, now, life),
            "jti": os.urandom(32).hex(),
            "x-ms-ver": SCHEMA,
            **claims,
        }
        if self._settings.deprecated_names:
            made |= {old: made[new] for old, new in _DEPRECATED.items() if new in made}
        key = self._keys.current(instance.key, instance.url, now)
        return key.write_unsecured(made) if draft else key.sign(made, **(header or {}))

    def as_ear(self, instance: Instance, ear: Ear, now: datetime) -> str:
        """An attestation result as a JWT, signed by the same key: ``kluis.appraisal.tokens.signing`` verifies
        it.

        Raises:
            InvalidParameter: the client's data hold numbers that are no integers, which an EAR cannot tell.
        """
        try:
            payload = jcs.loads(jcs.dumps(ear_claims.write(ear, numbers=False)), "EAR")
        except FormatError as error:
            raise InvalidParameter(
                f"EAR: cannot tell the data that came with the evidence: {error.message}"
            ) from None
        key = self._keys.current(instance.key, instance.url, now)
        return key.sign(cast("dict[str, Any]", payload), typ=ears.TYPE, jku=None)


def _times(instance: Instance, now: datetime, seconds: int) -> dict[str, Any]:
    # A token is good from the moment of its making: a client's clock may be behind by no more than that.
    at = int(now.timestamp())
    return {"iss": instance.url, "iat": at, "nbf": at, "exp": at + seconds}
