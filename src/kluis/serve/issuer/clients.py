"""The issuer's clients, and their secrets: one file, this user's alone."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kluis import files
from kluis.errors import FormatError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.tee.platform.root import keyfiles


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One who may ask for tokens.

    Attributes:
        id: the ``client_id``.
        secret: the ``client_secret``; not shown.
        roles: what its tokens say it may be.
        stale: its tokens are marked as in need of fresh claims, to try how a client answers that.
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
    """The clients in the file, with those that ``roles`` has and the file lacks, which are written there.

    Raises:
        UnavailableError: the file is another user's, or open to others.
        FormatError: it is not what was written.
    """
    try:
        known = msgspec.json.decode(keyfiles.read(path), type=list[Client]) if path.exists() else []
    except UNREADABLE as error:
        raise FormatError(f"{path}: {error}") from None
    stored = {client.id: client for client in known}
    new = {
        name: Client(name, secrets.token_urlsafe(24), given, name in stale) for name, given in roles.items()
    }
    merged = {**new, **stored}
    if merged != stored:
        files.write(path, msgspec.json.format(msgspec.json.encode(list(merged.values()))))
    return merged
