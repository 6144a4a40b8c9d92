"""The HTTP operations of the data plane: parse each request, call the engine, and build the response."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final, TypeAlias, TypeVar

import msgspec

from kluis.services.attestation.attesting import TokenForm
from kluis.services.attestation.engine import Engine
from kluis.services.attestation.faults import InvalidParameter
from kluis.services.attestation.instances import Instance
from kluis.services.attestation.kinds import AttestationType
from kluis.services.attestation.policies.certificates import certificate_body
from kluis.services.attestation.requests import (
    AttestGuest,
    AttestOpenEnclave,
    AttestReport,
    AttestSgx,
    AttestTdx,
    Baselines,
    Token,
    TpmMessage,
    respell,
)
from kluis.services.attestation.tokens.ears import TYPE
from kluis.services.clock import Clock
from kluis.services.web import Answer, Call, Refusal

DRAFT_SECONDS: Final = 0.2
EAT: Final = f"application/{TYPE}"
_Evidence: TypeAlias = AttestSgx | AttestOpenEnclave | AttestReport | AttestTdx
E = TypeVar("E", AttestSgx, AttestOpenEnclave, AttestReport, AttestTdx)


class Rotation(msgspec.Struct):
    """When a new signing key starts to sign.

    Attributes:
        signs_in_seconds: from now; None for the usual time.
    """

    signs_in_seconds: int | None = None


class Handlers:
    """Answers requests.

    Args:
        engine: the service.
        clock: returns the time.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._drafting = threading.Lock()

    def sgx(self, call: Call) -> Answer:
        """Attest an SGX enclave."""
        return self._attest(call, AttestSgx, self._engine.attesting.sgx)

    def open_enclave(self, call: Call) -> Answer:
        """Attest an SGX enclave from an Open Enclave report."""
        return self._attest(call, AttestOpenEnclave, self._engine.attesting.open_enclave)

    def snp(self, call: Call) -> Answer:
        """Attest an SEV-SNP guest."""
        return self._attest(call, AttestReport, self._engine.attesting.snp)

    def tdx(self, call: Call) -> Answer:
        """Attest a trust domain."""
        return self._attest(call, AttestTdx, self._engine.attesting.tdx)

    def guest(self, call: Call) -> Answer:
        """Attest an Azure guest."""
        request = call.json(AttestGuest)
        with self._alone(request):
            return Answer(Token(self._engine.attesting.guest(self._of(call), request, self._clock.now())))

    def tpm(self, call: Call) -> Answer:
        """Answer a message of the TPM protocol."""
        message = call.json(TpmMessage)
        return Answer(TpmMessage(self._engine.tpm.answer(self._of(call), message.data, self._clock.now())))

    def get_policy(self, call: Call) -> Answer:
        """Return the policy in force."""
        return Answer(Token(self._engine.policies.get(self._of(call), _kind(call), self._clock.now())))

    def set_policy(self, call: Call) -> Answer:
        """Set a policy."""
        now = self._clock.now()
        return Answer(Token(self._engine.policies.set(self._of(call), _kind(call), _text(call), now)))

    def reset_policy(self, call: Call) -> Answer:
        """Restore the default policy."""
        now = self._clock.now()
        return Answer(Token(self._engine.policies.reset(self._of(call), _kind(call), _text(call), now)))

    def get_certificates(self, call: Call) -> Answer:
        """List the policy management certificates."""
        return Answer(Token(self._engine.certificates.get(self._of(call), self._clock.now())))

    def add_certificate(self, call: Call) -> Answer:
        """Add a policy management certificate."""
        jws = certificate_body(call.body)
        return Answer(Token(self._engine.certificates.add(self._of(call), jws, self._clock.now())))

    def remove_certificate(self, call: Call) -> Answer:
        """Remove a policy management certificate."""
        jws = certificate_body(call.body)
        return Answer(Token(self._engine.certificates.remove(self._of(call), jws, self._clock.now())))

    def certs(self, call: Call) -> Answer:
        """List the signing keys."""
        return Answer(self._engine.certs(self._of(call), self._clock.now()))

    def rotate(self, call: Call) -> Answer:
        """Make a new signing key."""
        rotation = call.json(Rotation) if call.body else Rotation()
        usual = self._engine.settings.publish_seconds
        delay = usual if rotation.signs_in_seconds is None else rotation.signs_in_seconds
        if not 0 <= delay <= self._engine.settings.key_seconds:
            raise InvalidParameter(
                f"signs_in_seconds: want 0 to {self._engine.settings.key_seconds}, got {delay}"
            )
        instance, now = self._of(call), self._clock.now()
        self._engine.keys.rotate(instance.key, instance.url, now, delay)
        return Answer(self._engine.certs(instance, now))

    def metadata(self, call: Call) -> Answer:
        """Return the OpenID metadata."""
        return Answer(self._engine.metadata(self._of(call)))

    def baselines(self, call: Call) -> Answer:
        """List the TCB baselines."""
        return Answer(Baselines(self._engine.baselines(self._of(call), _kind(call))))

    def _of(self, call: Call) -> Instance:
        return self._engine.instances.find(call.path.get("instance"))

    @contextlib.contextmanager
    def _alone(self, request: _Evidence | AttestGuest) -> Iterator[None]:
        """Evaluate one draft policy at a time: an untrusted policy can take a second, evidence a millisecond.

        Raises:
            Refusal: 503, another one is being evaluated.
        """
        if request.draftPolicyForAttestation is None:
            yield
            return
        if not self._drafting.acquire(timeout=DRAFT_SECONDS):
            raise Refusal(
                503,
                "ServerBusy",
                "draftPolicyForAttestation: want one at a time, got one more",
                headers={"Retry-After": "1"},
                hint="send it again; kluis policy eval tries a policy without a service",
            )
        try:
            yield
        finally:
            self._drafting.release()

    def _attest(
        self, call: Call, kind: type[E], attest: Callable[[Instance, E, datetime, TokenForm], str]
    ) -> Answer:
        request, form = _read(call, kind), _form(call)
        with self._alone(request):
            token = attest(self._of(call), request, self._clock.now(), form)
        headers = _warnings(request)
        if form is TokenForm.EAR:
            return Answer(token, content_type=EAT, headers=headers)
        return Answer(Token(token), headers=headers)


def _read(call: Call, kind: type[E]) -> E:
    """Read a request with evidence; member names match without regard to case, because clients differ."""
    members = call.json(dict[str, msgspec.Raw])
    return dataclasses.replace(call, body=respell(members, kind)).json(kind)


def _warnings(request: _Evidence) -> dict[str, str]:
    """Warn when a client declared a data type but sent no data: Azure's Python client drops JSON init-time
    data.
    """
    named = (("runtimeData", request.runtimeData), ("initTimeData", request.initTimeData))
    lacks = [name for name, data in named if data is not None and data.dataType and not data.data]
    return {"Warning": f'299 - "{lacks[0]}: has a type and no data, and was ignored"'} if lacks else {}


def _form(call: Call) -> TokenForm:
    accept = call.headers.get("accept", "")
    return TokenForm.EAR if EAT in accept.lower() else TokenForm.AZURE


def _kind(call: Call) -> AttestationType:
    return AttestationType.of(call.path["type"])


def _text(call: Call) -> str:
    try:
        return call.body.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidParameter("body: want a JWS, got bytes that are no ASCII text") from None
