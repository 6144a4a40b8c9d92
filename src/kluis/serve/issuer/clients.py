"""The issuer's clients and their secrets, in one file that only this user can read."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kluis import files
from kluis.errors import FormatError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.tee import keyfiles


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A client that can request tokens.

    Attributes:
        id: the ``client_id``.
        secret: the ``client_secret``; not shown in a ``repr``.
        roles: in its tokens.
        stale: its tokens are marked as in need of fresh claims, to test a client's reaction.
    """

    id: str
    secret: str
    roles: tuple[str, ...]
    stale: bool = False

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Client(id={self.id!r}, roles={self.roles!r})"


def load_or_create(
    path: Path, roles: Mapping[str, tuple[str, ...]], stale: frozenset[str]
) -> dict[str, Client]:
    """Load the clients from the file, and add those of ``roles`` that are missing.

    Raises:
        UnavailableError: the file is another user's, or accessible to others.
        FormatError: it is damaged.
    """
    try:
        known = msgspec.json.decode(keyfiles.read(path), type=list[Client]) if path.exists() else []
    except UNREADABLE as error:
        raise FormatError(f"{path}: {error}") from None
    stored = {client.id: client for client in known}
    new = {
        name: Client(name, secrets.token_urlsafe(24), client_roles, name in stale)
        for name, client_roles in roles.items()
    }
    merged = {**new, **stored}
    if merged != stored:
        files.write(path, msgspec.json.format(msgspec.json.encode(list(merged.values()))))
    return merged
