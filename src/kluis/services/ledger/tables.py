"""Names of the tables that the ledger's own application keeps, and what is in them.

Entries of Azure Confidential Ledger's REST are one table by collection: its value is the latest entry, and
each entry of the log has the one that was written with it. Spec: CCF, "Built-in Maps", for all others.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kluis.errors import AuthenticityError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.ledger import claims

ENTRIES: Final = claims.PRIVATE_ENTRIES
PUBLIC_ENTRIES: Final = claims.PUBLIC_ENTRIES
REQUESTS: Final = "app.requests"
USERS: Final = "public:app.users"
ROLES: Final = "public:app.roles"


class Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of one entry.

    Attributes:
        contents: as its user wrote it.
        secretKey: 32 random bytes, base64, that hide the contents in the claim's digest.
        tags: that it can be found by.
    """

    contents: str
    secretKey: str  # noqa: N815 - the claim's own word
    tags: tuple[str, ...] = ()

    @classmethod
    def read(cls, value: bytes) -> Stored:
        """Read what a table has.

        Raises:
            AuthenticityError: another version of the application wrote it.
        """
        try:
            return _stored.decode(value)
        except UNREADABLE:
            raise AuthenticityError("entry: is of another version of Kluis", code="ledger_leaf") from None

    def __repr__(self) -> str:
        return f"Stored(tags={self.tags!r})"


_stored = msgspec.json.Decoder(Stored)
