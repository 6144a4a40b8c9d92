"""An enclave that runs scripts of others."""

import threading

from kluis.enclave import Enclave
from kluis.errors import KluisError
from kluis.ledger.js import Engine, Limits

app = Enclave("scripting", product_id=71, svn=1)


@app.ecall
def run(source: str, argument: bytes, heap: int, seconds: float) -> str:
    """The result of a module's function ``f``, or the code of what ended it and its words."""
    try:
        with Engine(Limits(seconds=seconds, heap=heap)) as engine:
            engine.bind("echo", lambda value: value)
            engine.evaluate("m", source)
            return repr(engine.call("m", "f", argument))
    except KluisError as error:
        return f"{error.code}: {error.message}"


@app.ecall
def run_in_a_thread(source: str) -> str:
    """The same in a thread that the program starts itself."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(run(source, b"", 8 << 20, 1.0)))
    thread.start()
    thread.join()
    return found[0]


@app.ecall
def many(count: int) -> int:
    """So many engines, one after another."""
    done = 0
    for _ in range(count):
        with Engine(Limits(seconds=5, heap=4 << 20)) as engine:
            engine.evaluate("m", "export const f = (x) => x.length;")
            done += engine.call("m", "f", b"x") == 1
    return done


@app.ecall
def elsewhere() -> str:
    """What another thread gets that calls, and drops, an engine."""
    engine = [Engine()]
    engine[0].evaluate("m", "export const f = () => 1;")
    found: list[str] = []

    def touch() -> None:
        try:
            engine[0].call("m", "f")
        except KluisError as error:
            found.append(error.code)
        engine.clear()

    thread = threading.Thread(target=touch)
    thread.start()
    thread.join()
    return found[0]


@app.ecall
def overrun() -> None:
    """A loop of one native operation on large integers, which no time limit of the engine interrupts."""
    engine = Engine(Limits(seconds=0.1, last=2.0))
    engine.evaluate("m", "export function f() { const x = (1n << 400000n) - 1n; while (true) x * x; }")
    engine.call("m", "f")
