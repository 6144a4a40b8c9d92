"""What an operator configures of a key service; what of it a vault keeps for ever stands with each."""

from __future__ import annotations

import msgspec

from kluis.services import issuers
from kluis.services.keyvault.vault.authorities import Authority
from kluis.services.keyvault.vault.vault import Rules
from kluis.services.web import Issuer


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key service's settings.

    Attributes:
        issuer: whose bearer tokens hold.
        authorization: where clients get them, with the tenant: the challenge's ``authorization``.
        resource: what they get them for: the challenge's ``resource``. Azure's clients want the vault's host
            to end in a dot and this one's host and port.
        other_resources: the same for other hosts of the vault: ``https://vault.example`` for one named
            ``mine.vault.example``.
        authorities: who may vouch for environments; fixed by the vault's first key.
        insecure_changing_issuer: whether another start may name another issuer, or other keys of it; fixed by
            the first key. Then whoever runs the vault can give themselves any role.
        names: that clients may know it by, beside loopback's; ``*.`` at the beginning stands for one label.
        url: the vault's own, for identifiers of keys; None: the one that the client used, of these names.
        recoverable_days: that a deleted key can be recovered, 7 to 90.
        purge_protection: whether nobody may purge a key before that.
        explain: whether a refused release says which claim failed.
        keys_life_seconds: how long an authority's keys are believed before they are fetched again.
        refetch_seconds: the least time between two fetches of one authority's keys.
    """

    issuer: Issuer
    authorization: str
    resource: str
    other_resources: tuple[str, ...] = ()
    authorities: tuple[Authority, ...] = ()
    insecure_changing_issuer: bool = False
    names: tuple[str, ...] = ()
    url: str | None = None
    recoverable_days: int = 90
    purge_protection: bool = False
    explain: bool = True
    keys_life_seconds: int = 3600
    refetch_seconds: int = 30

    def pinned_issuer(self) -> bytes:
        """The issuer as a vault keeps it from its first key on, canonical JSON.

        Raises:
            FormatError: its keys are no JSON.
        """
        return issuers.canonical(self.issuer, changing=self.insecure_changing_issuer)

    def rules(self) -> Rules:
        """The rules of the vault.

        Raises:
            UsageError: a setting out of its bounds.
        """
        return Rules(self.recoverable_days, self.purge_protection, self.explain)
