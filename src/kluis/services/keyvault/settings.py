"""A key service's settings from its operator; each description states which of them a vault fixes
permanently.
"""

from __future__ import annotations

import msgspec

from kluis.services import issuers
from kluis.services.keyvault.vault.authorities import Authority
from kluis.services.keyvault.vault.vault import Rules
from kluis.services.web import Issuer


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key service's settings.

    Attributes:
        issuer: of the accepted bearer tokens.
        authorization: where clients get tokens, with the tenant: the challenge's ``authorization``.
        resource: the audience of tokens: the challenge's ``resource``. Azure's clients require the vault's
            host to end in a dot and this URL's host and port.
        other_resources: the same for other hosts of the vault: ``https://vault.example`` for one named
            ``mine.vault.example``.
        authorities: that may attest environments; fixed by the vault's first key.
        insecure_changing_issuer: whether another start may name another issuer, or other keys of it; fixed by
            the first key. Then anyone who runs the vault can give themselves any role.
        names: of the vault for clients, in addition to loopback's; a leading ``*.`` matches one label.
        url: the vault's own, for identifiers of keys; None: the one that the client used, of these names.
        recoverable_days: that a deleted key can be recovered, 7 to 90.
        purge_protection: whether purging is refused before that.
        explain: whether a refused release states which claim failed.
        keys_life_seconds: how long an authority's keys are trusted before they are fetched again.
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
        """The issuer that a vault stores from its first key on, canonical JSON.

        Raises:
            FormatError: its keys are not JSON.
        """
        return issuers.canonical(self.issuer, changing=self.insecure_changing_issuer)

    def rules(self) -> Rules:
        """The rules of the vault.

        Raises:
            UsageError: a setting is out of bounds.
        """
        return Rules(self.recoverable_days, self.purge_protection, self.explain)
