"""Streams and coroutines, and what becomes of them when the host leaves."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

from kluis.enclave import Enclave, Table

app = Enclave("streaming")
log: list[str] = []
gate = threading.Event()


class Refusal(Exception):
    """Declared by one stream."""


@app.ecall
def count(to: int, pause: float = 0.0) -> Iterator[int]:
    """Count from 1."""
    try:
        for number in range(1, to + 1):
            time.sleep(pause)
            yield number
        log.append(f"count {to} ended")
    except GeneratorExit:
        log.append(f"count {to} closed")
        raise
    except BaseException as error:
        log.append(f"count {to} {type(error).__name__}")
        raise


@app.ecall
def gated(name: str) -> Iterator[int]:
    """Wait for the gate, and count it."""
    log.append(f"{name} waits")
    try:
        while not gate.wait(0.05):
            continue
        yield 1
        yield 2
    except BaseException as error:
        log.append(f"{name} {type(error).__name__}")
        raise


@app.ecall
def open_gate() -> None:
    """Let every gated stream go on."""
    gate.set()


@app.ecall
async def words(text: str, pause: float = 0.0) -> AsyncIterator[str]:
    """The words of a text."""
    try:
        for word in text.split():
            await asyncio.sleep(pause)
            yield word
        log.append("words ended")
    except GeneratorExit:
        log.append("words closed")
        raise
    except asyncio.CancelledError:
        log.append("words cancelled")
        raise


@app.ecall
def batches(rows: Table, size: int) -> Iterator[Table]:
    """A table in parts."""
    for start in range(0, len(rows), size):
        yield Table(rows.arrow.slice(start, size))


@app.ecall(raises=(Refusal,))
def fails(after: int) -> Iterator[int]:
    """Raise in the middle."""
    yield from range(after)
    raise Refusal("no more")


@app.ecall
def leaks() -> Iterator[int]:
    """Give what is not declared."""
    yield 1
    yield "secret"  # type: ignore[misc]


@app.ecall
def squares(numbers: list[int]) -> Iterator[int]:
    """A plain function that returns an iterator."""
    return (number * number for number in numbers)


@app.ecall
async def later(value: str, seconds: float = 0.0) -> str:
    """Answer later."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        log.append(f"later {value} cancelled")
        raise
    return value


@app.ecall
async def fails_later() -> int:
    """Raise what is not declared."""
    await asyncio.sleep(0)
    raise ValueError("secret")


@app.ecall
def logged() -> list[str]:
    """What became of the streams."""
    return log
