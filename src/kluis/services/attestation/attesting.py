"""Evidence in, a token out: verify, bind, evaluate the policy, sign. In that order, and all or nothing.

Spec: Microsoft Azure Attestation, "Attestation" (SGX enclave, Open Enclave, SEV-SNP VM, TDX VM).
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from kluis.errors import KluisError, PolicyError
from kluis.evidence import Claims, Tee
from kluis.formats.wrappers import oe
from kluis.services.attestation.claims import sgx_claims, snp_claims, tdx_claims
from kluis.services.attestation.claims.guest import guest_aliases, guest_claims
from kluis.services.attestation.claims.sgx import legacy_claims
from kluis.services.attestation.evidence import baselines, bound_data
from kluis.services.attestation.evidence.bound_data import Bound
from kluis.services.attestation.evidence.compliance import compliance_status
from kluis.services.attestation.evidence.platforms import MAX_BUNDLE, MAX_QUOTE, DebugTee, Platforms, Quoted
from kluis.services.attestation.evidence.uvm import endorsed, uvm_claims
from kluis.services.attestation.faults import InvalidEvidence, InvalidParameter
from kluis.services.attestation.guest import guest_request, guests
from kluis.services.attestation.guest.guest_envelope import enclose
from kluis.services.attestation.instances import Instance
from kluis.services.attestation.kinds import AttestationType
from kluis.services.attestation.octets import decode_base64
from kluis.services.attestation.policies.evaluation import evaluated
from kluis.services.attestation.policies.policies import HeldPolicy, Policies, about, hold_draft
from kluis.services.attestation.requests import (
    AttestGuest,
    AttestOpenEnclave,
    AttestReport,
    AttestSgx,
    AttestTdx,
)
from kluis.services.attestation.settings import AttestationSettings
from kluis.services.attestation.tokens import ears
from kluis.services.attestation.tokens.tokens import Tokens

__all__ = ["Attesting", "TokenForm"]

MOST_COLLATERAL: Final = 4 << 20
MOST_NONCE: Final = 4096
_NO_VARIABLES: Final = (
    "no variable of secure boot is validated, for the service was told no values: attestation."
    "secure_boot_variables of kluis serve --settings FILE lists those that count; or set another policy"
)
_Request = AttestSgx | AttestOpenEnclave | AttestReport | AttestTdx


class TokenForm(enum.Enum):
    """What a relying party reads."""

    AZURE = enum.auto()
    """A JWT as Azure's clients know it."""
    EAR = enum.auto()
    """An attestation result of the IETF's, EAR."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """What was found of one piece of evidence.

    Attributes:
        claims: verified.
        told: the same, as a token says them.
        aliases: other names that policies read them by.
        endorsed: whether who is believed endorses a utility VM's launch.
        refused: why there is no token, whatever the policy permits.
    """

    claims: Claims
    told: dict[str, Any]
    aliases: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    endorsed: bool = False
    refused: DebugTee | None = None


class Attesting:
    """Attests enclaves, guests and trust domains.

    Args:
        settings: of the service.
        platforms: verifies evidence.
        policies: of the instances.
        tokens: makes tokens.
    """

    def __init__(
        self, settings: AttestationSettings, platforms: Platforms, policies: Policies, tokens: Tokens
    ) -> None:
        self._settings = settings
        self._platforms = platforms
        self._policies = policies
        self._tokens = tokens

    def sgx(
        self, instance: Instance, request: AttestSgx, now: datetime, form: TokenForm = TokenForm.AZURE
    ) -> str:
        """Attest an SGX enclave by its quote.

        Raises:
            InvalidParameter: the request is malformed.
            InvalidEvidence: the quote does not hold, or is not bound to the data.
            PolicyError: the policy does not permit it.
        """
        quote = decode_base64(request.quote, "quote", most=MAX_QUOTE)
        return self._enclave(instance, AttestationType.SGX_ENCLAVE, quote, request, now, form)

    def open_enclave(
        self, instance: Instance, request: AttestOpenEnclave, now: datetime, form: TokenForm = TokenForm.AZURE
    ) -> str:
        """Attest an SGX enclave by its Open Enclave report, a header and a quote; as :meth:`sgx`."""
        report = decode_base64(request.report, "report", most=MAX_QUOTE)
        try:
            quote = oe.parse_report(report)
        except KluisError as error:
            raise InvalidEvidence(error.message, hint=error.hint, code=error.code) from None
        return self._enclave(instance, AttestationType.OPEN_ENCLAVE, quote, request, now, form)

    def snp(
        self, instance: Instance, request: AttestReport, now: datetime, form: TokenForm = TokenForm.AZURE
    ) -> str:
        """Attest an SEV-SNP guest; as :meth:`sgx`."""
        bundle = decode_base64(request.report, "report", most=MAX_BUNDLE)
        quoted, refused = _verified(lambda: Quoted(self._platforms.report(bundle, now), {}))
        claims = quoted.claims
        endorsers = self._settings.compliance.uvm_endorsers
        endorsement = endorsed(bundle, claims, endorsers, self._platforms.context)
        held = self._policy(instance, AttestationType.SEV_SNP_VM, request.draftPolicyForAttestation)
        told = snp_claims(claims) | uvm_claims(endorsement)
        found = _Found(claims, told, endorsed=endorsement is not None, refused=refused)
        return self._guest(instance, held, found, request, now, form)

    def tdx(
        self, instance: Instance, request: AttestTdx, now: datetime, form: TokenForm = TokenForm.AZURE
    ) -> str:
        """Attest a trust domain; as :meth:`sgx`."""
        quote = decode_base64(request.quote, "quote", most=MAX_QUOTE)
        quoted, refused = _verified(lambda: self._platforms.quote(quote, Tee.TDX, _bundle(request), now))
        held = self._policy(instance, AttestationType.TDX_VM, request.draftPolicyForAttestation)
        found = _Found(quoted.claims, tdx_claims(quoted.claims), refused=refused)
        return self._guest(instance, held, found, request, now, form)

    def guest(self, instance: Instance, request: AttestGuest, now: datetime) -> str:
        """Attest an Azure guest: gives an envelope that only its TPM opens.

        Raises:
            InvalidParameter: the request is malformed.
            InvalidEvidence: something that it sent does not hold.
            PolicyError: the policy does not permit it.
        """
        text = request.client if request.client is not None else request.attestationInfo
        if not text:
            raise InvalidParameter("AttestationInfo: want text, got none")
        draft = request.draftPolicyForAttestation
        guest = guests.verify(guest_request.parse(text), self._platforms, now)
        held = self._policy(instance, AttestationType.AZURE_GUEST, draft)
        told = guest_claims(guest, self._settings)
        told |= about(held)
        try:
            result = evaluated(held, told, told, aliases=guest_aliases(told))
        except PolicyError as error:
            denied = "A Deny claim was issued" in error.message and "validated" in error.message
            if self._settings.secure_boot_variables or not denied:
                raise
            raise PolicyError(error.message, hint=_NO_VARIABLES, code=error.code) from None
        claims = {**told, **result.issued}
        token = self._tokens.about_evidence(instance, claims, now, draft=draft is not None)
        return enclose(token, guest.key)

    def _enclave(
        self,
        instance: Instance,
        kind: AttestationType,
        quote: bytes,
        request: AttestSgx | AttestOpenEnclave,
        now: datetime,
        form: TokenForm,
    ) -> str:
        runtime, initial = _data(request)
        quoted, refused = _verified(lambda: self._platforms.quote(quote, Tee.SGX, _bundle(request), now))
        _check_bound(quoted.claims, runtime, initial)
        held = self._policy(instance, kind, request.draftPolicyForAttestation)
        asked = held.properties.get(baselines.PROPERTY, baselines.DEFAULT)
        baselines.check(quoted.claims, baselines.baseline(asked))
        told = sgx_claims(quoted.claims, quoted.collateral, runtime)
        found = _Found(quoted.claims, told, legacy_claims(told), refused=refused)
        return self._issue(instance, held, found, runtime, initial, request, now, form)

    def _guest(
        self,
        instance: Instance,
        held: HeldPolicy,
        found: _Found,
        request: AttestReport | AttestTdx,
        now: datetime,
        form: TokenForm,
    ) -> str:
        runtime, initial = _data(request)
        _check_bound(found.claims, runtime, initial)
        lists = self._settings.compliance
        status = compliance_status(found.claims, runtime, lists, endorsed=found.endorsed)
        if status is not None:
            found.told["x-ms-compliance-status"] = status
        return self._issue(instance, held, found, runtime, initial, request, now, form)

    def _policy(self, instance: Instance, kind: AttestationType, draft: str | None) -> HeldPolicy:
        # Read after the evidence is verified: nobody else has the service read a text of theirs.
        return self._policies.current(instance, kind) if draft is None else hold_draft(draft)

    def _issue(
        self,
        instance: Instance,
        held: HeldPolicy,
        found: _Found,
        runtime: Bound | None,
        initial: Bound | None,
        request: _Request,
        now: datetime,
        form: TokenForm,
    ) -> str:
        told = {**found.told, **about(held)}
        if runtime is not None and runtime.value is not None:
            told["x-ms-runtime"] = runtime.value
        if initial is not None and initial.value is not None:
            told["x-ms-inittime"] = initial.value
        if request.nonce is not None:
            told["nonce"] = _nonce(request.nonce)
        result = evaluated(held, told, told, aliases=found.aliases)
        if found.refused is not None:
            raise found.refused
        draft = request.draftPolicyForAttestation is not None
        if form is TokenForm.EAR:
            if draft:
                raise InvalidParameter(
                    "draftPolicyForAttestation: want none where an EAR is asked for, got one",
                    hint="nobody signs the outcome of a draft, and an EAR without a signature is none",
                )
            ear = ears.of(found.claims, told, result.issued, now, self._settings.token_seconds)
            return self._tokens.as_ear(instance, ear, now)
        return self._tokens.about_evidence(instance, {**told, **result.issued}, now, draft=draft)


def _verified(verify: Callable[[], Quoted]) -> tuple[Quoted, DebugTee | None]:
    """What was verified, and why there is no token for it: a policy that denies it is heard first."""
    try:
        return verify(), None
    except DebugTee as refused:
        return refused.quoted, refused


def _data(request: _Request) -> tuple[Bound | None, Bound | None]:
    return (
        bound_data.read(request.runtimeData, "runtimeData"),
        bound_data.read(request.initTimeData, "initTimeData"),
    )


def _check_bound(claims: Claims, runtime: Bound | None, initial: Bound | None) -> None:
    bound_data.check_runtime(claims, runtime)
    bound_data.check_init_time(claims, initial)


def _bundle(request: _Request) -> bytes | None:
    given = request.collateral
    return None if given is None else decode_base64(given, "x-kluis-collateral", most=MOST_COLLATERAL)


def _nonce(nonce: str | int) -> str | int:
    if isinstance(nonce, str) and len(nonce) > MOST_NONCE:
        raise InvalidParameter(f"nonce: want at most {MOST_NONCE} characters, got {len(nonce)}")
    if isinstance(nonce, int) and not 0 <= nonce < 1 << 64:
        raise InvalidParameter("nonce: want 0 to 2^64-1")
    return nonce
