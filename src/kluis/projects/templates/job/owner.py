"""The owner of the records: it releases their key only to an enclave that meets the policy.

python project_name/owner.py project_name.kluis

Here the owner also starts the image. If the host is elsewhere, it passes the same bytes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.host import load, release

FOLDER = Path(__file__).parent
KEY_INFO = b"project_name key"
INPUT, RESULTS = b"project_name input", b"project_name results"


def main(image: str) -> None:
    """Verify the enclave's offer, seal a fresh key to it, send the records, and read the results."""
    key, nonce = AESGCM.generate_key(256), os.urandom(12)
    encrypted = nonce + AESGCM(key).encrypt(nonce, (FOLDER / "records.csv").read_bytes(), INPUT)
    with load(image) as enclave:
        recipient = release.verify_offer(enclave.offer, FOLDER / "policy.toml")
        print(f"attested: {recipient.result.summary}, level {recipient.result.claims.level}")
        answer = enclave.run(recipient.seal(key, info=KEY_INFO), encrypted)
    print(json.loads(AESGCM(key).decrypt(answer[:12], answer[12:], RESULTS)))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} project_name.kluis")
    main(sys.argv[1])
