"""What ``apply()`` requests of a node: to open the service, to change its secret, to issue certificates."""

from __future__ import annotations

from typing import Protocol

from kluis.ledger.store import Transaction


class Effects(Protocol):
    """A node's side of ``apply()``. Each method may raise :class:`~kluis.ledger.js.HostFault`."""

    def open_service(self, transaction: Transaction, previous: bytes | None, following: bytes | None) -> None:
        """Open the service, or let it wait for recovery shares.

        Args:
            transaction: that is applied.
            previous: the certificate of the service before a recovery, PEM; None without one.
            following: the certificate of the service, PEM.
        """

    def rekey(self, transaction: Transaction) -> None:
        """Use another ledger secret from the next entry on, and share it among the members."""

    def refresh_shares(self, transaction: Transaction) -> None:
        """Share the present ledger secret again among the members."""

    def endorse_node(self, request: str, valid_from: str, days: int) -> str:
        """Issue a node's certificate, PEM.

        Args:
            request: a certificate signing request, PEM.
            valid_from: UTC, as ``YYMMDDHHMMSSZ`` or ISO 8601.
            days: of validity.
        """

    def renew_service(self, valid_from: str, days: int) -> str:
        """Make another certificate of the service's key, PEM; arguments as :meth:`endorse_node`."""

    def secret_version(self) -> int:
        """From which seqno the latest ledger secret is valid."""

    def close_chunk(self) -> None:
        """End the chunk of the ledger with this entry's signature."""

    def snapshot(self) -> None:
        """Take a snapshot at the next signature, as nodes of CCF do."""

    def version(self, table: str, key: bytes) -> int | None:
        """The seqno of the entry that last wrote a key; None if none did, or nobody knows."""
