"""Instances: attestation providers, each with its own address, trust model, policies and keys.

The service itself is one, the default instance. The control plane creates the others. Their address is the
service's with a path, ``<service>/instances/<name>``, which resolves wherever the service does.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kluis.enclave.store.model import Reading, Storage
from kluis.frozen import frozen
from kluis.services.attestation.authors import Author
from kluis.services.attestation.faults import Missing
from kluis.services.attestation.kinds import TrustModel
from kluis.services.attestation.settings import AttestationSettings

DEFAULT: Final = "default"
TABLE: Final = "attestation.providers"
VERSION: Final = 3
LIFE_BYTES: Final = 16
# Azure's rule, except for its minimum length of 3.
NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,22}[A-Za-z0-9])?")


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An instance in the store, as the control plane created it.

    Attributes:
        version: of this record. Version 1 had no author and no changes; version 2 had no life.
        name: in its original case.
        life: identifies one of the successive instances with this name, hex; empty if an earlier version
            created it.
        subscription, resource_group, location: in the control plane.
        tags: the owner's; None if they were never set.
        isolated: its trust model.
        public_network_access: ``Enabled`` or ``Disabled``: reported, but without effect.
        tpm_authentication: whether it requires a bearer token with a TPM's evidence.
        created: seconds since 1970.
        created_by: the author; None in records of version 1.
        modified, modified_by: time, in seconds since 1970, and author of the last change; None in records of
            version 1.
    """

    version: int = VERSION
    name: str
    life: str = ""
    subscription: str
    resource_group: str
    location: str
    tags: dict[str, str] | None
    isolated: bool
    public_network_access: str
    tpm_authentication: bool
    created: int
    created_by: Author | None = None
    modified: int | None = None
    modified_by: Author | None = None


@frozen
class Instance:
    """One instance.

    Attributes:
        name: lower case; ``default`` for the service's own.
        key: the prefix of its keys, policies and certificates in the store. It differs for each life of a
            name, so that nothing of a deleted instance belongs to its successor, even if a slow process still
            uses it.
        url: ``iss`` of its tokens.
        trust_model: determines who may change its policies.
        tpm_authentication: whether it requires a bearer token with a TPM's evidence.
    """

    name: str
    key: str
    url: str
    trust_model: TrustModel
    tpm_authentication: bool

    @property
    def isolated(self) -> bool:
        """Whether a policy must be signed by one of its policy management certificates."""
        return self.trust_model is TrustModel.ISOLATED


class Instances:
    """Finds instances."""

    def __init__(self, settings: AttestationSettings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage
        self.default = Instance(
            DEFAULT, DEFAULT, settings.url, settings.trust_model, settings.tpm_authentication
        )

    def url(self, name: str) -> str:
        """The address of an instance other than the default one."""
        return f"{self._settings.url}/instances/{name.lower()}"

    def find(self, name: str | None) -> Instance:
        """The instance with this name; None is the default one.

        Raises:
            Missing: there is no such instance.
        """
        if name is None:
            return self.default
        provider = self.provider(self._storage, name)
        if provider is None:
            raise Missing(f"instance: want one that was made here, got {name[:64]!a}")
        return self.of(provider)

    def of(self, provider: Provider) -> Instance:
        """The instance of a record."""
        model = TrustModel.ISOLATED if provider.isolated else TrustModel.AAD
        name = provider.name.lower()
        return Instance(name, key_of(provider), self.url(name), model, provider.tpm_authentication)

    def provider(self, store: Reading, name: str) -> Provider | None:
        """The record of an instance, or None."""
        if not NAME.fullmatch(name):
            return None
        data = store.get(TABLE, name.lower())
        return None if data is None else msgspec.msgpack.decode(data, type=Provider)


def key_of(provider: Provider) -> str:
    """The prefix of everything that an instance stores: a name has no full stop, so no two instances share
    one.
    """
    name = provider.name.lower()
    return f"{name}.{provider.life}" if provider.life else name
