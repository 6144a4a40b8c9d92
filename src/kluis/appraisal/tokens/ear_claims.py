"""Read and write the claims of an EAR: names in JSON, numbers in CBOR, the same values.

Every claim that we write is read back strictly. Unknown claims are ignored, as the specification requires; a
known claim of another kind is refused.

Spec: draft-ietf-rats-ear-04, "EAT Attestation Result"; RFC 9711, "EAT"; RFC 8392, "CWT".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from kluis.appraisal.aspects import Aspect, Tier
from kluis.appraisal.tokens.ear import NONCE_SIZES, PROFILE, Appraisal, Ear
from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import b64

WHAT: Final = "EAR"
MAX_SUBMODS: Final = 32
MAX_TIME: Final = 253402300799  # the last second of the year 9999
LABELS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "exp": 4,
        "iat": 6,
        "eat_nonce": 10,
        "eat_profile": 265,
        "submods": 266,
        "ear_status": 1000,
        "ear_trustworthiness_vector": 1001,
        "ear_appraisal_policy_ids": 1003,
        "ear_verifier_id": 1004,
        "ear_attester_claims": 1005,
        "ear_verifier_claims": 1006,
    }
)
_TIERS: Final = {tier.number: tier for tier in Tier}
_WORST_FIRST: Final = list(Tier)


def write(ear: Ear, *, numbers: bool) -> dict[Any, Any]:
    """Write the claims.

    Args:
        ear: to write.
        numbers: whether to use CBOR's labels, and raw bytes; else JSON's names, and base64url.
    """
    key = LABELS.__getitem__ if numbers else str
    claims: dict[Any, Any] = {
        key("eat_profile"): PROFILE,
        key("iat"): int(ear.issued_at.timestamp()),
        key("ear_verifier_id"): (
            {0: ear.developer, 1: ear.build} if numbers else {"developer": ear.developer, "build": ear.build}
        ),
        key("ear_status"): _status(ear.status, numbers),
        key("submods"): {label: _appraisal(each, key, numbers) for label, each in ear.submods.items()},
    }
    if ear.expires_at is not None:
        claims[key("exp")] = int(ear.expires_at.timestamp())
    return claims


def _appraisal(appraisal: Appraisal, key: Any, numbers: bool) -> dict[Any, Any]:
    claims: dict[Any, Any] = {
        key("ear_status"): _status(appraisal.status, numbers),
        key("ear_trustworthiness_vector"): {
            aspect.label if numbers else str(aspect): number for aspect, number in appraisal.vector.items()
        },
    }
    if appraisal.policy_ids:
        claims[key("ear_appraisal_policy_ids")] = list(appraisal.policy_ids)
    if appraisal.nonce is not None:
        claims[key("eat_nonce")] = appraisal.nonce if numbers else b64.encode_url(appraisal.nonce)
    for name, value in (
        ("ear_attester_claims", appraisal.attester),
        ("ear_verifier_claims", appraisal.verifier),
    ):
        if value:
            claims[key(name)] = dict(value)
    return claims


def _status(tier: Tier, numbers: bool) -> str | int:
    return tier.number if numbers else str(tier)


def read(value: object, *, numbers: bool) -> Ear:
    """Read claims.

    Args:
        value: from a JSON or CBOR reader.
        numbers: whether labels are CBOR's.

    Raises:
        UnsupportedError: another profile.
        FormatError: a claim is missing, or of another kind.
    """
    top = _Map(value, WHAT, numbers)
    profile = top.take("eat_profile", str)
    if profile != PROFILE:
        raise UnsupportedError(
            f"{WHAT}.eat_profile: want {PROFILE}, got {profile[:128]!a}", code="bad_version"
        )
    verifier = _Map(top.take("ear_verifier_id", dict), f"{WHAT}.ear_verifier_id", False)
    developer, build = (0, 1) if numbers else ("developer", "build")
    submods = top.take("submods", dict)
    if not 1 <= len(submods) <= MAX_SUBMODS or not all(isinstance(label, str) for label in submods):
        raise FormatError(f"{WHAT}.submods: want 1..{MAX_SUBMODS} with text for labels", code="bad_length")
    ear = Ear(
        issued_at=top.time("iat"),
        expires_at=top.time("exp") if top.has("exp") else None,
        developer=verifier.take(developer, str),
        build=verifier.take(build, str),
        submods=MappingProxyType({label: _read(each, label, numbers) for label, each in submods.items()}),
    )
    stated = top.status() if top.has("ear_status") else ear.status
    both = ear, dataclasses.replace(ear, overall=stated)
    return min(both, key=lambda each: _WORST_FIRST.index(each.status))


def _read(value: object, label: str, numbers: bool) -> Appraisal:
    claims = _Map(value, f"{WHAT}.submods[{label[:64]!a}]", numbers)
    policies = claims.take("ear_appraisal_policy_ids", list) if claims.has("ear_appraisal_policy_ids") else []
    if not all(isinstance(each, str) for each in policies):
        raise FormatError(f"{claims.what}.ear_appraisal_policy_ids: want text", code="bad_type")
    if not policies and claims.has("ear_appraisal_policy_ids"):
        raise FormatError(
            f"{claims.what}.ear_appraisal_policy_ids: want at least 1, got 0", code="bad_length"
        )
    return Appraisal(
        status=claims.status(),
        vector=_vector(claims),
        policy_ids=tuple(policies),
        nonce=claims.nonce() if claims.has("eat_nonce") else None,
        attester=claims.mapping("ear_attester_claims"),
        verifier=claims.mapping("ear_verifier_claims"),
    )


def _vector(claims: _Map) -> Mapping[Aspect, int]:
    # A requester may leave the vector out: the status is mandatory, and then is the whole result.
    present = claims.has("ear_trustworthiness_vector")
    tier_claims = claims.take("ear_trustworthiness_vector", dict) if present else {}
    names: dict[object, Aspect] = {each.label if claims.numbers else each.value: each for each in Aspect}
    tiers: dict[Aspect, int] = {}
    for name, number in tier_claims.items():
        if type(number) is not int or not -128 <= number <= 127:
            raise FormatError(
                f"{claims.what}.ear_trustworthiness_vector: want integers of -128..127", code="bad_type"
            )
        if name in names:
            tiers[names[name]] = number
    return MappingProxyType({aspect: tiers[aspect] for aspect in Aspect if aspect in tiers})


class _Map:
    """A claims set, read by names."""

    def __init__(self, value: object, what: str, numbers: bool) -> None:
        if not isinstance(value, dict):
            raise FormatError(f"{what}: want a map", code="bad_type")
        self._held = value
        self.what = what
        self.numbers = numbers

    def _key(self, name: str | int) -> str | int:
        return LABELS[name] if self.numbers and isinstance(name, str) else name

    def has(self, name: str) -> bool:
        return self._key(name) in self._held

    def take(self, name: str | int, kind: type[Any]) -> Any:
        value = self._held.get(self._key(name))
        if type(value) is not kind:
            got = "none" if value is None else type(value).__name__
            raise FormatError(
                f"{self.what}.{name}: want a value of type {kind.__name__}, got {got}", code="bad_type"
            )
        return value

    def time(self, name: str) -> datetime:
        seconds = self.take(name, int)
        if not 0 <= seconds <= MAX_TIME:
            raise FormatError(f"{self.what}.{name}: want 0..{MAX_TIME}, got {seconds}", code="bad_encoding")
        return datetime.fromtimestamp(seconds, UTC)

    def status(self) -> Tier:
        value = self.take("ear_status", int if self.numbers else str)
        known: Mapping[Any, Tier] = _TIERS if self.numbers else {tier.value: tier for tier in Tier}
        if value not in known:
            raise FormatError(
                f"{self.what}.ear_status: want one of {', '.join(map(str, known))}, got {str(value)[:32]!a}",
                code="bad_type",
            )
        return known[value]

    def nonce(self) -> bytes:
        if self.numbers:
            nonce: bytes = self.take("eat_nonce", bytes)
        else:
            nonce = b64.decode_url(self.take("eat_nonce", str), f"{self.what}.eat_nonce")
        if len(nonce) not in NONCE_SIZES:
            raise FormatError(f"{self.what}.eat_nonce: want 8..64 bytes, got {len(nonce)}", code="bad_length")
        return nonce

    def mapping(self, name: str) -> Mapping[str, Any]:
        members = self.take(name, dict) if self.has(name) else {}
        if not all(isinstance(key, str) for key in members):
            raise FormatError(f"{self.what}.{name}: want text for keys", code="bad_type")
        return MappingProxyType(members)
