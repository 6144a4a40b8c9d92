"""Names of the tables that the ledger's own application keeps, and what is in them.

Entries of Azure Confidential Ledger's REST are one table by collection: its value is the latest entry, and
each entry of the log has the one that was written with it. Spec: CCF, "Built-in Maps", for all others.
"""

from __future__ import annotations

from typing import Final

import msgspec

ENTRIES: Final = "app.entries"
PUBLIC_ENTRIES: Final = "public:app.entries"
REQUESTS: Final = "app.requests"
USERS: Final = "public:app.users"
ROLES: Final = "public:app.roles"
JWT_ISSUERS: Final = "public:ccf.gov.jwt.issuers"
JWT_KEYS: Final = "public:ccf.gov.jwt.public_signing_keys_metadata_v2"
USER_CERTIFICATES: Final = "public:ccf.gov.users.certs"
USER_INFO: Final = "public:ccf.gov.users.info"


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

    def __repr__(self) -> str:
        return f"Stored(tags={self.tags!r})"
