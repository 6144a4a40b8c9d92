"""What clients may show instead of a secret: certificates, and subjects of other issuers."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from kluis.errors import UsageError
from kluis.serve.issuer.certificates import Certificate
from kluis.serve.issuer.federation import Federated
from kluis.serve.issuer.refusals import show


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What an operator registered when it started the issuer: nothing of it is kept.

    Attributes:
        certificates: of clients, each with its client's name.
        federated: subjects of other issuers, which name their clients.
    """

    certificates: tuple[tuple[str, Certificate], ...] = ()
    federated: tuple[Federated, ...] = ()

    def check(self, clients: Collection[str]) -> None:
        """Refuse what is for a client that there is not.

        Raises:
            UsageError: says which, and which there are.
        """
        for name in (*(name for name, _ in self.certificates), *(one.client for one in self.federated)):
            if name not in clients:
                raise UsageError(f"client: want one of {', '.join(sorted(clients))}, got {show(name)}")

    def certificates_of(self, client: str) -> tuple[Certificate, ...]:
        """The certificates of one client."""
        return tuple(one for name, one in self.certificates if name == client)

    def federated_of(self, client: str) -> tuple[Federated, ...]:
        """The subjects that may be one client."""
        return tuple(one for one in self.federated if one.client == client)
