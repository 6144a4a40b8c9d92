"""The host: it starts the image, checks the enclave's evidence under the policy, and calls it.

python project_name/host.py project_name.kluis
"""

from __future__ import annotations

import sys
from pathlib import Path

from kluis.host import load

POLICY = Path(__file__).with_name("policy.toml")


def main(image: str) -> None:
    """Attest the enclave, then call it; without the right evidence there is no call."""
    with load(image) as enclave:
        result = enclave.attest(POLICY)
        print(f"attested: {result.summary}, level {result.claims.level}")
        print(f"mean age: {enclave.mean_age([61, 58, 70, 66, 49])}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} project_name.kluis")
    main(sys.argv[1])
