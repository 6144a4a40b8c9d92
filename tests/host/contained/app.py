"""What is tried in the process TEE: needs nothing but the standard library."""

from __future__ import annotations

import time

from kluis.enclave import Counter, Enclave, seal, unseal

app = Enclave("contained", product_id=9, svn=2)


@app.ocall
def ask(question: int) -> int:
    """Answered by the host."""
    return question * 2


@app.ecall
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@app.ecall
def echo(data: bytes) -> bytes:
    """Give back what came."""
    return data


@app.ecall
def through(question: int) -> int:
    """Ask the host."""
    return ask(question)


@app.ecall
def leak() -> int:
    """Raise an exception whose message holds a secret."""
    return int("Jansen, born 1951")


@app.ecall
def fill() -> int:
    """Take memory until there is none."""
    kept: list[bytes] = []
    while True:
        kept.append(bytes(1 << 20))


@app.ecall
def fill_with_small_things() -> int:
    """Take memory in small pieces until there is none."""
    kept: list[object] = []
    while True:
        kept.append([len(kept)])


@app.ecall
def spin(seconds: float) -> int:
    """Be busy."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        count += 1
    return count


@app.ecall
def keep(data: bytes) -> bytes:
    """Seal."""
    return seal(data)


@app.ecall
def take(blob: bytes) -> bytes:
    """Unseal."""
    return unseal(blob)


@app.ecall
def count(name: str, up: bool) -> tuple[int, str]:
    """A counter's value and witness."""
    counter = Counter(name, policy="signer")
    return counter.increment() if up else counter.read()
