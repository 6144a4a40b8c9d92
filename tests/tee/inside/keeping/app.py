"""An application with a key of its machine, which tells what it opened."""

from __future__ import annotations

import hashlib
from datetime import datetime

from kluis.enclave import (
    Enclave,
    ExpectedVault,
    MachineOffer,
    VaultEvidence,
    machine_key_offer,
    open_machine_token,
    open_released_to_machine,
)

app = Enclave("keeping", product_id=8, svn=1, max_message_bytes=4 << 20)


@app.ecall
def offer(nonce: bytes) -> MachineOffer:
    """Offer this launch's key."""
    return machine_key_offer(nonce)


@app.ecall
def token(envelope: str) -> str:
    """Open a token."""
    return open_machine_token(envelope)


@app.ecall
def opened(
    release: str, brought: VaultEvidence, expected: bytes, now: datetime, nonce: str | None = None
) -> str:
    """Open a release: the hash of the material, which this test may know."""
    vault = ExpectedVault.parse(expected)
    found = open_released_to_machine(release, vault=vault, brought=brought, key="k", now=now)
    return hashlib.sha256(found.material).hexdigest()
