"""A client: it sends nothing before the enclave at the other end meets the policy.

python project_name/client.py https://127.0.0.1:8443
"""

from __future__ import annotations

import sys
from pathlib import Path

import httpx

from kluis.errors import KluisError
from kluis.host import attested

POLICY = Path(__file__).with_name("policy.toml")


def main(url: str) -> None:
    """Send five ages, and print the answer and what was verified."""
    try:
        with httpx.Client(transport=attested.transport(POLICY), base_url=url, timeout=60) as client:
            answer = client.post("/mean", json={"ages": [61, 58, 70, 66, 49]})
    except KluisError as error:
        sys.exit("\n".join([f"nothing was sent: {error}", *getattr(error, "__notes__", [])]))
    except httpx.ConnectError as error:
        sys.exit(f"{url} cannot be reached: {error}")
    result = attested.attestation(answer)
    print(f"attested: {result.summary}, level {result.claims.level}")
    print(answer.raise_for_status().json())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} https://HOST:PORT")
    main(sys.argv[1])
