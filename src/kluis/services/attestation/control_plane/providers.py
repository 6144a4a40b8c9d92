"""The control plane: creates, lists, changes and deletes instances, like Azure's resource manager.

A name belongs to one instance, whatever its subscription and resource group, as on Azure. Here these two only
affect lists. Spec: Azure Resource Manager, Microsoft.Attestation, 2021-06-01.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from kluis.enclave.store.model import Storage, Writing
from kluis.services.attestation.authors import Author, system_data
from kluis.services.attestation.control_plane.provider_requests import (
    DISABLED,
    ENABLED,
    ProviderRequest,
    apply_request,
    check_name,
    signer_chains,
)
from kluis.services.attestation.faults import InvalidOperation, Missing, NameTaken, ResourceMissing
from kluis.services.attestation.instances import DEFAULT, LIFE_BYTES, TABLE, Instances, Provider, key_of
from kluis.services.attestation.policies.certificates import PolicyCertificates
from kluis.services.attestation.policies.policies import Policies
from kluis.services.attestation.settings import AttestationSettings
from kluis.services.attestation.tokens.signing import SigningKeys

TYPE: Final = "Microsoft.Attestation/attestationProviders"
# A client that signs in expects a subscription before it has created anything.
FIRST_SUBSCRIPTION: Final = "00000000-0000-4000-8000-6b6c75697300"


class Providers:
    """Creates and deletes instances of one service."""

    def __init__(
        self,
        settings: AttestationSettings,
        storage: Storage,
        instances: Instances,
        policies: Policies,
        certificates: PolicyCertificates,
        keys: SigningKeys,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._instances = instances
        self._policies = policies
        self._certificates = certificates
        self._keys = keys

    def put(
        self,
        subscription: str,
        group: str,
        name: str,
        request: ProviderRequest,
        author: Author | None,
        now: datetime,
    ) -> tuple[dict[str, Any], bool]:
        """Create an instance, or update an existing one.

        Args:
            subscription: of the instance.
            group: resource group within it.
            name: of the instance.
            request: the requested state.
            author: of the request, recorded in the resource.
            now: aware.

        Returns:
            The resource, and whether it is new.

        Raises:
            InvalidParameter: an invalid name, tag, switch or certificate.
            NameTaken: another instance has the name.
            InvalidOperation: trust model, location or certificates would change.
        """
        check_name(name)
        chains = signer_chains(request.properties.policySigningCertificates)
        made = apply_request(
            Provider(
                name=name,
                life=os.urandom(LIFE_BYTES).hex(),
                subscription=subscription,
                resource_group=group,
                location=request.location or self._settings.location,
                tags=None,
                isolated=bool(chains),
                public_network_access=ENABLED,
                tpm_authentication=True,
                created=int(now.timestamp()),
                created_by=author,
            ),
            request,
            author,
            now,
        )

        def work(store: Writing) -> tuple[Provider, bool]:
            there = self._instances.provider(store, name)
            if there is None:
                # those of a process that was late, for a life that had ended
                self._keys.forget(name.lower(), store)
                if chains:
                    self._certificates.put(store, key_of(made), chains)
                _write(store, made)
                return made, True
            if not _within(there, subscription, group):
                raise NameTaken(
                    f"instance: want an unused name, or your own instance, got {name!a}, another's"
                )
            if chains and not there.isolated:
                raise InvalidOperation(
                    "instance: want trust model AAD to stay, got policySigningCertificates",
                    hint="make another instance with them",
                )
            trusted = {chain[0] for chain in self._certificates.stored_chains(store, key_of(there)) or ()}
            if chains and {chain[0] for chain in chains} != trusted:
                raise _signed_alone()
            if request.location is not None and squeeze(request.location) != squeeze(there.location):
                raise InvalidOperation(
                    f"location: want {there.location} to stay, got {request.location[:64]!a}",
                    hint="make another instance there",
                )
            again = apply_request(there, request, author, now)
            _write(store, again)
            return again, False

        provider, new = self._storage.update(work)
        return self._resource(provider), new

    def get(self, subscription: str, group: str, name: str) -> dict[str, Any]:
        """Return one instance.

        Raises:
            ResourceMissing: no instance has this name here.
        """
        return self._resource(self._find(subscription, group, name))

    def patch(
        self,
        subscription: str,
        group: str,
        name: str,
        request: ProviderRequest,
        author: Author | None,
        now: datetime,
    ) -> dict[str, Any]:
        """Change tags and switches; the arguments are those of :meth:`put`.

        Raises:
            ResourceMissing: no instance has this name here.
            InvalidParameter: an invalid tag or switch.
            InvalidOperation: certificates are given, which only signed requests can change.
        """
        if request.properties.policySigningCertificates is not None:
            raise _signed_alone()

        def work(store: Writing) -> Provider:
            there = self._instances.provider(store, name)
            if there is None or not _within(there, subscription, group):
                raise _missing(group, name)
            again = apply_request(there, request, author, now)
            _write(store, again)
            return again

        return self._resource(self._storage.update(work))

    def delete(self, subscription: str, group: str, name: str) -> bool:
        """Delete an instance with its keys, policies and certificates; return whether there was one."""

        def work(store: Writing) -> str | None:
            there = self._instances.provider(store, name)
            if there is None or not _within(there, subscription, group):
                return None
            key = key_of(there)
            store.delete(TABLE, there.name.lower())
            self._keys.forget(there.name.lower(), store)
            self._policies.forget(key, store)
            self._certificates.forget(key, store)
            return key

        gone = self._storage.update(work)
        if gone is None:
            return False
        self._keys.let_go(gone)
        self._policies.settle()
        return True

    def find_all(self, subscription: str, group: str | None = None) -> list[dict[str, Any]]:
        """The instances of a subscription, or of one of its resource groups."""
        return [self._resource(each) for each in self._all() if _within(each, subscription, group)]

    def subscriptions(self) -> list[str]:
        """The subscriptions that have instances, each once, and one that always exists."""
        named = {each.subscription.lower(): each.subscription for each in self._all()}
        return [each for _, each in sorted({FIRST_SUBSCRIPTION: FIRST_SUBSCRIPTION, **named}.items())]

    def default(self, location: str | None = None) -> dict[str, Any]:
        """The default instance.

        Raises:
            Missing: it is in another location.
        """
        if location is not None and squeeze(location) != squeeze(self._settings.location):
            raise Missing(f"location: want {self._settings.location}, got {location[:64]!a}")
        instance = self._instances.default
        return _resource_of(
            f"/providers/{TYPE}/{DEFAULT}",
            DEFAULT,
            self._settings.location,
            None,
            _properties(instance.url, instance.trust_model, ENABLED, instance.tpm_authentication),
        )

    def _find(self, subscription: str, group: str, name: str) -> Provider:
        there = self._instances.provider(self._storage, name)
        if there is None or not _within(there, subscription, group):
            raise _missing(group, name)
        return there

    def _all(self) -> Iterator[Provider]:
        for _, data in self._storage.scan(TABLE):
            yield msgspec.msgpack.decode(data, type=Provider)

    def _resource(self, provider: Provider) -> dict[str, Any]:
        instance = self._instances.of(provider)
        where = f"/subscriptions/{provider.subscription}/resourceGroups/{provider.resource_group}"
        known = system_data(provider.created, provider.created_by, provider.modified, provider.modified_by)
        made = _resource_of(
            f"{where}/providers/{TYPE}/{provider.name}",
            provider.name,
            provider.location,
            provider.tags,
            _properties(
                instance.url,
                instance.trust_model,
                provider.public_network_access,
                provider.tpm_authentication,
            ),
        )
        return {**made, "systemData": known}


def _properties(url: str, model: str, network: str, tpm: bool) -> dict[str, Any]:
    return {
        "trustModel": str(model),
        "status": "Ready",
        "attestUri": url,
        "publicNetworkAccess": network,
        "privateEndpointConnections": [],
        "tpmAttestationAuthentication": ENABLED if tpm else DISABLED,
    }


def _resource_of(
    name_id: str, name: str, location: str, tags: Mapping[str, str] | None, properties: dict[str, Any]
) -> dict[str, Any]:
    # Azure's response has no member for tags that were never set.
    members = {} if tags is None else {"tags": dict(tags)}
    made = {"id": name_id, "name": name, "type": TYPE, "location": location, **members}
    return {**made, "properties": properties}


def _within(provider: Provider, subscription: str, group: str | None) -> bool:
    if provider.subscription.lower() != subscription.lower():
        return False
    return group is None or provider.resource_group.lower() == group.lower()


def _signed_alone() -> InvalidOperation:
    return InvalidOperation(
        "instance: want policySigningCertificates to stay, got others",
        hint="POST /certificates:add to the instance, signed by one that is trusted",
    )


def _missing(group: str, name: str) -> ResourceMissing:
    # Azure Resource Manager's message, which comes before any resource provider is called.
    return ResourceMissing(
        f"The Resource '{TYPE}/{name[:64]}' under resource group '{group[:90]}' was not found."
    )


def squeeze(location: str) -> str:
    """Normalize a location like the resource manager: ``Central US`` becomes ``centralus``."""
    return location.replace(" ", "").lower()


def _write(store: Writing, provider: Provider) -> None:
    store.put(TABLE, provider.name.lower(), msgspec.msgpack.encode(provider))
