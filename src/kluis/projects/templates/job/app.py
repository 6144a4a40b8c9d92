"""The job inside the enclave: it opens the owner's input, computes, and encrypts the results to the owner.

The host passes only ciphertext in both directions.
"""

from __future__ import annotations

import csv
import io
import json
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.enclave import Enclave, Evidence, open_sealed, release_offer

app = Enclave("project_name", product_id=1, svn=1)

KEY_INFO = b"project_name key"
INPUT, RESULTS = b"project_name input", b"project_name results"
LEAST = 3  # no mean is returned for fewer people


@app.ecall
def offer(nonce: bytes) -> Evidence:
    """Return evidence of this enclave and of a key that it generated, over the owner's nonce."""
    return release_offer(nonce)


@app.ecall(raises=(ValueError,))
def run(sealed_key: bytes, encrypted: bytes) -> bytes:
    """Run the job on the owner's input, and return its results, encrypted under the owner's key.

    Args:
        sealed_key: 32 bytes of AES key, sealed to the offered key.
        encrypted: 12 bytes of nonce, then CSV with the columns age and diagnosis, under that key.
    """
    cipher = AESGCM(open_sealed(sealed_key, info=KEY_INFO))
    try:
        text = cipher.decrypt(encrypted[:12], encrypted[12:], INPUT).decode()
    except (InvalidTag, ValueError):
        raise ValueError("the input is not encrypted under the sealed key") from None
    return encrypt(cipher, json.dumps(means(text)).encode())


def means(text: str) -> dict[str, float]:
    """Compute the mean age of each diagnosis that at least three people have."""
    ages: dict[str, list[int]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        ages.setdefault(row["diagnosis"], []).append(int(row["age"]))
    return {name: sum(values) / len(values) for name, values in sorted(ages.items()) if len(values) >= LEAST}


def encrypt(cipher: AESGCM, results: bytes) -> bytes:
    """Encrypt results under a fresh nonce, whose 12 bytes come first."""
    nonce = os.urandom(12)
    return nonce + cipher.encrypt(nonce, results, RESULTS)
