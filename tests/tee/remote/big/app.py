"""Large arguments, in calls and in ocalls."""

from __future__ import annotations

import os

from kluis.enclave import Enclave

app = Enclave("big", max_message_bytes=(16 << 20) + 64)


@app.ocall
def reverse(data: bytes) -> bytes:
    """Turned round by the host."""
    return data[::-1]


@app.ecall
def echo(data: bytes) -> bytes:
    """Give back what came."""
    return data


@app.ecall
def reversed_outside(data: bytes) -> bytes:
    """Have the host turn it round."""
    return reverse(data)


@app.ecall
def files() -> int:
    """How many descriptors are open."""
    return sum(1 for number in range(64) if _is_open(number))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@app.ecall
def end() -> None:
    """End at once."""
    os._exit(5)
