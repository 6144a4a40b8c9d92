"""How long SHA-256 takes where the enclave runs."""

import time
from hashlib import sha256

from kluis.enclave import Enclave

app = Enclave("bench-hashing")
CHUNK = bytes(1 << 20)


@app.ecall
def hashing(mebibytes: int) -> float:
    """Seconds that SHA-256 of so many MiB takes."""
    start = time.perf_counter()
    digest = sha256()
    for _ in range(mebibytes):
        digest.update(CHUNK)
    digest.digest()
    return time.perf_counter() - start
