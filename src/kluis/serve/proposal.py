"""Write the authorities and issuer of a refused vault start to a file for approval."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kluis.errors import PolicyError, UnavailableError
from kluis.services.hosting import read_settings
from kluis.services.keyvault.settings import Settings
from kluis.services.keyvault.vault import trust
from kluis.services.keyvault.vault.authorities import canonical
from kluis.services.keyvault.vault.trust import Trust

FILE: Final = "proposed-trust.json"


def refusal(error: PolicyError, settings: bytes, state: Path) -> PolicyError:
    """The error of a refused start, after writing the set to approve into the state folder.

    Args:
        error: from the vault.
        settings: of the start, JSON.
        state: the folder.

    Raises:
        UnavailableError: the file cannot be written.
    """
    settings_document = read_settings(settings, Settings, "keyvault")
    path = state / FILE
    try:
        path.write_bytes(
            trust.proposal(Trust(canonical(settings_document.authorities), settings_document.pinned_issuer()))
        )
    except OSError as fault:
        raise UnavailableError(f"{path}: cannot be written: {fault.strerror}") from None
    return PolicyError(
        f"keyvault: {error.message}",
        hint="start it as before: --port, --name, --root, --token-seconds, --policy-signer and --authority "
        f"are a part of whom it believes. Then an administrator of the vault reads {path} and has it "
        f"approved: kluis vault approve URL {path}; start it like this again. Or another vault: --state",
        code="vault_trust",
    )
