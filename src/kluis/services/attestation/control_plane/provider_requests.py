"""Parse and check an owner's requests about instances.

Spec: Azure Resource Manager, Microsoft.Attestation, 2021-06-01, "Attestation Providers - Create"; Azure
Resource Manager, "Use tags": 50 to a resource, names of at most 512 characters, values of 256.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from kluis.services.attestation.authors import Author
from kluis.services.attestation.faults import InvalidParameter
from kluis.services.attestation.instances import DEFAULT, NAME, VERSION, Provider
from kluis.services.attestation.policies.certificate_chains import signer_chain

ENABLED: Final = "Enabled"
DISABLED: Final = "Disabled"
MOST_TAGS: Final = 50
MOST_TAG_NAME: Final = 512
MOST_TAG_VALUE: Final = 256
MOST_CERTIFICATES: Final = 16
_NOT_X509: Final = "PolicySigningCertificate key is not an X509 security key"


class Properties(msgspec.Struct, kw_only=True):
    """The properties of an instance that an owner can set."""

    publicNetworkAccess: str | None = None  # noqa: N815 - names of the wire
    policySigningCertificates: dict[str, Any] | None = None  # noqa: N815
    tpmAttestationAuthentication: str | None = None  # noqa: N815


class ProviderRequest(msgspec.Struct, kw_only=True):
    """A request to create or change an instance."""

    location: str | None = None
    tags: dict[str, str] | None = None
    properties: Properties = msgspec.field(default_factory=Properties)


def apply_request(
    provider: Provider, request: ProviderRequest, author: Author | None, now: datetime
) -> Provider:
    """Apply a request to an instance: tags and switches; members absent from the request are unchanged.

    Args:
        provider: the current state.
        request: the requested state.
        author: of the request.
        now: aware.

    Raises:
        InvalidParameter: an invalid tag or switch.
    """
    properties = request.properties
    changes: dict[str, Any] = {"version": VERSION, "modified": int(now.timestamp()), "modified_by": author}
    if request.tags is not None:
        if len(request.tags) > MOST_TAGS:
            raise InvalidParameter(f"tags: want at most {MOST_TAGS}, got {len(request.tags)}")
        for what, most, texts in (
            ("names", MOST_TAG_NAME, request.tags.keys()),
            ("values", MOST_TAG_VALUE, request.tags.values()),
        ):
            if (longest := max(map(len, texts), default=0)) > most:
                raise InvalidParameter(f"tags: want {what} of at most {most} characters, got {longest}")
        changes["tags"] = request.tags
    for name, value in (
        ("publicNetworkAccess", properties.publicNetworkAccess),
        ("tpmAttestationAuthentication", properties.tpmAttestationAuthentication),
    ):
        if value is not None and value not in (ENABLED, DISABLED):
            raise InvalidParameter(f"properties.{name}: want Enabled or Disabled, got {value[:40]!a}")
    if properties.publicNetworkAccess is not None:
        changes["public_network_access"] = properties.publicNetworkAccess
    if properties.tpmAttestationAuthentication is not None:
        changes["tpm_authentication"] = properties.tpmAttestationAuthentication == ENABLED
    return msgspec.structs.replace(provider, **changes)


def signer_chains(key_set: dict[str, Any] | None) -> tuple[tuple[bytes, ...], ...]:
    """The chains in ``policySigningCertificates``, DER, each with its signer first; empty if none are given.

    Raises:
        InvalidParameter: more than 16 chains, or an invalid one.
    """
    if key_set is None:
        return ()
    keys = key_set.get("keys")
    if keys is None or keys == []:
        return ()
    if not isinstance(keys, list) or len(keys) > MOST_CERTIFICATES:
        got = len(keys) if isinstance(keys, list) else type(keys).__name__
        raise InvalidParameter(
            "properties.policySigningCertificates.keys: "
            f"want a list of at most {MOST_CERTIFICATES}, got {got}"
        )
    chains = []
    for number, key in enumerate(keys):
        what = f"properties.policySigningCertificates.keys[{number}]"
        x5c = key.get("x5c") if isinstance(key, dict) else None
        if not x5c:
            raise InvalidParameter(f"{_NOT_X509}: {what}: want x5c, got none")
        try:
            chains.append(tuple(each.der for each in signer_chain(x5c, f"{what}.x5c")))
        except InvalidParameter as error:
            raise InvalidParameter(f"{_NOT_X509}: {error.message}") from None
    return tuple(chains)


def check_name(name: str) -> None:
    """Refuse an invalid name for a new instance.

    Raises:
        InvalidParameter: it is invalid, or the default instance's.
    """
    if not NAME.fullmatch(name) or name.lower() == DEFAULT:
        raise InvalidParameter(
            f"instance: want 1 to 24 letters, digits and hyphens, not {DEFAULT!r}, got {name[:64]!a}"
        )
