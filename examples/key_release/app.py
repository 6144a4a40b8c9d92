"""An archive that only this enclave reads: its key comes from a vault, which releases it to no other code.

vault.json, next to this file, identifies the vault. It is in the image, so that no host can name another.
"""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.enclave import (
    Enclave,
    Evidence,
    ExpectedVault,
    VaultEvidence,
    open_released,
    release_key_offer,
)

app = Enclave("archive", product_id=21, svn=1)

WRITTEN = Path(__file__).with_name("vault.json")
if not WRITTEN.exists():
    raise FileNotFoundError("vault.json is missing: kluis vault meet -o vault.json writes it")
VAULT = ExpectedVault.parse(WRITTEN.read_bytes())
KEY = "archive"  # the key's name in the vault
LEAST = 3  # no mean is returned for fewer people


@app.ecall
def offer() -> Evidence:
    """Evidence of this enclave, and of a key that it made: the vault's key will be wrapped to it."""
    return release_key_offer()


@app.ecall(raises=(ValueError,))
def mean_age(release: str, brought: VaultEvidence, archive: bytes, diagnosis: str) -> float:
    """Open the key, open the archive with it, and tell the mean age of those with one diagnosis."""
    now = datetime.now(UTC)  # an enclave has no clock but its host's  # noqa: TID251
    key = open_released(release, vault=VAULT, brought=brought, key=KEY, now=now)
    try:
        text = AESGCM(key.material).decrypt(archive[:12], archive[12:], KEY.encode()).decode()
    except InvalidTag:
        raise ValueError("the archive is not sealed under this key") from None
    ages = [int(row["age"]) for row in csv.DictReader(io.StringIO(text)) if row["diagnosis"] == diagnosis]
    if len(ages) < LEAST:
        raise ValueError(f"want at least {LEAST} people")
    return sum(ages) / len(ages)
