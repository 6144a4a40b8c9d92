"""The host of the hello enclave: it starts it, calls it, and sees only what the enclave tells.

python examples/hello/host.py hello.kluis
"""

from __future__ import annotations

import sys

from kluis.host import load


def main(path: str) -> None:
    """Make every call once."""
    with load(path, ocalls={"progress": lambda done, of: print(f"progress: {done} of {of}")}) as enclave:
        print(enclave.greet("world"))
        print(enclave.mean([3.0, 4.0, 8.0]))
        sealed = enclave.keep("nobody reads this")
        print(f"sealed: {len(sealed)} bytes, which are of no use to the host")
        print(f"length, reported from inside: {enclave.length(sealed)}")
        print(f"primes below 5000: {enclave.primes(5000)}")


if __name__ == "__main__":
    main(sys.argv[1])
