"""The service's tokens about evidence and policies, all signed by the instance's current key.

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
# Names of claims in 2018, for relying parties that have not changed since. The values are the service's own,
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
    """Issues tokens.

    Args:
        settings: lifetimes of tokens.
        keys: that sign them.
    """

    def __init__(self, settings: AttestationSettings, keys: SigningKeys) -> None:
        self._settings = settings
        self._keys = keys

    def about_policies(self, instance: Instance, claims: Mapping[str, Any], now: datetime) -> str:
        """A token with ``claims`` about an instance's policies, with the lifetime in the settings."""
        made = {**_times(instance, now, self._settings.policy_token_seconds), **claims}
        return self._keys.current(instance.key, instance.url, now).sign(made)

    def certificate(self, instance: Instance, now: datetime) -> bytes:
        """DER of the certificate of the current signing key."""
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
            claims: from the service and from the policy.
            now: aware.
            seconds: lifetime; None for the usual one.
            draft: whether a draft policy was evaluated: such tokens are unsigned.
            header: replaced members.
        """
        life = self._settings.token_seconds if seconds is None else seconds
        made = {**_times(instance, now, life), "jti": os.urandom(32).hex(), "x-ms-ver": SCHEMA, **claims}
        if self._settings.deprecated_names:
            made |= {old: made[new] for old, new in _DEPRECATED.items() if new in made}
        key = self._keys.current(instance.key, instance.url, now)
        return key.write_unsecured(made) if draft else key.sign(made, **(header or {}))

    def as_ear(self, instance: Instance, ear: Ear, now: datetime) -> str:
        """An attestation result as a JWT, signed by the same key: ``kluis.appraisal.tokens.signing`` verifies
        it.

        Raises:
            InvalidParameter: the client's data contain numbers that are not integers, which an EAR cannot
                represent.
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
    # A token is valid from the moment it is issued, so a client's clock may be behind only by this much.
    at = int(now.timestamp())
    return {"iss": instance.url, "iat": at, "nbf": at, "exp": at + seconds}
