"""Is a signing key an enclave's own? A certificate that carries evidence, held against a policy.

An enclave that signs for others, as the attestation service does, has its evidence in the certificate of
its key. Whoever relies on what it signed checks that first, without asking the enclave anything: the
format is :mod:`kluis.formats.kluis.vouched`.
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
from kluis.formats.kluis.vouched import Vouched
from kluis.formats.x509 import Scheme

__all__ = ["SigningKey", "check", "wanted"]

_WHAT: Final = "signing certificate"
_SCHEMES: Final = (Scheme.RS256, Scheme.ES256, Scheme.ES384)


@dataclasses.dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that an enclave made and speaks for.

    Attributes:
        spki: DER of the SubjectPublicKeyInfo.
        result: the judgement of the enclave; its ``claims`` have the protection level.
        settings: digest of what the enclave was told, 32 bytes; None where it says nothing of that.
    """

    spki: bytes
    result: AttestationResult
    settings: bytes | None = None

    def require_settings(self, accepted: Collection[str]) -> None:
        """Go on only where the enclave was told one of these.

        Args:
            accepted: digests, hex.

        Raises:
            AuthenticityError: it was told something else, or says nothing of it.
        """
        told = "none" if self.settings is None else self.settings.hex()
        if self.settings is None or told not in accepted:
            raise AuthenticityError(
                f"settings: want {' or '.join(accepted)}, got {told}", code="told_otherwise"
            )


def wanted(
    identity: ByImage | BySigner,
    *,
    protection: frozenset[ProtectionLevel],
    counters: frozenset[str],
    missing: frozenset[str],
) -> Policy:
    """The policy of a relying party: what an enclave must be whose signatures it takes.

    Args:
        identity: by what it measures to, or by who signed it.
        protection: levels that will do.
        counters: how its state may be witnessed.
        missing: protections that it may lack.

    Raises:
        UsageError: one of them cannot be meant.
    """
    made = strict(identity, protection=protection, purpose=Purpose.APP, counters=counters, missing=missing)
    # What is in a certificate was made before anybody asked, and is as old as its key.
    return dataclasses.replace(made, binding=dataclasses.replace(made.binding, nonce=False))


def check(
    certificate: bytes,
    *,
    anchors: TrustAnchors,
    collateral: Collateral | HeldCollateral | None,
    policy: Policy,
    now: datetime,
) -> SigningKey:
    """Find the key that a certificate's evidence vouches for.

    1. The certificate is signed by its own key, and in its time.
    2. It carries a quote that is authentic.
    3. The enclave is what the policy wants, and made the evidence for the purpose ``app``.
    4. Its statement names the certificate's key.

    How old the evidence is does not matter: a key does not leave its enclave as time passes. Whether
    the platform is still good is judged ``now``, by the collateral.

    Args:
        certificate: DER, at most 16 KiB.
        anchors: the roots that the relying party believes.
        collateral: for the quote, as its maker publishes it.
        policy: its binding has the purpose ``app``, and asks for no nonce.
        now: aware.

    Raises:
        UsageError: the policy is for evidence of another purpose, or for a nonce that nobody gave.
        FormatError: not a certificate, or without evidence.
        AuthenticityError, FreshnessError: a step fails.
        PolicyError: a rule of the policy fails; names each.
    """
    binding = policy.binding
    if not isinstance(binding, RuntimeBinding) or binding.purpose is not Purpose.APP or binding.nonce:
        raise UsageError(
            "policy.binding: want purpose app without a nonce",
            hint="evidence in a certificate was created before any nonce was sent",
        )
    read = x509.parse(certificate, _WHAT)
    chain.issued(read, read, _WHAT, schemes=_SCHEMES, context=Context(anchors), code="cert_sig")  # 1
    chain.valid(read, _WHAT, now)
    carried = Vouched.of(read)
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
