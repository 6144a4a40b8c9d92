"""Build each service's settings, one JSON document, from the plan and the other running services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kluis.errors import UsageError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.frozen import frozen
from kluis.serve.images import ServiceImage
from kluis.serve.issuer.signing import object_id
from kluis.serve.ledger.hosting import Member
from kluis.services import issuers
from kluis.services.attestation.settings import AttestationSettings
from kluis.services.attestation.tokens.settings_digest import digest
from kluis.services.web import Issuer

# As declared in :mod:`kluis.services.attestation.inside`.
ATTESTATION_PRODUCT: Final = 101
# The audiences of Azure's clients, by service; each service also accepts its own address.
AUDIENCES: Final[Mapping[str, tuple[str, ...]]] = {
    "attestation": (
        "https://attest.azure.net",
        "https://management.azure.com",
        "https://management.core.windows.net",
    ),
    "keyvault": ("https://vault.azure.net", "https://managedhsm.azure.net"),
    "ledger": ("https://confidential-ledger.azure.com",),
    "provisioning": ("https://provisioning.kluis",),
}
# The development issuer's clients and their roles.
ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "admin": (
        "Attestation Contributor",
        "Contributor",
        "Key Vault Crypto Officer",
        "Key Vault Crypto User",
        "Key Vault Crypto Service Release User",
        "Provisioning Contributor",
    ),
    "reader": ("Attestation Reader", "Reader", "Key Vault Reader", "Provisioning Reader"),
    "workload": ("Attestation Reader", "Key Vault Crypto Service Release User"),
    "stale": ("Key Vault Reader",),
    "auditor": ("Kluis Auditor",),
    "administrator": ("Key Vault Administrator",),
}
# Their roles in a ledger, which stores them.
LEDGER_ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "admin": ("Administrator",),
    "reader": ("Reader",),
    "workload": ("Contributor",),
}
# The key service requires a newer token from them once, so that a client's reaction can be tested.
STALE: Final = frozenset({"stale"})


@frozen(kw_only=True)
class Deployment:
    """The deployment, as far as settings depend on it.

    Attributes:
        addresses: of each service, ``https://host:port``.
        issuer: of bearer tokens; each service gets its own audiences.
        authorization: where clients get tokens.
        images: of the running services.
        platform_root: of this machine's platform, PEM.
        level: of its enclaves.
        store_key: what stores are sealed to, and so how the vault identifies the attestation service.
        given: the operator's settings, by service, which override the generated ones.
        authorities: of the vault, in addition to the attestation service that runs here.
        missing: protections that this machine may do without, allowed by the operator.
        names: of the services for clients; those with a ``*`` are for all of them.
        member: the first member of a ledger, if one runs.
    """

    addresses: Mapping[str, str]
    issuer: Issuer
    authorization: str
    images: Mapping[str, ServiceImage]
    platform_root: bytes
    level: str
    store_key: str
    given: Mapping[str, Mapping[str, Any]]
    authorities: tuple[Mapping[str, Any], ...] = ()
    missing: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    member: Member | None = None


def settings_of(service: str, deployment: Deployment) -> bytes:
    """Build the document for one service, JSON."""
    url = deployment.addresses[service]
    resource = _resource(url)
    others = _other_resources(url, deployment.names) if service == "keyvault" else ()
    issuer = _issuer(service, deployment)
    settings = deployment.given.get(service, {})
    made: Mapping[str, Any]
    if service == "attestation":
        made = {"issuer": issuer, "attestation": _attestation(deployment)}
    elif service == "keyvault":
        made = {
            "issuer": issuer,
            "authorization": deployment.authorization,
            "resource": resource,
            "other_resources": others,
            "names": deployment.names,
            "authorities": _authorities(deployment),
            **settings,
        }
    elif service == "ledger":
        made = {**_ledger(deployment), **settings}
    else:
        made = {"issuer": issuer, "level": deployment.level, **settings}
    return msgspec.json.encode(made)


def _issuer(service: str, deployment: Deployment) -> Issuer:
    """The issuer with the service's audiences."""
    url = deployment.addresses[service]
    others = _other_resources(url, deployment.names) if service == "keyvault" else ()
    audiences = (*AUDIENCES[service], url, _resource(url), *others)
    return msgspec.structs.replace(deployment.issuer, audiences=audiences)


def _resource(url: str) -> str:
    """The resource in a vault's challenge: Azure's clients require the vault's host to end in a dot and this.

    A numeric host has no ``https`` prefix here: a JavaScript client parses such a host like browsers, which
    read 0.0.1 as 0.0.0.1. Entra also uses ``api`` for resources.
    """
    scheme, _, authority = url.partition("://")
    first, _, parent = authority.partition(".")
    return f"{'api' if first.isdigit() else scheme}://{parent or authority}"


def _other_resources(url: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The same for every other name with a dot in it."""
    port = url.rpartition(":")[2]
    parents = sorted({name.partition(".")[2] for name in names if not name[-1:].isdigit()} - {""})
    return tuple(f"https://{parent}:{port}" for parent in parents)


def _attestation(deployment: Deployment) -> dict[str, Any]:
    return {"url": deployment.addresses["attestation"], **deployment.given.get("attestation", {})}


def attestation_digest(deployment: Deployment) -> bytes:
    """The digest of the attestation service's settings, as in its signing keys' evidence.

    Raises:
        UsageError: the settings have another shape.
    """
    try:
        settings = msgspec.json.decode(
            msgspec.json.encode(_attestation(deployment)), type=AttestationSettings
        )
    except UNREADABLE as error:
        raise UsageError(f"attestation settings: {error}") from None
    changing = settings.insecure_changing_issuer
    return digest(settings, issuers.canonical(_issuer("attestation", deployment), changing=changing))


def _ledger(deployment: Deployment) -> dict[str, Any]:
    """A ledger of one member, whose users are the issuer's clients."""
    member, url = deployment.member, deployment.addresses["ledger"]
    founding = (
        []
        if member is None
        else [{"certificate": member.certificate, "encryption_key": member.encryption_key}]
    )
    return {
        "names": deployment.names,
        "ledger_id": url.removeprefix("https://"),
        "audiences": [url],
        "members": founding,
        "issuers": [{"url": deployment.issuer.url, "keys": deployment.issuer.keys}],
        "principals": [{"id": object_id(name), "roles": roles} for name, roles in LEDGER_ROLES.items()],
    }


def _authorities(deployment: Deployment) -> list[Any]:
    """The attestation service that runs here, identified by image or signer like stores are, and further
    authorities.
    """
    image = deployment.images.get("attestation")
    if image is None:
        return list(deployment.authorities)
    return [
        {
            "type": "attested",
            "url": deployment.addresses["attestation"],
            "roots": [deployment.platform_root.decode()],
            "identity": _identity(image, deployment.store_key),
            "levels": [deployment.level],
            "missing": sorted(deployment.missing),
            "settings": [attestation_digest(deployment).hex()],
        },
        *deployment.authorities,
    ]


def _identity(image: ServiceImage, store_key: str) -> dict[str, Any]:
    if store_key == "measurement":
        return {"type": "images", "images": [image.image_id.hex()]}
    return {"type": "signer", "signer": image.mrsigner.hex(), "product": ATTESTATION_PRODUCT, "svn": 1}
