"""Check that a signing key belongs to an enclave: judge the evidence in its certificate under a policy.

An enclave that signs for others, such as the attestation service, puts its evidence into the certificate of
its key. A relying party checks that first, without a request to the enclave; the format is in
:mod:`kluis.formats.kluis.vouched`.
"""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Collection
from datetime import datetime
from typing import Final

from kluis import appraisal, evidence
from kluis.appraisal import AttestationResult, ByImage, BySigner, Policy, RuntimeBinding, strict
from kluis.errors import AuthenticityError, UsageError
from kluis.evidence import Collateral, HeldCollateral, ProtectionLevel, TrustAnchors, chain
from kluis.evidence.context import Context
from kluis.formats import x509
from kluis.formats.kluis import vouched
from kluis.formats.kluis.runtime_data import Purpose
from kluis.formats.x509 import Scheme
from kluis.frozen import frozen

_WHAT: Final = "signing certificate"
_SCHEMES: Final = (Scheme.RS256, Scheme.ES256, Scheme.ES384)


@frozen
class SigningKey:
    """A key that an enclave generated and certifies with its evidence.

    Attributes:
        spki: DER of the SubjectPublicKeyInfo.
        result: the appraisal of the enclave; its ``claims`` contain the protection level.
        settings: digest of the enclave's settings, 32 bytes; None if it is not stated.
    """

    spki: bytes
    result: AttestationResult
    settings: bytes | None = None

    def require_settings(self, accepted: Collection[str]) -> None:
        """Raise unless the enclave has one of these settings.

        Args:
            accepted: digests, hex.

        Raises:
            AuthenticityError: it has other settings, or does not state them.
        """
        settings = "none" if self.settings is None else self.settings.hex()
        if self.settings is None or settings not in accepted:
            raise AuthenticityError(
                f"settings: want {' or '.join(accepted)}, got {settings}", code="told_otherwise"
            )


def build_policy(
    identity: ByImage | BySigner,
    *,
    protection: frozenset[ProtectionLevel],
    counters: frozenset[str],
    missing: frozenset[str],
) -> Policy:
    """Build a relying party's policy for enclaves whose signatures it accepts.

    Args:
        identity: by measurement or by signer.
        protection: accepted levels.
        counters: accepted witnesses of its state.
        missing: protections that it may do without.

    Raises:
        UsageError: an invalid argument.
    """
    made = strict(identity, protection=protection, purpose=Purpose.APP, counters=counters, missing=missing)
    # Evidence in a certificate was made before any request, and is as old as its key.
    return dataclasses.replace(made, binding=dataclasses.replace(made.binding, nonce=False))


def check(
    certificate: bytes,
    *,
    anchors: TrustAnchors,
    collateral: Collateral | HeldCollateral | None,
    policy: Policy,
    now: datetime,
) -> SigningKey:
    """Find the key that a certificate's evidence certifies.

    1. The certificate is signed by its own key, and in its validity period.
    2. It contains an authentic quote.
    3. The enclave meets the policy, and made the evidence for the purpose ``app``.
    4. Its statement names the certificate's key.

    The age of the evidence does not matter: a key does not leave its enclave as time passes. The platform's
    status is judged at ``now``, from the collateral.

    Args:
        certificate: DER, at most 16 KiB.
        anchors: the trusted roots.
        collateral: for the quote, as its vendor publishes it.
        policy: its binding has the purpose ``app``, and requires no nonce.
        now: aware.

    Raises:
        UsageError: the policy is for evidence of another purpose, or requires a nonce.
        FormatError: not a certificate, or without evidence.
        AuthenticityError, FreshnessError: a step fails.
        PolicyError: a rule of the policy fails; lists each.
    """
    binding = policy.binding
    if not isinstance(binding, RuntimeBinding) or binding.purpose is not Purpose.APP or binding.nonce:
        raise UsageError(
            "policy.binding: want purpose app without a nonce",
            hint="evidence in a certificate was created before any nonce was sent",
        )
    read = x509.parse(certificate, _WHAT)
    chain.check_issued(read, read, _WHAT, schemes=_SCHEMES, context=Context(anchors), code="cert_sig")  # 1
    chain.valid(read, _WHAT, now)
    carried = vouched.evidence_in(read)
    verified = evidence.verify(carried.quote, anchors=anchors, collateral=collateral, now=now)  # 2
    result = appraisal.appraise(
        verified,
        policy,
        nonce=None,
        runtime_data=carried.runtime_data,
        launch_configuration=carried.launch_configuration,
        now=now,
    )
    result.require()  # 3
    named = vouched.read_statement(result.runtime_data.payload if result.runtime_data else b"")
    if not hmac.compare_digest(named.spki, read.spki):  # 4
        raise AuthenticityError(f"{_WHAT}: its evidence is for another key", code="vouched_key")
    return SigningKey(named.spki, result, named.settings)
