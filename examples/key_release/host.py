"""The host: carries evidence, token, released key and archive, and can read none of what matters.

python host.py archive.kluis
"""

from __future__ import annotations

import sys
from pathlib import Path

from kluis.host import load
from kluis.host.vaults import vault_evidence
from services import Services, run

ARCHIVE = Path("archive.sealed")


def main(path: str) -> None:
    """Attest, have the key released, ask."""
    if not ARCHIVE.exists():
        sys.exit(f"{ARCHIVE} is missing: run owner.py first")
    services = Services("workload")
    with load(path) as enclave:
        token = services.attest(enclave.offer())
        print(f"attested: a token of {len(token)} bytes")
        release = services.release("archive", token)
        print(f"released: {len(release)} bytes, which open only inside that run")
        brought = vault_evidence(services.vault, ca=services.ca)
        archive = ARCHIVE.read_bytes()
        print(f"mean age: {enclave.mean_age(release, brought, archive, 'glaucoma')}")


if __name__ == "__main__":
    run(main)
