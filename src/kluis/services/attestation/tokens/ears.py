"""Attestation results in the IETF's format, EAR, for evidence that the service attests.

An instance's policy only permits or denies, without stating the aspects of the attester that it checked. So
the vector makes no claim about code, configuration or identity. It covers the platform, which the service
judges by its vendor's statement, and who can read its memory. The claims that the policy read and issued are
included.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from kluis.appraisal.aspects import Aspect, Tier
from kluis.appraisal.results import trustworthiness
from kluis.appraisal.results.rule import Rule
from kluis.appraisal.tokens.ear import BUILD, DEVELOPER, NONCE_SIZES, Appraisal, Ear
from kluis.evidence import Claims, TcbStatus, denylist

TYPE: Final = "eat+jwt"


def of(
    claims: Claims, token_claims: Mapping[str, Any], issued: Mapping[str, Any], now: datetime, seconds: int
) -> Ear:
    """The result of one attestation that the policy permitted.

    Args:
        claims: verified.
        token_claims: the service's claims in a token.
        issued: the policy's further claims.
        now: aware.
        seconds: lifetime, at most until the evidence's endorsements expire.
    """
    vector = _vector(claims)
    tiers = [Tier.AFFIRMING, *map(trustworthiness.tier, vector.values())]
    nonce = str(token_claims["nonce"]).encode() if "nonce" in token_claims else b""
    at = now.astimezone(UTC).replace(microsecond=0)
    appraisal = Appraisal(
        status=min(tiers, key=list(Tier).index),
        vector=vector,
        policy_ids=(f"ni:///sha-256;{token_claims['x-ms-policy-hash']}",),
        nonce=nonce if len(nonce) in NONCE_SIZES else None,
        attester=MappingProxyType(dict(token_claims)),
        verifier=MappingProxyType(
            {
                "protection": str(claims.level),
                "not_kept_out": list(denylist.not_kept_out(claims)),
                "anchor": claims.anchor,
                "policy_claims": dict(issued),
            }
        ),
    )
    return Ear(
        issued_at=at,
        expires_at=min(at + timedelta(seconds=seconds), claims.valid_until).replace(microsecond=0),
        developer=DEVELOPER,
        build=BUILD,
        submods=MappingProxyType({str(claims.tee): appraisal}),
    )


def _vector(claims: Claims) -> Mapping[Aspect, int]:
    status = claims.tcb.status
    supported = status not in (TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED)
    rule = Rule.of(
        "tcb_status", supported, want="supported", got=status, fix="update it", aspect=Aspect.HARDWARE
    )
    current = status in (TcbStatus.UP_TO_DATE, TcbStatus.NOT_JUDGED)
    return trustworthiness.vector((rule,), claims.level, vulnerable=not current)
