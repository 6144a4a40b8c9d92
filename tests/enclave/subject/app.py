"""An application with one function for each thing that the boundary must hold."""

from __future__ import annotations

import _thread
import contextlib
import enum
import os
import threading
import time
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from kluis.enclave import (
    Counter,
    Enclave,
    Evidence,
    LocalReport,
    Peer,
    Table,
    open_sealed,
    quote,
    receipt_offer,
    release_offer,
    report,
    seal,
    sign_receipt,
    target_info,
    unseal,
    verify_report,
)
from kluis.errors import PolicyError

app = Enclave("subject", product_id=7, svn=3, max_message_bytes=4 << 20, max_table_bytes=8 << 20)

SECRET = "Jansen, born 1951"


class Colour(enum.Enum):
    """An enumeration."""

    RED = 1
    BLUE = 2


class Person(msgspec.Struct):
    """A structure that holds others of its kind."""

    name: Annotated[str, msgspec.Meta(max_length=20)]
    friends: list[Person] = []
    colour: Colour = Colour.RED


@dataclass
class Point:
    """A dataclass."""

    x: float
    y: float = 0.5


class Refusal(Exception):
    """An exception of the application's own."""


@app.ocall
def ask(question: int) -> int:
    """Answered by the host."""
    return question * 2


@app.ocall
def show(table: Table) -> Table:
    """Shown to the host."""
    return table


@app.ocall(timeout_seconds=0.3)
def hurry() -> int:
    """Must be answered quickly."""
    return 1


@app.ecall
def nothing() -> None:
    """The shortest call."""


@app.ecall
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@app.ecall
def echo(data: bytes) -> bytes:
    """Give back what came."""
    return data


@app.ecall
def people(persons: list[Person], point: Point | None, mode: Literal["a", "b"] = "a") -> list[Person]:
    """Pass structures in and out."""
    return persons if point is None else [Person(str(point.x), persons, Colour.BLUE)]


@app.ecall
def rows(table: Table) -> int:
    """Count rows."""
    return table.num_rows


@app.ecall
def doubled(table: Table) -> Table:
    """Twice the same rows."""
    import pyarrow as pa

    return Table(pa.concat_tables([table.arrow, table.arrow]))


@app.ecall
def leak() -> int:
    """Raise an exception whose message holds a secret."""
    return int(SECRET)


@app.ecall(raises=(Refusal,))
def refuse(how: str) -> None:
    """Raise one of several exceptions."""
    if how == "declared":
        raise Refusal("as declared")
    if how == "policy":
        raise PolicyError("count: want 3, got 2", hint="ask for less", code="too_few")
    if how == "memory":
        raise MemoryError
    if how == "exit":
        raise SystemExit(3)
    if how == "evil":
        raise type("Evil" * 100, (Exception,), {"__str__": lambda _: 1 / 0})  # type: ignore[misc]
    raise LookupError(SECRET)


@app.ecall
def liar() -> int:
    """Return what was not declared."""
    return SECRET  # type: ignore[return-value]


@app.ecall
def exhaust() -> int:
    """Ask for more memory than there is."""
    return len(bytearray(1 << 62))


@app.ecall
def squeeze(mib: int) -> None:
    """Leave so much memory and no more."""
    import resource
    from pathlib import Path

    have = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (have + (mib << 20), resource.RLIM_INFINITY))


@app.ecall
def scarce(files: int) -> None:
    """Leave so many descriptors and no more."""
    import os
    import resource

    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@app.ecall
def fill(small: bool) -> int:
    """Take memory until there is none."""
    kept: list[object] = []
    while True:
        kept.append([len(kept)] if small else bytes(1 << 16))


@app.ecall
def spin(seconds: float) -> int:
    """Be busy."""
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        count += 1
    return count


@app.ecall
def stubborn(seconds: float) -> None:
    """Be busy, and swallow the first interruption."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(BaseException):
            spin(end - time.monotonic())


@app.ecall
def through(question: int) -> int:
    """Ask the host."""
    return ask(question)


@app.ecall
def ahead(questions: int) -> list[int]:
    """Ask the host several things before its first answer."""
    waiting = [app.begin(ask, question) for question in range(questions)]
    return [wait() for wait in waiting]


@app.ecall
async def together(questions: int) -> list[int]:
    """Ask the host several things from coroutines of one loop."""
    import asyncio

    return list(await asyncio.gather(*(app.request(ask, question) for question in range(questions))))


@app.ecall
async def in_both_ways(questions: int) -> list[int]:
    """Ask the host from one coroutine: the loop goes on until the answer is there, or waits for it."""
    return [
        ask(question) if question % 3 == 2 else await app.request(ask, question)
        for question in range(questions)
    ]


@app.ecall
def in_a_loop_of_its_own(questions: int) -> None:
    """Ask the host from an event loop in the call's own thread, and go on until it is cancelled."""
    import asyncio

    async def whole() -> None:
        for question in range(questions):
            await app.request(ask, question)
        await asyncio.sleep(3600)

    asyncio.run(whole())


@app.ecall
def shown(table: Table) -> int:
    """Show the host a table, and take one back."""
    return show(table).num_rows


@app.ecall
def hurried() -> int:
    """Ask a slow host."""
    return hurry()


@app.ecall
def threads() -> int:
    """How many threads there are."""
    return len(os.listdir("/proc/self/task"))


class Careless:
    """Fails where nobody can catch it."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __del__(self) -> None:
        raise ValueError(self.secret)


@app.ecall
def careless(secret: str) -> None:
    """Fail with a secret as an object ends, in a thread, and in one that threading does not know."""
    Careless(secret)
    one, other = threading.Event(), threading.Event()
    threading.Thread(target=_fail, args=(one, secret)).start()
    _thread.start_new_thread(_fail, (other, secret))
    one.wait(120)
    other.wait(120)
    time.sleep(0.2)


def _fail(ended: threading.Event, secret: str) -> None:
    ended.set()
    raise ValueError(secret)


@app.ecall
def keep(data: bytes, policy: str, associated: bytes) -> bytes:
    """Seal."""
    return seal(data, policy=policy, associated=associated)  # type: ignore[arg-type]


@app.ecall
def take(blob: bytes, associated: bytes) -> bytes:
    """Unseal."""
    return unseal(blob, associated=associated)


@app.ecall
def count(name: str, up: bool) -> tuple[int, str]:
    """A counter's value and witness."""
    counter = Counter(name, policy="signer")
    return counter.increment() if up else counter.read()


@app.ecall
def count_here(name: str, up: bool) -> tuple[int, str]:
    """The value and witness of a counter of this very image."""
    counter = Counter(name, policy="measurement")
    return counter.increment() if up else counter.read()


@app.ecall
def advance(name: str, to: int, mark: bytes) -> tuple[tuple[int, str, bytes], tuple[int, str, bytes]]:
    """A counter after it was advanced, as it answered and as it reads."""
    counter = Counter(name, policy="signer")
    return counter.advance(to, mark), counter.read_marked()


@app.ecall
def target() -> bytes:
    """TARGETINFO."""
    return target_info()


@app.ecall
def vouch(where: bytes, payload: bytes, nonce: bytes) -> LocalReport:
    """Make a report."""
    return report(where, payload, nonce=nonce)


@app.ecall
def meet(made: LocalReport, nonce: bytes) -> Peer:
    """Check a report."""
    return verify_report(made, nonce=nonce)


@app.ecall
def prove(payload: bytes, nonce: bytes) -> Evidence:
    """Make a quote."""
    return quote(payload, nonce=nonce)


@app.ecall
def offer(nonce: bytes, kind: Literal["release", "receipt"]) -> Evidence:
    """Offer a key of this run."""
    return release_offer(nonce) if kind == "release" else receipt_offer(nonce)


@app.ecall
def opened(sealed: bytes, info: bytes) -> bytes:
    """Open what was sealed to this run."""
    return open_sealed(sealed, info=info)


@app.ecall
def signed(receipt: bytes) -> bytes:
    """Sign a receipt."""
    return sign_receipt(receipt)
