"""The owner: generates a key, encrypts the archive, and lets the vault release the key to only one image.

python owner.py archive.kluis
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.images import read_image
from services import Services, run

KEY = "archive"
RECORDS = """name,age,diagnosis
Jansen,61,glaucoma
de Vries,58,glaucoma
Bakker,70,glaucoma
Visser,66,cataract
Smit,49,cataract
"""


def policy(authority: str, image_id: str) -> dict[str, Any]:
    """Who may have the key: this image, not in debug, for a key that it made itself, on a good platform."""
    wanted = {
        "x-ms-sgx-mrenclave": image_id,
        "x-ms-sgx-is-debuggable": "false",
        "x-ms-runtime.purpose": "release-key",
        "x-kluis-tcb-status": "UpToDate",
    }
    claims = [{"claim": name, "equals": value} for name, value in wanted.items()]
    return {"version": "1.0.0", "anyOf": [{"authority": authority, "allOf": claims}]}


def main(path: str) -> None:
    """Keep the key, write the archive."""
    services, key = Services("admin"), secrets.token_bytes(32)
    with Path(path).open("rb") as file:
        image_id = read_image(file).image_id.hex()
    services.keep(KEY, key, policy(services.attestation, image_id))
    nonce = secrets.token_bytes(12)
    Path("archive.sealed").write_bytes(nonce + AESGCM(key).encrypt(nonce, RECORDS.encode(), KEY.encode()))
    print("written: archive.sealed, whose key only that image gets")


if __name__ == "__main__":
    run(main)
