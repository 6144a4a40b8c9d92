"""Who made an instance and who changed it, and when: what a resource manager calls ``systemData``.

Who it was is what the issuer's token said, and when it was the host's clock. Spec: Azure Resource Manager,
common types, ``systemData``; Microsoft identity platform, "Access token claims reference".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from kluis.services.web.bearer import Caller

USER: Final = "User"
APPLICATION: Final = "Application"
MANAGED_IDENTITY: Final = "ManagedIdentity"
MOST_NAME: Final = 256
# By which claims each is known: a person by a name to sign in with, a program by its id.
_NAMES: Final = {
    USER: ("upn", "preferred_username", "unique_name", "oid", "sub"),
    APPLICATION: ("appid", "azp", "oid", "sub"),
    MANAGED_IDENTITY: ("oid", "appid", "sub"),
}


class Author(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who made or changed something, in the store.

    Attributes:
        name: as their issuer calls them; at most 256 characters.
        kind: ``User``, ``Application`` or ``ManagedIdentity``.
    """

    name: str
    kind: str


def author_of(caller: Caller) -> Author:
    """Who asks, by what their token says of them."""
    claims = caller.claims
    kind = _kind(claims)
    named = (claims.get(claim) for claim in _NAMES[kind])
    name = next((each for each in named if isinstance(each, str) and each), caller.subject)
    return Author(name[:MOST_NAME], kind)


def _kind(claims: Mapping[str, Any]) -> str:
    """A program's token says so, or rests on no person's consent (``scp``)."""
    if "xms_mirid" in claims:
        return MANAGED_IDENTITY
    if claims.get("idtyp") in ("app", "user"):
        return APPLICATION if claims["idtyp"] == "app" else USER
    program = "appid" in claims or "azp" in claims
    return APPLICATION if program and "scp" not in claims else USER


def system_data(
    created: int, created_by: Author | None, modified: int | None, modified_by: Author | None
) -> dict[str, str]:
    """What is known of a resource, as a resource manager says it; what is not known is left out.

    Args:
        created: seconds since 1970.
        created_by: None in a record of before.
        modified: seconds since 1970; likewise.
        modified_by: likewise.
    """
    members = {"createdAt": _instant(created)}
    if created_by is not None:
        members |= {"createdBy": created_by.name, "createdByType": created_by.kind}
    if modified is not None:
        members["lastModifiedAt"] = _instant(modified)
    if modified_by is not None:
        members |= {"lastModifiedBy": modified_by.name, "lastModifiedByType": modified_by.kind}
    return members


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
