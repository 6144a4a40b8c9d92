"""A key that a vault releases to only this image, in a machine that booted what was measured.

vault.json, next to this file, identifies the vault. It is in the image, so that no host can name another.
``kluis demo --vm`` builds and runs it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from kluis.enclave import (
    Enclave,
    ExpectedVault,
    MachineOffer,
    VaultEvidence,
    machine_key_offer,
    open_machine_token,
    open_released_to_machine,
)

app = Enclave("machine", product_id=22, svn=1)

VAULT = ExpectedVault.parse(Path(__file__).with_name("vault.json").read_bytes())
KEY = "machine"  # the key's name in the vault


@app.ecall
def greet(name: str) -> str:
    """Say hello from inside."""
    return f"hello, {name}, from inside"


@app.ecall
def offer() -> MachineOffer:
    """Evidence of this machine, and of a key in its vTPM: the vault's key will be wrapped to it."""
    return machine_key_offer()


@app.ecall
def token(envelope: str) -> str:
    """Open the token that an attestation service encrypted to the key of the offer."""
    return open_machine_token(envelope)


@app.ecall
def fingerprint(release: str, brought: VaultEvidence) -> str:
    """Open the released key, and return its SHA-256, in hex."""
    now = datetime.now(UTC)  # an enclave has no clock but its host's  # noqa: TID251
    key = open_released_to_machine(release, vault=VAULT, brought=brought, key=KEY, now=now)
    return hashlib.sha256(key.material).hexdigest()
