"""Turn evidence into a token: verify, bind, evaluate the policy, sign. In that order, and all or nothing.

Spec: Microsoft Azure Attestation, "Attestation" (SGX enclave, Open Enclave, SEV-SNP VM, TDX VM).
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from kluis.errors import KluisError, PolicyError
from kluis.evidence import Claims, Tee
from kluis.formats.wrappers import oe
from kluis.frozen import frozen
from kluis.services.attestation.claims import sgx_claims, snp_claims, tdx_claims
from kluis.services.attestation.claims.guest import guest_aliases, guest_claims
from kluis.services.attestation.claims.sgx import legacy_claims
from kluis.services.attestation.evidence import baselines, bound_data
from kluis.services.attestation.evidence.bound_data import Bound
from kluis.services.attestation.evidence.compliance import compliance_status
from kluis.services.attestation.evidence.platforms import MAX_BUNDLE, MAX_QUOTE, DebugTee, Platforms, Quoted
from kluis.services.attestation.evidence.uvm import find_endorsement, uvm_claims
from kluis.services.attestation.faults import InvalidEvidence, InvalidParameter
from kluis.services.attestation.guest import guest_request, guests
from kluis.services.attestation.guest.guest_envelope import enclose
from kluis.services.attestation.instances import Instance
from kluis.services.attestation.kinds import AttestationType
from kluis.services.attestation.octets import decode_base64
from kluis.services.attestation.policies.evaluation import evaluate_policy
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

MOST_COLLATERAL: Final = 4 << 20
MOST_NONCE: Final = 4096
_NO_VARIABLES: Final = (
    "no variable of secure boot is validated, because the service is configured with no values: list"
    " them in attestation.secure_boot_variables of kluis serve --settings FILE; or set another policy"
)
_Body = AttestSgx | AttestOpenEnclave | AttestReport | AttestTdx


class TokenForm(enum.Enum):
    """The format of a token."""

    AZURE = enum.auto()
    """A JWT in the format of Azure's clients."""
    EAR = enum.auto()
    """An attestation result of the IETF (EAR)."""


@frozen
class _Request:
    """One request for a token.

    Attributes:
        instance: that attests.
        body: unchanged from the client.
        now: aware.
        form: of the token.
    """

    instance: Instance
    body: _Body
    now: datetime
    form: TokenForm


class _Data(NamedTuple):
    """Data that evidence must be bound to, if a request has them."""

    runtime: Bound | None
    initial: Bound | None


@frozen
class _Attested:
    """The verified content of one piece of evidence.

    Attributes:
        evidence: its claims, verified.
        claims: the same, as stated in a token.
        aliases: other names for them in policies.
        endorsed: whether a trusted endorser signed a utility VM's launch.
        refused: the reason why there is no token, whatever the policy permits.
    """

    evidence: Claims
    claims: dict[str, Any]
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
        """Attest an SGX enclave from its quote.

        Raises:
            InvalidParameter: the request is malformed.
            InvalidEvidence: the quote fails verification, or is not bound to the data.
            PolicyError: the policy does not permit it.
        """
        quote = decode_base64(request.quote, "quote", most=MAX_QUOTE)
        return self._enclave(_Request(instance, request, now, form), AttestationType.SGX_ENCLAVE, quote)

    def open_enclave(
        self, instance: Instance, request: AttestOpenEnclave, now: datetime, form: TokenForm = TokenForm.AZURE
    ) -> str:
        """Attest an SGX enclave from its Open Enclave report, a header and a quote; like :meth:`sgx`."""
        report = decode_base64(request.report, "report", most=MAX_QUOTE)
        try:
            quote = oe.parse_report(report)
        except KluisError as error:
            raise InvalidEvidence(error.message, hint=error.hint, code=error.code) from None
        return self._enclave(_Request(instance, request, now, form), AttestationType.OPEN_ENCLAVE, quote)

    def snp(
        self, instance: Instance, request: AttestReport, now: datetime, form: TokenForm = TokenForm.AZURE
    ) -> str:
        """Attest an SEV-SNP guest; like :meth:`sgx`."""
        bundle = decode_base64(request.report, "report", most=MAX_BUNDLE)
        quoted, refused = _verify(lambda: Quoted(self._platforms.report(bundle, now), {}))
        evidence = quoted.claims
        endorsers = self._settings.compliance.uvm_endorsers
        endorsement = find_endorsement(bundle, evidence, endorsers, self._platforms.context)
        policy = self._policy(instance, AttestationType.SEV_SNP_VM, request.draftPolicyForAttestation)
        claims = snp_claims(evidence) | uvm_claims(endorsement)
        attested = _Attested(evidence, claims, endorsed=endorsement is not None, refused=refused)
        return self._guest(_Request(instance, request, now, form), policy, attested)

    def tdx(
        self, instance: Instance, request: AttestTdx, now: datetime, form: TokenForm = TokenForm.AZURE
    ) -> str:
        """Attest a trust domain; like :meth:`sgx`."""
        quote = decode_base64(request.quote, "quote", most=MAX_QUOTE)
        quoted, refused = _verify(lambda: self._platforms.quote(quote, Tee.TDX, _bundle(request), now))
        policy = self._policy(instance, AttestationType.TDX_VM, request.draftPolicyForAttestation)
        attested = _Attested(quoted.claims, tdx_claims(quoted.claims), refused=refused)
        return self._guest(_Request(instance, request, now, form), policy, attested)

    def guest(self, instance: Instance, request: AttestGuest, now: datetime) -> str:
        """Attest an Azure guest; return an envelope that only its TPM opens.

        Raises:
            InvalidParameter: the request is malformed.
            InvalidEvidence: a part of the request fails verification.
            PolicyError: the policy does not permit it.
        """
        text = request.client if request.client is not None else request.attestationInfo
        if not text:
            raise InvalidParameter("AttestationInfo: want text, got none")
        draft = request.draftPolicyForAttestation
        guest = guests.verify(guest_request.parse(text), self._platforms, now)
        policy = self._policy(instance, AttestationType.AZURE_GUEST, draft)
        claims = guest_claims(guest, self._settings)
        claims |= about(policy)
        try:
            result = evaluate_policy(policy, claims, aliases=guest_aliases(claims))
        except PolicyError as error:
            denied = "A Deny claim was issued" in error.message and "validated" in error.message
            if self._settings.secure_boot_variables or not denied:
                raise
            raise PolicyError(error.message, hint=_NO_VARIABLES, code=error.code) from None
        token_claims = {**claims, **result.issued}
        token = self._tokens.about_evidence(instance, token_claims, now, draft=draft is not None)
        return enclose(token, guest.key)

    def _enclave(self, request: _Request, kind: AttestationType, quote: bytes) -> str:
        data, bundle = _data(request.body), _bundle(request.body)
        quoted, refused = _verify(lambda: self._platforms.quote(quote, Tee.SGX, bundle, request.now))
        _check_bound(quoted.claims, data)
        policy = self._policy(request.instance, kind, request.body.draftPolicyForAttestation)
        wanted = policy.properties.get(baselines.PROPERTY, baselines.DEFAULT)
        baselines.check(quoted.claims, baselines.baseline(wanted))
        claims = sgx_claims(quoted.claims, quoted.collateral, data.runtime)
        attested = _Attested(quoted.claims, claims, legacy_claims(claims), refused=refused)
        return self._issue(request, policy, attested, data)

    def _guest(self, request: _Request, policy: HeldPolicy, attested: _Attested) -> str:
        data = _data(request.body)
        _check_bound(attested.evidence, data)
        lists = self._settings.compliance
        status = compliance_status(attested.evidence, data.runtime, lists, endorsed=attested.endorsed)
        if status is not None:
            attested.claims["x-ms-compliance-status"] = status
        return self._issue(request, policy, attested, data)

    def _policy(self, instance: Instance, kind: AttestationType, draft: str | None) -> HeldPolicy:
        # Parsed only after the evidence is verified, so that unverified clients cannot make the service parse
        # their text.
        return self._policies.current(instance, kind) if draft is None else hold_draft(draft)

    def _issue(self, request: _Request, policy: HeldPolicy, attested: _Attested, data: _Data) -> str:
        instance, now = request.instance, request.now
        claims = {**attested.claims, **about(policy)}
        if data.runtime is not None and data.runtime.value is not None:
            claims["x-ms-runtime"] = data.runtime.value
        if data.initial is not None and data.initial.value is not None:
            claims["x-ms-inittime"] = data.initial.value
        if request.body.nonce is not None:
            claims["nonce"] = _nonce(request.body.nonce)
        result = evaluate_policy(policy, claims, aliases=attested.aliases)
        if attested.refused is not None:
            raise attested.refused
        draft = request.body.draftPolicyForAttestation is not None
        if request.form is TokenForm.EAR:
            if draft:
                raise InvalidParameter(
                    "draftPolicyForAttestation: want no draft if an EAR is requested, got one",
                    hint="the result of a draft is unsigned, and an EAR must be signed",
                )
            ear = ears.of(attested.evidence, claims, result.issued, now, self._settings.token_seconds)
            return self._tokens.as_ear(instance, ear, now)
        return self._tokens.about_evidence(instance, {**claims, **result.issued}, now, draft=draft)


def _verify(verify: Callable[[], Quoted]) -> tuple[Quoted, DebugTee | None]:
    """Verify evidence; if there can be no token, keep the reason, because a policy's denial is reported
    first.
    """
    try:
        return verify(), None
    except DebugTee as refused:
        return refused.quoted, refused


def _data(body: _Body) -> _Data:
    return _Data(
        bound_data.read(body.runtimeData, "runtimeData"), bound_data.read(body.initTimeData, "initTimeData")
    )


def _check_bound(evidence: Claims, data: _Data) -> None:
    bound_data.check_runtime(evidence, data.runtime)
    bound_data.check_init_time(evidence, data.initial)


def _bundle(body: _Body) -> bytes | None:
    collateral = body.collateral
    return (
        None if collateral is None else decode_base64(collateral, "x-kluis-collateral", most=MOST_COLLATERAL)
    )


def _nonce(nonce: str | int) -> str | int:
    if isinstance(nonce, str) and len(nonce) > MOST_NONCE:
        raise InvalidParameter(f"nonce: want at most {MOST_NONCE} characters, got {len(nonce)}")
    if isinstance(nonce, int) and not 0 <= nonce < 1 << 64:
        raise InvalidParameter("nonce: want 0 to 2^64-1")
    return nonce
