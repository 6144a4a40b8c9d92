"""The TPM protocol's two steps: issue a challenge, and issue a token for a request that answers it.

There is no default policy: until an owner sets one, every message is refused. Spec: Microsoft Azure
Attestation, "TPM attestation", "VBS attestation protocol".
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from kluis.evidence import ProtectionLevel
from kluis.formats.azure.vbs import Report
from kluis.formats.encoding import b64
from kluis.formats.tpm.pcrs import PCR_COUNT
from kluis.hashes import sha256
from kluis.services.attestation.evidence.platforms import Platforms
from kluis.services.attestation.faults import InvalidEvidence, InvalidParameter
from kluis.services.attestation.instances import Instance
from kluis.services.attestation.kinds import AttestationType
from kluis.services.attestation.language import Claim, Issuer
from kluis.services.attestation.language.claims import MOST_INTEGER
from kluis.services.attestation.octets import decode_base64, json_object
from kluis.services.attestation.policies.evaluation import evaluate_policy
from kluis.services.attestation.policies.policies import Policies, about, hold_draft
from kluis.services.attestation.settings import MOST_REPORT_MINUTES, AttestationSettings
from kluis.services.attestation.tokens.tokens import Tokens
from kluis.services.attestation.tpm import evidence, messages, vbs
from kluis.services.attestation.tpm.challenges import Challenges
from kluis.services.attestation.tpm.claims import READ_ONLY, tpm_claims
from kluis.services.attestation.tpm.evidence import TpmEvidence
from kluis.services.attestation.tpm.keys import Binding
from kluis.services.attestation.tpm.messages import CustomClaim, Data, Request

MAX_MESSAGE: Final = 4 << 20
MOST_TEXT: Final = 4096
MOST_NAME: Final = 128
ALL_PCRS: Final = 0xFFFFFF
DRAFT: Final = "draftPolicyForAttestation"
KEY_BINDING: Final = "x-kluis-key-binding"


class TpmProtocol:
    """Answers TPM clients.

    Args:
        settings: of the service.
        platforms: has the trusted roots.
        policies: of the instances.
        tokens: issues tokens.
        challenges: issues challenges.
    """

    def __init__(
        self,
        settings: AttestationSettings,
        platforms: Platforms,
        policies: Policies,
        tokens: Tokens,
        challenges: Challenges,
    ) -> None:
        self._settings = settings
        self._platforms = platforms
        self._policies = policies
        self._tokens = tokens
        self._challenges = challenges

    def answer(self, instance: Instance, data: str, now: datetime) -> str:
        """Answer one message.

        Args:
            instance: that attests.
            data: base64url of JSON: a request for a challenge, or an attestation request.
            now: aware.

        Returns:
            Base64url of JSON: a challenge and its context, or a report: a JWT.

        Raises:
            PolicyMissing: no policy is set.
            InvalidParameter: not a message.
            InvalidEvidence: it fails verification.
            PolicyError: the policy does not permit it.
        """
        text = decode_base64(data, "data", most=MAX_MESSAGE)
        message = json_object(text, "data")
        if "request" in message:
            return _encode({"report": self._report(instance, message, now)})
        self._policies.current(instance, AttestationType.TPM)
        wrapped = message.get("payload")
        request = wrapped if isinstance(wrapped, dict) else message
        kind = request.get("type")
        if kind != "aikcert":
            raise InvalidParameter(f"data: want type aikcert, or a request, got {str(kind)[:40]!a}")
        challenge, context = self._challenges.make(instance.key, now)
        made = {"challenge": b64.encode_url(challenge), "service_context": b64.encode_url(context)}
        return _encode({"payload": made} if isinstance(wrapped, dict) else made)

    def _report(self, instance: Instance, message: Mapping[str, Any], now: datetime) -> str:
        draft = message.get(DRAFT)
        if draft is not None and not isinstance(draft, str):
            raise InvalidParameter(f"{DRAFT}: want a policy's text")
        policy = self._policies.current(instance, AttestationType.TPM) if draft is None else None
        jws = message["request"]
        if not isinstance(jws, str):
            raise InvalidParameter("request: want a JWS")
        request = messages.parse(jws)
        challenge = decode_base64(request.data.challenge, "challenge", most=64)
        context = decode_base64(request.data.service_context, "service_context", most=256)
        self._challenges.check(instance.key, challenge, context, now)
        quoted = evidence.verify(request, challenge, self._platforms, now)
        policy = policy or hold_draft(draft or "")
        self._check_asked(quoted, policy.properties)
        claims = tpm_claims(quoted) | about(policy)
        report, binding = None, quoted.key.binding
        if request.vsm_report:
            report = vbs.verify(request.vsm_report, request.reported, quoted.now.log, self._platforms.context)
            self._check_debug(report)
            binding = Binding.ENCLAVE
        claims |= vbs.claims_of(report)
        custom = self._custom(request.data.custom_claims)
        token_claims = {
            name: value for name, value in claims.items() if name.startswith(("x-ms-policy", "x-kluis-"))
        }
        token_claims |= {
            "x-ms-attestation-type": "tpm",
            KEY_BINDING: str(binding),
            **_repeated_claims(request),
        }
        result = evaluate_policy(policy, claims, token_claims, custom=custom, read_only=READ_ONLY)
        minutes = _whole(result.properties, "report_validity_in_minutes", self._settings.tpm_token_minutes)
        if not 1 <= minutes <= MOST_REPORT_MINUTES:
            raise InvalidParameter(
                f"report_validity_in_minutes: want 1 to {MOST_REPORT_MINUTES}, got {minutes}"
            )
        return self._tokens.about_evidence(
            instance,
            {**token_claims, **result.issued},
            now,
            seconds=60 * minutes,
            draft=draft is not None,
            header=self._header(instance, result.properties, now),
        )

    def _check_asked(self, quoted: TpmEvidence, properties: Mapping[str, Any]) -> None:
        """Check what the policy's configuration rules require of the evidence itself."""
        if properties.get("require_valid_aik_cert", True) is not False and not quoted.certified:
            raise InvalidEvidence(
                "aik_cert: want a certificate of the attestation key, got none",
                hint="or say in the policy's configurationrules: require_valid_aik_cert is false",
                code="chain_missing",
            )
        if quoted.level is ProtectionLevel.NONE and not self._settings.insecure_accept_unprotected:
            raise InvalidEvidence(
                "protection: want a level that keeps something out, got level none: the TPM has no"
                " certificate",
                hint="insecure_accept_unprotected attests it all the same",
                code="protection",
            )
        mask = _whole(properties, "required_pcr_mask", ALL_PCRS)
        present = {index for values in quoted.now.checked.values.values() for index in values}
        lacks = [index for index in range(PCR_COUNT) if mask >> index & 1 and index not in present]
        if lacks:
            raise InvalidEvidence(
                f"TPM quote: PCRs: want those of required_pcr_mask {mask:#x}, got none for {lacks}",
                code="pcr_selection",
            )

    def _check_debug(self, report: Report) -> None:
        if report.debug and not self._settings.insecure_accept_unprotected:
            raise InvalidEvidence(
                "protection: want a level that keeps something out, got none: an enclave open to its host",
                hint="start it without debug; insecure_accept_unprotected attests it all the same",
                code="protection",
            )

    def _custom(self, claims: list[CustomClaim]) -> list[Claim]:
        # With a prefix: a client's own claim must never be mistaken for one of the service's.
        prefix = self._settings.custom_claim_prefix
        for each in claims:
            whole = isinstance(each.value, int) and not isinstance(each.value, bool)
            if len(each.name) > MOST_NAME or (isinstance(each.value, str) and len(each.value) > MOST_TEXT):
                raise InvalidParameter(
                    f"custom_claims: want names of {MOST_NAME} and values of {MOST_TEXT} characters at most"
                )
            if whole and not -MOST_INTEGER - 1 <= int(each.value) <= MOST_INTEGER:
                raise InvalidParameter(f"custom_claims.{each.name}: want a number of 64 bits")
        return [Claim(prefix + each.name, each.value, Issuer.CUSTOM) for each in claims]

    def _header(self, instance: Instance, properties: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        der = self._tokens.certificate(instance, now)
        if properties.get("omit_x5c") is True:
            digest = hashlib.sha1(der, usedforsecurity=False).digest()
            return {"x5t": b64.encode_url(digest), "x5t#S256": b64.encode_url(sha256(der))}
        return {"x5c": [base64.b64encode(der).decode()]}


def _repeated_claims(request: Request) -> dict[str, Any]:
    """The parts of the request that a token repeats: its key, and the relying party's data."""
    data: Data = request.data
    claims: dict[str, Any] = {"cnf": {"jwk": msgspec.json.decode(request.jwk)}}
    for name, text in (("rp_id", data.rp_id), ("rp_data", data.rp_data)):
        if text is not None and len(text) > MOST_TEXT:
            raise InvalidParameter(f"{name}: want at most {MOST_TEXT} characters, got {len(text)}")
    if data.rp_data is not None:
        claims |= {"rp_data": data.rp_data, "nonce": data.rp_data}
    return claims


def _whole(properties: Mapping[str, Any], name: str, usual: int) -> int:
    value = properties.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameter(f"{name}: want a number, got {str(value)[:40]!a}")
    return value


def _encode(value: Mapping[str, Any]) -> str:
    return b64.encode_url(msgspec.json.encode(value))
