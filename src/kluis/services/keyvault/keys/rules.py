"""Check a client's input about a key that is created, imported or changed: attributes, tags, release policy.

The exportable attribute and the release policy belong to the name, and so to every version of it.
"""

from __future__ import annotations

from typing import Final

from kluis.services.keyvault.crypto import material
from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.octets import decode_base64
from kluis.services.keyvault.release import policy as release_policy
from kluis.services.keyvault.requests import Attributes, Policy
from kluis.services.keyvault.vault.records import KeyRecord, ReleaseRule

CONTENT_TYPE: Final = "application/json; charset=utf-8"
MOST_TAGS, MOST_TAG = 15, 256
MOST_TIME: Final = 253_402_300_799


def checked_tags(tags: dict[str, str] | None) -> dict[str, str]:
    """Check the tags and return them.

    Raises:
        BadParameter: more than 15, or one longer than 256 characters.
    """
    tags = tags or {}
    if len(tags) > MOST_TAGS:
        raise BadParameter(f"tags: want at most {MOST_TAGS}, got {len(tags)}")
    for name, value in tags.items():
        if not 1 <= len(name) <= MOST_TAG or len(value) > MOST_TAG:
            raise BadParameter(f"tags: want names and values of at most {MOST_TAG} characters, got longer")
    return dict(tags)


def checked_times(nbf: int | None, exp: int | None) -> None:
    """Refuse times that are invalid, or in the wrong order.

    Raises:
        BadParameter: before 1970, after 9999, or an expiry that is not after the start.
    """
    for what, value in (("nbf", nbf), ("exp", exp)):
        if value is not None and not 0 <= value <= MOST_TIME:
            raise BadParameter(
                f"attributes.{what}: want seconds since 1970, up to the year 9999, got {value}"
            )
    if nbf is not None and exp is not None and exp <= nbf:
        raise BadParameter(f"attributes.exp: want after nbf {nbf}, got {exp}")


def check_exportable(
    kty: str, attributes: Attributes, policy: Policy | None, before: KeyRecord | None
) -> bool:
    """Whether the new version may be released.

    Args:
        kty: of the new version.
        attributes: by the client.
        policy: given in the same request.
        before: the previous key, if the name exists.

    Raises:
        BadParameter: AKV.SKR.1003 to 1006.
    """
    known = None if before is None else before.current.exportable
    exportable = known if attributes.exportable is None else attributes.exportable
    if known is not None:
        check_still_exportable(known, exportable)
    has_policy = policy is not None or (before is not None and before.release is not None)
    if exportable and not material.is_hardware(kty):
        raise BadParameter(
            f"AKV.SKR.1006: Software keys are not exportable: want {material.azure_type(kty)}-HSM, got "
            f"{material.azure_type(kty)}."
        )
    if exportable and not has_policy:
        raise BadParameter("AKV.SKR.1004: Exportable keys must have release policy.")
    if not exportable and policy is not None:
        raise BadParameter("AKV.SKR.1005: Non-exportable keys must not have release policy.")
    return bool(exportable)


def check_still_exportable(known: bool, wanted: bool | None) -> None:
    """Compare the request with the key's previous versions.

    Raises:
        BadParameter: AKV.SKR.1003, it differs.
    """
    if wanted is not None and wanted is not known:
        raise BadParameter(
            "AKV.SKR.1003: The exportable attribute of an existing key cannot be changed: want "
            f"{str(known).lower()}, got {str(wanted).lower()}."
        )


def release_rule(policy: Policy | None, before: ReleaseRule | None, epoch: int) -> ReleaseRule | None:
    """The release policy to store.

    Args:
        policy: from the client; None keeps the previous one.
        before: the key's current one.
        epoch: of the vault, now.

    Raises:
        BadParameter: not a policy (AKV.SKR.1004), or the previous one is immutable (AKV.SKR.1020).
    """
    if policy is None:
        return before
    if policy.data is None:
        raise BadParameter("AKV.SKR.1004: Exportable keys must have release policy: want data, got none.")
    try:
        data = decode_base64(policy.data, "release_policy.data", most=release_policy.MAX_SIZE)
    except BadParameter as error:
        # Azure's Python client sends the document itself if the caller passes text.
        raise BadParameter(
            f"AKV.SKR.1004: Exportable keys must have release policy. {error.message}",
            hint="KeyReleasePolicy takes the document as bytes, not as text",
        ) from None
    kind = (policy.content_type or CONTENT_TYPE)[:256]
    rule = ReleaseRule(data, kind, immutable=bool(policy.immutable), epoch=epoch)
    if before is not None and before.immutable:
        if (rule.data, rule.immutable) != (before.data, True):
            raise BadParameter("AKV.SKR.1020: Immutable Key Release Policy cannot be modified.")
        return before
    release_policy.parse(data)
    return rule
