"""An enclave that writes a secret to encrypted scratch."""

import hashlib
import os

from kluis.enclave import Enclave

app = Enclave("scratch", product_id=68, svn=1)


def secret_of(seed: str) -> bytes:
    """The needle that the attacker looks for: never sent, made on both sides."""
    return b"PLANTED-" + hashlib.sha256(seed.encode()).hexdigest().encode()


@app.ecall
def write(name: str, seed: str, copies: int) -> int:
    """Write the secret so many times to a file of this name; its size."""
    with open(f"/scratch/{name}", "wb") as file:
        file.write(secret_of(seed) * copies)
        os.fsync(file.fileno())
    return os.path.getsize(f"/scratch/{name}")


@app.ecall
def rewrite(name: str, seed: str, copies: int) -> int:
    """Write it over what such a file holds, in place."""
    with open(f"/scratch/{name}", "r+b") as file:
        return file.write(secret_of(seed) * copies)


@app.ecall
def read(name: str, seed: str) -> int:
    """Count the secret's occurrences in a file of this name."""
    with open(f"/scratch/{name}", "rb") as file:
        return file.read().count(secret_of(seed))


@app.ecall
def listing() -> list[str]:
    """The names there are."""
    return sorted(os.listdir("/scratch"))
