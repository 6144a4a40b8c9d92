"""The operator's settings of a ledger; those that only count at its genesis are marked.

A host gives all of this, and is not trusted: the node's evidence names the genesis, and a relying party that
expects certain members or a certain constitution compares them in the ledger itself.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kluis.errors import UsageError

MOST_MEMBERS: Final = 64


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One founding member.

    Attributes:
        certificate: PEM, self-signed, on P-256 or P-384.
        encryption_key: PEM of an RSA key, for a recovery share; None for a member who takes no part in that.
        data: whatever the constitution reads of a member.
    """

    certificate: str
    encryption_key: str | None = None
    data: dict[str, str] | None = None


class Principal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A first user of Azure's dialect.

    Attributes:
        id: an object id, or the fingerprint of a certificate.
        roles: such as ``Administrator``.
    """

    id: str
    roles: tuple[str, ...]


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An issuer of tokens that the genesis registers.

    Attributes:
        url: as tokens have it for their ``iss``.
        keys: its JWKS document, JSON.
    """

    url: str
    keys: str


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ledger's settings.

    Attributes:
        names: DNS names and addresses that clients use, for the node's certificate.
        ledger_id: by which Azure's clients know it: the first label of its host name.
        audiences: that a token may name besides Azure's own.
        witness_seconds: the least time between two words to the witness, which hears of the last answers once
            it has passed, and at the end; 0: before each answer. A host that sets the log back may undo what
            was answered within that time.
        members: founding members; at genesis.
        constitution: JavaScript; None for the one of Kluis; at genesis.
        recovery_threshold: how many shares open the ledger secret; at genesis.
        principals: first users; at genesis.
        issuers: first issuers of tokens; at genesis.
        public: whether anybody who has the files reads the entries; at genesis.
        cose_only: whether only the service signs, and no node; at genesis. Azure's clients then verify
            nothing.
        name: common name of the service's certificate; at genesis.
        service_days: that certificate's validity; at genesis.
        node_days: validity of a node's certificate.
    """

    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    ledger_id: str = "localhost"
    audiences: tuple[str, ...] = ()
    witness_seconds: float = 0.0
    members: tuple[Member, ...] = ()
    constitution: str | None = None
    recovery_threshold: int = 1
    principals: tuple[Principal, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    public: bool = False
    cose_only: bool = False
    name: str = "CCF Service"
    service_days: int = 365
    node_days: int = 365

    def check(self) -> None:
        """Refuse invalid settings.

        Raises:
            UsageError: states which.
        """
        if not 0 <= self.witness_seconds <= 60:
            raise UsageError(f"witness_seconds: want 0..60, got {self.witness_seconds}")
        if len(self.members) > MOST_MEMBERS:
            raise UsageError(f"members: want at most {MOST_MEMBERS}, got {len(self.members)}")
        if not 1 <= len(self.name) <= 64:
            raise UsageError(f"name: want 1..64 characters, got {len(self.name)}")
        for what, days in (("service_days", self.service_days), ("node_days", self.node_days)):
            if not 1 <= days <= 365:
                raise UsageError(f"{what}: want 1..365, got {days}")
