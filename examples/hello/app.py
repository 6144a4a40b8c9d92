"""The smallest enclave worth having: it tells the mean of numbers, and keeps a secret.

kluis build examples/hello -o hello.kluis --key author.pem
kluis run hello.kluis greet '"world"'
kluis run hello.kluis mean '[3, 4, 8]'
"""

from __future__ import annotations

from kluis.enclave import Enclave, seal, unseal

app = Enclave("hello", product_id=1, svn=1)


@app.ocall
def progress(done: int, of: int) -> None:
    """Run by the host, in the open: say only what anyone may know."""


@app.ecall
def greet(name: str) -> str:
    """Say hello from inside."""
    return f"hello, {name}, from inside"


@app.ecall(raises=(ValueError,))
def mean(values: list[float]) -> float:
    """The mean of at least three values, so that none of them can be read off it."""
    if len(values) < 3:
        raise ValueError(f"mean: want at least 3 values, got {len(values)}")
    return sum(values) / len(values)


@app.ecall
def keep(secret: str) -> bytes:
    """Seal a secret: only this very image, launched as it is now, opens it again."""
    return seal(secret.encode())


@app.ecall
def length(sealed: bytes) -> int:
    """Open a sealed secret inside, and tell how long it is."""
    return len(unseal(sealed))


@app.ecall
def primes(below: int) -> int:
    """Count the primes below a number, and let the host see how far it is."""
    found = 0
    for number in range(2, below):
        if number % 1000 == 0:
            progress(number, below)
        found += all(number % other for other in range(2, int(number**0.5) + 1))
    return found
