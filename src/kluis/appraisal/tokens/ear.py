"""Attestation results as EAR claims, which a verifier sends to a relying party, in JSON or CBOR.

    {eat_profile, iat, exp, ear_verifier_id: {developer, build}, ear_status, submods: {label: appraisal}}
    appraisal = {ear_status, ear_trustworthiness_vector, ear_appraisal_policy_ids, eat_nonce,
                 ear_attester_claims, ear_verifier_claims}

A submod's label is the TEE's name. The verifier's claims always contain ``protection``, the level, and
``not_kept_out``, what it does not keep out. The rules and the evidence's claims can be left out.

Spec: draft-ietf-rats-ear-04, "EAT Attestation Result"; draft-ietf-rats-ar4si, "Trustworthiness Vector".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Never

import kluis
from kluis.appraisal.aspects import Aspect, Tier
from kluis.appraisal.policy.toml_writer import identity_bytes
from kluis.appraisal.results import trustworthiness
from kluis.appraisal.results.result import AttestationResult
from kluis.errors import PolicyError, UsageError
from kluis.evidence.model import Claims
from kluis.formats.encoding import b64
from kluis.formats.encoding.jcs import Json
from kluis.frozen import frozen
from kluis.hashes import sha256

PROFILE: Final = "tag:ietf.org,2026:rats/ear#04"
DEVELOPER: Final = "Kluis"
BUILD: Final = f"kluis {kluis.__version__}"
MOST_TEXT: Final = 512
NONCE_SIZES: Final = range(8, 65)


@frozen(kw_only=True)
class Appraisal:
    """The appraisal of one attester.

    Attributes:
        status: never better than the worst of the vector.
        vector: AR4SI numbers by aspect; an absent aspect is not claimed, and all are absent if the verifier
            reported only the status.
        policy_ids: of the policies, in the order of application.
        nonce: in the evidence, 8..64 bytes, or None.
        attester: claims of the evidence.
        verifier: the verifier's claims: the protection level, and what it does not keep out.
    """

    status: Tier
    vector: Mapping[Aspect, int]
    policy_ids: tuple[str, ...]
    nonce: bytes | None
    attester: Mapping[str, Json]
    verifier: Mapping[str, Json]

    @property
    def protection(self) -> str:
        """The protection level; empty if the verifier reported none."""
        level = self.verifier.get("protection")
        return level if isinstance(level, str) else ""

    @property
    def not_kept_out(self) -> tuple[str, ...]:
        """What that level does not keep out."""
        items = self.verifier.get("not_kept_out")
        return tuple(map(str, items)) if isinstance(items, list) else ()


@frozen(kw_only=True)
class Ear:
    """An attestation result for others. It has no truth value: read it, or call its ``require``.

    Attributes:
        issued_at: time, to the second.
        expires_at: end of validity; None if it is not stated.
        developer: of the verifier.
        build: version of the verifier.
        submods: at least one, by label.
        overall: the verifier's status of all submods together, if it is worse than each.
    """

    issued_at: datetime
    expires_at: datetime | None
    developer: str
    build: str
    submods: Mapping[str, Appraisal]
    overall: Tier = Tier.AFFIRMING

    def __bool__(self) -> Never:
        raise TypeError("Ear has no truth value: read .status, or call .require()")

    @property
    def status(self) -> Tier:
        """The worst status of all submods, of their vectors, and of all together."""
        tiers = [self.overall, *(each.status for each in self.submods.values())]
        numbers = [number for each in self.submods.values() for number in each.vector.values()]
        tiers += [trustworthiness.tier(number) for number in numbers if number != trustworthiness.NO_CLAIM]
        return min(tiers, key=list(Tier).index)

    def require(self, *accepted: Tier) -> None:
        """Raise unless the status is accepted.

        Args:
            accepted: tiers; without any, only ``affirming`` is accepted.

        Raises:
            PolicyError: another status; the message lists each submod's.
        """
        wanted = accepted or (Tier.AFFIRMING,)
        if self.status not in wanted:
            statuses = ", ".join(f"{label} {each.status}" for label, each in sorted(self.submods.items()))
            raise PolicyError(
                f"attestation result: want {' or '.join(wanted)}, got {self.status} ({statuses})",
                hint="read the verifier's claims: they list each rule, with the wanted and the actual value",
                code="ear_status",
            )


def of(result: AttestationResult, *, issued_at: datetime, expires_at: datetime, details: bool = True) -> Ear:
    """Convert an appraisal's result.

    Args:
        result: of an appraisal.
        issued_at: aware.
        expires_at: aware; not later than the evidence's endorsements expire.
        details: whether to include the evidence's claims and the outcome of each rule.

    Raises:
        UsageError: it would expire before it is issued.
    """
    until = min(expires_at, result.claims.valid_until)
    if until <= issued_at:
        raise UsageError(f"attestation result: want it to expire after {issued_at}, got {until}")
    nonce = result.runtime_data.nonce if result.runtime_data else result.claims.nonce
    appraisal = Appraisal(
        status=result.status,
        vector=result.vector,
        policy_ids=(policy_id(result),),
        nonce=nonce if nonce is not None and len(nonce) in NONCE_SIZES else None,
        attester=MappingProxyType(_attester(result.claims) if details else {}),
        verifier=MappingProxyType(_verifier(result, details)),
    )
    return Ear(
        issued_at=issued_at.astimezone(UTC).replace(microsecond=0),
        expires_at=until.astimezone(UTC).replace(microsecond=0),
        developer=DEVELOPER,
        build=BUILD,
        submods=MappingProxyType({str(result.claims.tee): appraisal}),
    )


def policy_id(result: AttestationResult) -> str:
    """The policy's name: the hash of every rule that can change a verdict, as in RFC 6920.

    If a document expresses the whole policy, it is the hash of the output of ``dumps``.
    """
    return f"ni:///sha-256;{b64.encode_url(sha256(identity_bytes(result.policy)))}"


def _cut(text: str) -> str:
    """Limit the size: a token is small, whatever a policy lists."""
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}.."


def _attester(claims: Claims) -> dict[str, Json]:
    return {
        "kind": claims.kind,
        "debug": claims.debug,
        "measurement": str(claims.measurement),
        "signer": str(claims.signer) if claims.signer else None,
        "product_id": claims.product_id,
        "svn": claims.svn,
        "registers": {name: str(value) for name, value in sorted(claims.registers.items())},
        "report_data": claims.report_data.hex(),
    }


def _verifier(result: AttestationResult, details: bool) -> dict[str, Json]:
    claims = result.claims
    members: dict[str, Json] = {
        "protection": str(claims.level),
        "not_kept_out": list(result.not_kept_out),
        "warnings": list(result.warnings),
    }
    if details:
        members |= {
            "anchor": claims.anchor,
            "product": claims.platform.product,
            "tcb_status": str(claims.tcb.status),
            "advisories": list(claims.tcb.advisories),
            "rules": [
                {"name": rule.name, "ok": rule.ok, "want": _cut(rule.want), "got": _cut(rule.got)}
                for rule in result.rules
            ],
        }
    return members
