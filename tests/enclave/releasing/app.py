"""An application that has keys released to it, and tells what it opened."""

from __future__ import annotations

import hashlib
from datetime import datetime

from kluis.enclave import (
    CertifiedVault,
    Enclave,
    Evidence,
    ExpectedVault,
    VaultEvidence,
    open_released,
    release_key_offer,
)

app = Enclave("releasing", product_id=8, svn=1, max_message_bytes=4 << 20)


@app.ecall
def offer(nonce: bytes) -> Evidence:
    """Offer this run's key."""
    return release_key_offer(nonce)


@app.ecall
def opened(
    release: str,
    brought: VaultEvidence,
    expected: bytes,
    now: datetime,
    key: str = "k",
    version: str | None = None,
    nonce: str | None = None,
) -> tuple[str, str, str]:
    """Open a release: name, kty, and the hash of the material, which this test may know."""
    vault = ExpectedVault.parse(expected)
    found = open_released(
        release, vault=vault, brought=brought, key=key, now=now, version=version, nonce=nonce
    )
    return found.name, found.kty, hashlib.sha256(found.material).hexdigest()


@app.ecall
def opened_certified(release: str, url: str, roots: bytes, now: datetime) -> str:
    """Open a release of a vault that a certificate names."""
    vault = CertifiedVault(url, roots)
    found = open_released(release, vault=vault, brought=VaultEvidence(), key="k", now=now)
    return found.private_key().__class__.__name__
