"""The attestation service as an ASGI application: Azure Attestation's REST API, with instances in the paths.

Each operation of the data plane has two paths: one at the root for the default instance, and one under
``/instances/<name>`` for instances that the control plane created.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import kluis
from kluis.enclave.store.model import Storage
from kluis.errors import KluisError
from kluis.services.attestation.control_plane.control_plane import ControlPlane
from kluis.services.attestation.engine import Engine
from kluis.services.attestation.evidence.collateral import Endorsements
from kluis.services.attestation.gate import READ, TPM, WRITE, AttestationGate
from kluis.services.attestation.handlers import Handlers, Rotation
from kluis.services.attestation.refusals import refusal_of
from kluis.services.attestation.requests import (
    AttestGuest,
    AttestOpenEnclave,
    AttestReport,
    AttestSgx,
    AttestTdx,
    Baselines,
    Jwks,
    Token,
    TpmMessage,
)
from kluis.services.attestation.settings import AttestationSettings
from kluis.services.attestation.tokens.signing_certificate import Vouch
from kluis.services.clock import Clock
from kluis.services.web import Answer, Bearer, Call, Operation, Service

TITLE: Final = "Kluis attestation service"
INSTANCE: Final = "/instances/{instance}"
MOST_BODY: Final = 4 << 20


def service(
    settings: AttestationSettings,
    storage: Storage,
    clock: Clock,
    bearer: Bearer | None,
    *,
    vouch: Vouch,
    ask: Endorsements | None,
) -> Service:
    """Build the service.

    Args:
        settings: of the service.
        storage: of policies, keys and instances.
        clock: returns the time; inside an enclave, the host's time.
        bearer: checks callers' tokens; None: nobody may change a policy.
        vouch: makes this enclave quote a statement; returns None if there is no enclave.
        ask: fetches collateral from outside; None: only the settings' collateral is used.

    Raises:
        KluisError: a setting is invalid.
    """
    engine = Engine(settings, storage, vouch, ask, None if bearer is None else bearer.issuer)

    def tpm_open(target: str) -> bool:
        parts = target.split("/")
        name = parts[2] if len(parts) > 2 and parts[1].lower() == "instances" else None
        try:
            return not engine.instances.find(name).tpm_authentication
        except KluisError:
            return False

    return Service(
        "attestation",
        TITLE,
        operations(engine, clock),
        gate=AttestationGate(bearer, clock, tpm_open),
        clock=clock,
        ready=lambda: engine.ready(clock.now()),
        refusal_of=refusal_of,
        headers={"x-ms-maa-service-version": f"kluis {kluis.__version__}"},
        trailing_slash=True,  # as Azure's own: Gramine's RA-TLS requests /certs/
    )


def operations(engine: Engine, clock: Clock) -> tuple[Operation, ...]:
    """All operations of the service."""
    here = _data_plane(Handlers(engine, clock))
    there = tuple(
        dataclasses.replace(each, name=f"{each.name}OfInstance", path=INSTANCE + each.path) for each in here
    )
    return (*here, *there, *ControlPlane(engine, clock).operations)


def _data_plane(handlers: Handlers) -> tuple[Operation, ...]:
    def attest(name: str, path: str, handler: Callable[[Call], Answer], what: str, body: Any) -> Operation:
        return Operation(
            name,
            "POST",
            f"/attest/{path}",
            handler,
            f"Attest {what}.",
            body=body,
            result=Token,
            most_bytes=MOST_BODY,
        )

    def about(
        name: str,
        method: str,
        path: str,
        handler: Callable[[Call], Answer],
        summary: str,
        access: str | None = None,
        body: Any = None,
        result: Any = Token,
        versioned: bool = True,
    ) -> Operation:
        return Operation(
            name, method, path, handler, summary, access, body, result=result, versioned=versioned
        )

    policy, certificates = "/policies/{type}", "/certificates"
    return (
        attest("AttestSgxEnclave", "SgxEnclave", handlers.sgx, "an SGX enclave", AttestSgx),
        attest(
            "AttestOpenEnclave",
            "OpenEnclave",
            handlers.open_enclave,
            "an Open Enclave report",
            AttestOpenEnclave,
        ),
        attest("AttestSevSnpVm", "SevSnpVm", handlers.snp, "an SEV-SNP guest", AttestReport),
        attest("AttestAzureGuest", "AzureGuest", handlers.guest, "an Azure guest", AttestGuest),
        attest("AttestTdxVm", "TdxVm", handlers.tdx, "a trust domain", AttestTdx),
        Operation(
            name="AttestTpm",
            method="POST",
            path="/attest/Tpm",
            handler=handlers.tpm,
            summary="Answer a message of the TPM protocol.",
            access=TPM,
            body=TpmMessage,
            result=TpmMessage,
            most_bytes=2 * MOST_BODY,
        ),
        about("GetPolicy", "GET", policy, handlers.get_policy, "Say which policy holds.", READ),
        about("SetPolicy", "PUT", policy, handlers.set_policy, "Set a policy.", WRITE, str),
        about("ResetPolicy", "POST", policy + ":reset", handlers.reset_policy, "Reset a policy.", WRITE, str),
        about("GetCertificates", "GET", certificates, handlers.get_certificates, "List signers.", READ),
        about(
            "AddCertificate",
            "POST",
            certificates + ":add",
            handlers.add_certificate,
            "Add a signer.",
            WRITE,
            str,
        ),
        about(
            "RemoveCertificate",
            "POST",
            certificates + ":remove",
            handlers.remove_certificate,
            "Remove a signer.",
            WRITE,
            str,
        ),
        about(
            "GetSigningKeys",
            "GET",
            "/certs",
            handlers.certs,
            "List the signing keys.",
            result=Jwks,
            versioned=False,
        ),
        about(
            "RotateSigningKey",
            "POST",
            "/certs:rotate",
            handlers.rotate,
            "Make a new signing key.",
            WRITE,
            Rotation,
            Jwks,
            False,
        ),
        about(
            "GetMetadata",
            "GET",
            "/.well-known/openid-configuration",
            handlers.metadata,
            "Give the OpenID metadata.",
            result=None,
            versioned=False,
        ),
        about(
            "GetTcbBaselines",
            "GET",
            "/tcbbaselines/{type}",
            handlers.baselines,
            "List TCB baselines.",
            result=Baselines,
        ),
    )
