"""Clients' registered credentials other than a secret: certificates, and subjects of other issuers."""

from __future__ import annotations

from collections.abc import Collection

from kluis.errors import UsageError
from kluis.frozen import frozen
from kluis.serve.issuer.certificates import Certificate
from kluis.serve.issuer.federation import Federated
from kluis.serve.issuer.refusals import show


@frozen(kw_only=True)
class Registered:
    """The operator's registrations at the issuer's start; none is stored.

    Attributes:
        certificates: of clients, each with its client's name.
        federated: subjects of other issuers, with their clients.
    """

    certificates: tuple[tuple[str, Certificate], ...] = ()
    federated: tuple[Federated, ...] = ()

    def check(self, clients: Collection[str]) -> None:
        """Refuse a registration for an unknown client.

        Raises:
            UsageError: names it, and the known ones.
        """
        for name in (*(name for name, _ in self.certificates), *(one.client for one in self.federated)):
            if name not in clients:
                raise UsageError(f"client: want one of {', '.join(sorted(clients))}, got {show(name)}")

    def certificates_of(self, client: str) -> tuple[Certificate, ...]:
        """The certificates of one client."""
        return tuple(one for name, one in self.certificates if name == client)

    def federated_of(self, client: str) -> tuple[Federated, ...]:
        """The subjects that authenticate one client."""
        return tuple(one for one in self.federated if one.client == client)
