"""An application with a store: the host carries its records, and hands its key from instance to instance."""

from datetime import UTC, datetime
from time import perf_counter

from kluis.enclave import Enclave
from kluis.enclave.store import Writing
from kluis.enclave.store.keys import custody

app = Enclave("keeper", product_id=9, svn=1)
held = custody.declare(app, now=lambda: datetime.now(UTC))


@app.ecall
def put(key: str, value: bytes) -> None:
    """Keep a value."""
    held.storage.update(lambda store: store.put("t", key, value))


@app.ecall
def get(key: str) -> bytes | None:
    """Find a value."""
    return held.storage.get("t", key)


@app.ecall
def add(key: str) -> int:
    """Count up."""

    def work(store: Writing) -> int:
        value = int(store.get("t", key) or b"0") + 1
        store.put("t", key, b"%d" % value)
        return value

    return held.storage.update(work)


@app.ecall
def fill(count: int, size: int) -> None:
    """Keep so many values; every other one has an index."""

    def work(store: Writing) -> None:
        for at in range(count):
            store.put("many", str(at), bytes([at % 256]) * size, index="even" if at % 2 == 0 else "")

    held.storage.update(work)


@app.ecall
def count() -> tuple[int, int]:
    """How many there are, and how many with the index; each is what was kept."""
    found = list(held.storage.scan("many"))
    assert all(set(value) <= {int(key) % 256} for key, value in found)
    return len(found), len(list(held.storage.scan("many", "even")))


@app.ecall
def timed(key: str, times: int) -> tuple[float, float]:
    """Seconds that a get, and an update, take."""
    storage = held.storage
    began = perf_counter()
    for _ in range(times):
        storage.get("t", key)
    read = perf_counter()
    for _ in range(times):
        storage.update(lambda store: store.put("t", key, bytes(1000)))
    return (read - began) / times, (perf_counter() - read) / times
