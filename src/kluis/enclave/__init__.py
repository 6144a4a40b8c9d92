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
    from kluis.enclave.machine_key import machine_key_offer, open_machine_token, open_released_to_machine
    from kluis.enclave.sealing import seal, unseal
    from kluis.enclave.vaults import CertifiedVault, ExpectedVault, VaultEvidence
    from kluis.formats.kluis.machine_key import MachineOffer

__all__ = [
    "CertifiedVault", "Counter", "Enclave", "Evidence", "ExpectedVault", "LocalReport", "MachineOffer",
    "OpenedKey", "Peer", "Table", "VaultEvidence", "counter", "granted_socket", "insecure_raw_quote",
    "machine_key_offer", "open_machine_token", "open_released", "open_released_to_machine", "open_sealed",
    "quote", "receipt_offer", "release_key_offer", "release_offer", "report", "seal", "sign_receipt",
    "target_info", "unseal", "verify_report",
]  # fmt: skip

_LATE = {
    "CertifiedVault": "kluis.enclave.vaults",
    "Counter": "kluis.enclave.counters",
    "Evidence": "kluis.enclave.attestation",
    "ExpectedVault": "kluis.enclave.vaults",
    "LocalReport": "kluis.enclave.attestation",
    "MachineOffer": "kluis.formats.kluis.machine_key",
    "OpenedKey": "kluis.enclave.key_release",
    "Peer": "kluis.enclave.attestation",
    "VaultEvidence": "kluis.enclave.vaults",
    "counter": "kluis.enclave.counters",
    "granted_socket": "kluis.enclave.grants",
    "insecure_raw_quote": "kluis.enclave.grants",
    "machine_key_offer": "kluis.enclave.machine_key",
    "open_machine_token": "kluis.enclave.machine_key",
    "open_released": "kluis.enclave.key_release",
    "open_released_to_machine": "kluis.enclave.machine_key",
    "open_sealed": "kluis.enclave.attestation",
    "quote": "kluis.enclave.attestation",
    "receipt_offer": "kluis.enclave.attestation",
    "release_key_offer": "kluis.enclave.key_release",
    "release_offer": "kluis.enclave.attestation",
    "report": "kluis.enclave.attestation",
    "seal": "kluis.enclave.sealing",
    "sign_receipt": "kluis.enclave.attestation",
    "target_info": "kluis.enclave.attestation",
    "unseal": "kluis.enclave.sealing",
    "verify_report": "kluis.enclave.attestation",
}


def __getattr__(name: str) -> Any:
    """Import modules that need cryptography on first use, because reading an interface does not need them."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LATE[name]), name)
    globals()[name] = value
    return value
