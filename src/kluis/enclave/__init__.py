"""The measured code inside an enclave: declare an app, seal, attest, count.

An application is a module with an :class:`Enclave` named ``app`` and functions marked ``@app.ecall``
(the host may call them) or ``@app.ocall`` (the host runs them).

There are no writable files, unless ``kluis.toml`` has ``scratch = "4GiB"``: then there is a directory
``/scratch`` of that size, empty at the start and deleted at the end, whose files are ciphertext outside.
Temporary files go there by default, and polars' spill files; DuckDB must be configured (``temp_directory``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kluis.enclave.app import Enclave
from kluis.enclave.boundary.table import Table

if TYPE_CHECKING:
    from kluis.enclave.attestation import (
        Evidence,
        LocalReport,
        Peer,
        open_sealed,
        quote,
        receipt_offer,
        release_offer,
        report,
        sign_receipt,
        target_info,
        verify_report,
    )
    from kluis.enclave.counters import Counter, counter
    from kluis.enclave.grants import granted_socket, insecure_raw_quote
    from kluis.enclave.key_release import OpenedKey, open_released, release_key_offer
    from kluis.enclave.sealing import seal, unseal
    from kluis.enclave.vaults import CertifiedVault, ExpectedVault, VaultEvidence

__all__ = [
    "CertifiedVault", "Counter", "Enclave", "Evidence", "ExpectedVault", "LocalReport", "OpenedKey", "Peer",
    "Table", "VaultEvidence", "counter", "granted_socket", "insecure_raw_quote", "open_released",
    "open_sealed", "quote", "receipt_offer", "release_key_offer", "release_offer", "report", "seal",
    "sign_receipt", "target_info", "unseal", "verify_report",
]  # fmt: skip

_HOMES = {
    "CertifiedVault": "vaults", "Counter": "counters", "ExpectedVault": "vaults", "OpenedKey": "key_release",
    "VaultEvidence": "vaults", "counter": "counters", "granted_socket": "grants",
    "insecure_raw_quote": "grants", "open_released": "key_release", "release_key_offer": "key_release",
    "seal": "sealing", "unseal": "sealing",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import modules that need cryptography on first use, because reading an interface does not need them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'attestation')}"), name)
    globals()[name] = value
    return value
