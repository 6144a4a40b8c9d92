"""Record who created and changed an instance, and when: the resource manager's ``systemData``.

The author comes from the issuer's token, the time from the host's clock. Spec: Azure Resource Manager, common
types, ``systemData``; Microsoft identity platform, "Access token claims reference".
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
# The claims that identify each kind: a person by a sign-in name, a program by its id.
_NAMES: Final = {
    USER: ("upn", "preferred_username", "unique_name", "oid", "sub"),
    APPLICATION: ("appid", "azp", "oid", "sub"),
    MANAGED_IDENTITY: ("oid", "appid", "sub"),
}


class Author(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The author of a creation or change, in the store.

    Attributes:
        name: from their issuer; at most 256 characters.
        kind: ``User``, ``Application`` or ``ManagedIdentity``.
    """

    name: str
    kind: str


def author_of(caller: Caller) -> Author:
    """The author of a request, from the caller's token."""
    claims = caller.claims
    kind = _kind(claims)
    named = (claims.get(claim) for claim in _NAMES[kind])
    name = next((each for each in named if isinstance(each, str) and each), caller.subject)
    return Author(name[:MOST_NAME], kind)


def _kind(claims: Mapping[str, Any]) -> str:
    """A program's token states this, or has no person's consent (``scp``)."""
    if "xms_mirid" in claims:
        return MANAGED_IDENTITY
    if claims.get("idtyp") in ("app", "user"):
        return APPLICATION if claims["idtyp"] == "app" else USER
    program = "appid" in claims or "azp" in claims
    return APPLICATION if program and "scp" not in claims else USER


def system_data(
    created: int, created_by: Author | None, modified: int | None, modified_by: Author | None
) -> dict[str, str]:
    """Describe a resource's authors in the resource manager's form; unknown members are left out.

    Args:
        created: seconds since 1970.
        created_by: None in a record of an older version.
        modified: seconds since 1970; None in a record of an older version.
        modified_by: None in a record of an older version.
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
