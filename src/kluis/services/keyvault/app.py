"""The key service's operations: paths, required roles, and handlers.

Spec: Azure Key Vault REST API, data plane, keys. Without a version, the path is ``/keys/NAME/`` or
``/keys/NAME//operation`` in Azure's clients, or ``/keys/NAME/operation`` in others. The .NET client also
writes ``/keys/``, ``/deletedkeys/`` and ``/keys//restore``, and the C++ client ``/keys/NAME/%2F`` for the
latest version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kluis.enclave.store.model import Storage
from kluis.errors import FormatError, KluisError
from kluis.services.clock import Clock
from kluis.services.keyvault import requests
from kluis.services.keyvault.access import VaultGate
from kluis.services.keyvault.crypto.operations import OPERATIONS, Use
from kluis.services.keyvault.faults import BadParameter, Conflict, Forbidden, KeyNotFound
from kluis.services.keyvault.handlers import Handlers
from kluis.services.keyvault.hosts import Hosts
from kluis.services.keyvault.keys.keys import Keys
from kluis.services.keyvault.keys.lifecycle import Lifecycle
from kluis.services.keyvault.keys.upkeep import Upkeep
from kluis.services.keyvault.release.engine import Releases
from kluis.services.keyvault.release.keyring import Endorse, Fetch, Keyring
from kluis.services.keyvault.release.signer import Certify, Signer, Vouch
from kluis.services.keyvault.settings import Settings
from kluis.services.keyvault.vault.audit import Recorder
from kluis.services.keyvault.vault.authorities import canonical
from kluis.services.keyvault.vault.clock import VaultClock
from kluis.services.keyvault.vault.trust import MOST_SIZE
from kluis.services.keyvault.vault.vault import start
from kluis.services.web import Answer, Bearer, Call, Operation, Refusal, Service

MOST_BODY: Final = 256 * 1024
MOST_RESTORE: Final = 6 << 20
# More than the number of processors: a release waits until its record is on the host's disk.
THREADS: Final = 8
API_VERSION: Final = "7.4"
SERVICE_VERSION: Final = "1.9.3079.1"
_ACCESS: Final = {
    "encrypt": "keys/encrypt", "decrypt": "keys/decrypt", "wrapkey": "keys/wrap", "unwrapkey": "keys/unwrap",
    "sign": "keys/sign", "verify": "keys/verify",
}  # fmt: skip


def service(
    settings: Settings,
    storage: Storage,
    clock: Clock,
    *,
    fetch: Fetch,
    endorse: Endorse = lambda quote: None,
    certify: Certify | None = None,
    vouch: Vouch = lambda payload: None,
) -> Service:
    """The key service, as an ASGI application.

    Args:
        settings: the operator's.
        storage: of this service, sealed.
        clock: the services' clock.
        fetch: fetches an authority's documents, through the host.
        endorse: finds collateral for an authority's quote, through the host.
        certify: makes the service's own authority certify the key that signs releases; None: there is no
            authority.
        vouch: makes this enclave quote a statement about that key; returns None outside an enclave.

    Raises:
        PolicyError: the vault has had keys under another set of authorities and issuer, and this set was not
            approved.
        UsageError: an invalid setting.
    """
    now = clock.now()
    authorities, issuer = canonical(settings.authorities), settings.pinned_issuer()
    keyring = Keyring(
        settings.authorities,
        fetch,
        endorse,
        life_seconds=settings.keys_life_seconds,
        refetch_seconds=settings.refetch_seconds,
    )
    bearer, hosts = Bearer(settings.issuer), Hosts(settings.names, settings.url)
    # Checked after everything else that can be wrong with the set: a vault that adopted a set under which it
    # cannot start could never approve another.
    vault = start(storage, settings.rules(), authorities, issuer, int(now.timestamp()))
    signer, keys = Signer(certify, vouch, now, vault.name), Keys(vault)
    vault_clock = VaultClock(storage, clock)
    handlers = Handlers(
        settings,
        vault,
        clock,
        keys,
        Lifecycle(vault, vault_clock),
        Use(vault),
        Releases(vault, keyring, signer, Recorder(vault.storage)),
        signer,
        hosts,
    )
    return Service(
        "keyvault",
        "Kluis key service",
        _operations(handlers),
        gate=VaultGate(
            bearer, clock, settings.authorization, settings.resource, settings.other_resources, hosts
        ),
        clock=clock,
        ready=vault.ready,
        refusal_of=refusal_of,
        threads=THREADS,
        upkeep=Upkeep(keys, vault_clock).tend,
        bad_request=BadParameter.wire,
        version=API_VERSION,
        headers={"x-ms-keyvault-service-version": SERVICE_VERSION, "x-ms-keyvault-region": "local"},
    )


def refusal_of(error: KluisError) -> Refusal:
    """The refusal for an error of this service."""
    if isinstance(error, BadParameter | Conflict | Forbidden | KeyNotFound):
        details = [each._asdict() for each in error.details]
        return Refusal(
            error.http_status, error.wire, error.message, inner=error.inner, details=details, hint=error.hint
        )
    if isinstance(error, FormatError):
        return Refusal(400, BadParameter.wire, error.message, hint=error.hint)
    return Refusal.of(error)


def _operations(h: Handlers) -> tuple[Operation, ...]:
    return (*_keys(h), *_deleted_operations(h), *_uses(h), *_release(h), *_list_own(h))


def _keys(h: Handlers) -> tuple[Operation, ...]:
    one, turning = "/keys/{name}", "/keys/{name}/rotationpolicy"
    read, write = "keys/rotationpolicy/read", "keys/rotationpolicy/write"
    summary = "This enclave's statement about a key."
    return (
        _op("CreateKey", "POST", f"{one}/create", h.create, "keys/create", "Make a key.", requests.Create),
        _op("ImportKey", "PUT", one, h.bring, "keys/import", "Keep a key that is brought.", requests.Import),
        *_versions("GetKey", "GET", h.get, "keys/read", "A key's public half.", None),
        _op("GetKeyEncoded", "GET", f"{one}/%2F", h.get, "keys/read", "Likewise, of the latest version."),
        *_versions("UpdateKey", "PATCH", h.update, "keys/update", "Change a key.", requests.Update),
        *_op_pair("GetKeys", "GET", "/keys", "/keys/", h.names, "keys/read", "Every key's latest version."),
        _op("GetKeyVersions", "GET", f"{one}/versions", h.versions, "keys/read", "Every version of a key."),
        _op("RotateKey", "POST", f"{one}/rotate", h.rotate, "keys/rotate", "Make a new version."),
        _op("GetKeyRotationPolicy", "GET", turning, h.rotation_policy, read, "A key's rotation policy."),
        _op(
            "UpdateKeyRotationPolicy", "PUT", turning, h.set_rotation_policy, write,
            "Set a rotation policy: the vault makes new versions by it.", requests.RotationPolicy,
        ),
        _op("BackupKey", "POST", f"{one}/backup", h.back_up, "keys/backup", "A key as one sealed blob."),
        *_op_pair(
            "RestoreKey", "POST", "/keys/restore", "/keys//restore", h.restore, "keys/restore",
            "Bring a key back.", requests.Backup, most=MOST_RESTORE,
        ),
        *_versions("GetKeyAttestation", "GET", h.attestation, "keys/read", summary, None, "attestation"),
    )  # fmt: skip


def _deleted_operations(h: Handlers) -> tuple[Operation, ...]:
    one = "/deletedkeys/{name}"
    return (
        _op("DeleteKey", "DELETE", "/keys/{name}", h.delete, "keys/delete", "Delete a key."),
        _op("GetDeletedKey", "GET", one, h.show_deleted, "deletedkeys/read", "A deleted key."),
        *_op_pair(
            "GetDeletedKeys",
            "GET",
            "/deletedkeys",
            "/deletedkeys/",
            h.all_deleted,
            "deletedkeys/read",
            "Every deleted key.",
        ),
        _op("RecoverDeletedKey", "POST", f"{one}/recover", h.recover, "keys/recover", "Bring a key back."),
        _op("PurgeDeletedKey", "DELETE", one, h.purge, "keys/purge", "Forget a key for good.", status=204),
    )


def _uses(h: Handlers) -> tuple[Operation, ...]:
    made: list[Operation] = []
    for verb in OPERATIONS:
        summary = f"Use a key: {verb}."
        body = requests.Operate
        made += _versions(verb.capitalize(), "POST", h.use(verb), _ACCESS[verb], summary, body, verb)
    return tuple(made)


def _release(h: Handlers) -> tuple[Operation, ...]:
    summary = "A key, wrapped to an attested environment's own."
    return _versions("Release", "POST", h.release, "keys/release", summary, requests.Release, "release")


def _list_own(h: Handlers) -> tuple[Operation, ...]:
    return (
        _op("GetRandomBytes", "POST", "/rng", h.random, "rng", "Random bytes.", requests.Random),
        _op("GetAudit", "GET", "/audit", h.audit, "audit/read", "What happened to keys, chained by hashes."),
        Operation(
            name="GetConfiguration", method="GET", path="/configuration", handler=h.configuration,
            summary="Which authorities are pinned, and whose tokens hold.", versioned=False,
        ),
        Operation(
            name="ApproveTrust", method="PUT", path="/configuration/next", handler=h.approve,
            summary="Let the vault be started under these authorities and this issuer next.",
            access="trust/write", versioned=False, body=requests.Trust, most_bytes=MOST_SIZE,
        ),
        Operation(
            name="WithdrawTrust", method="DELETE", path="/configuration/next", handler=h.withdraw,
            summary="Forget what was approved.", access="trust/write", versioned=False, status=204,
        ),
    )  # fmt: skip


def _versions(
    name: str, method: str, handler: Callable[[Call], Answer], access: str, summary: str, body: Any,
    verb: str = "",
) -> tuple[Operation, ...]:  # fmt: skip
    """One operation on a version, by each path with or without a version."""
    end = f"/{verb}" if verb else ""
    paths = {
        name: f"/keys/{{name}}/{{version}}{end}",
        f"{name}Latest": f"/keys/{{name}}/{end}",
        f"{name}Unversioned": f"/keys/{{name}}{end}",
    }
    return tuple(_op(each, method, path, handler, access, summary, body) for each, path in paths.items())


def _op_pair(
    name: str, method: str, path: str, slashed: str, handler: Callable[[Call], Answer], access: str,
    summary: str, body: Any = None, *, most: int = MOST_BODY,
) -> tuple[Operation, ...]:  # fmt: skip
    """One operation by its path, and by the path of a client that writes one more slash."""
    paths = {name: path, f"{name}Slashed": slashed}
    return tuple(
        _op(each, method, path, handler, access, summary, body, most=most) for each, path in paths.items()
    )


def _op(
    name: str, method: str, path: str, handler: Callable[[Call], Answer], access: str, summary: str,
    body: Any = None, *, status: int = 200, most: int = MOST_BODY,
) -> Operation:  # fmt: skip
    return Operation(
        name=name, method=method, path=path, handler=handler, access=access, summary=summary, body=body,
        status=status, most_bytes=most,
    )  # fmt: skip
