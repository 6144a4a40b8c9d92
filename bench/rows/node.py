"""A ledger's node in its enclave, over TLS that is kept: writes, receipts, a million entries, a restart."""

from __future__ import annotations

import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench import floor as three
from bench.harness import Harness, Row, timed
from bench.outside import outside, unchecked
from bench.rows.services import Kept, spent, state
from kluis.ledger.certificates import member_certificate
from kluis.serve.ledger.governing import member_id
from kluis.serve.plan import Plan
from kluis.serve.start import Serving, serving
from kluis.services.clock import SystemClock

APPS: Final = Path(__file__).resolve().parents[1] / "apps"
FEW, MANY = 10_000, 1_000_000
REQUESTS: Final = 200
IN_FLIGHT: Final = 32
GENESIS: Final = 10
"""Entries that found and open a ledger."""
CONTENTS: Final = "x" * 1024
SIGNED_BYTES: Final = 1000
"""Of the plain peer's signature entry, besides the two signatures: about what a ledger's has."""
ENTRY_BYTES: Final = len(CONTENTS) + 200 + SIGNED_BYTES
AT: Final = "/app/transactions"
VERSION: Final = "api-version=2026-07-31-preview"


def rows(take: Harness) -> list[Row]:
    """All rows of a node: on a small ledger, then on one of a million entries."""
    with state() as small, state() as large:
        with Node.running(small) as node, Node.running(large) as other:
            found = [*commits(take, node, ""), *posts(take, node, "")]
            node.fill(FEW)
            other.fill(MANY)
            found += [receipt(take, other), *grown(take, other, node)]
            heap = other.resident()
        with Node.running(small, witness_seconds=1.0) as node:
            words = ", --witness-every 1s"
            found += [*commits(take, node, words), *posts(take, node, words)]
        found.append(restart(take, large, heap))
    return found


def commits(take: Harness, node: Node, words: str) -> list[Row]:
    """One entry at a time, measured inside."""

    def at(part: float, seconds: list[float]) -> float:
        return sorted(seconds)[int(part * (len(seconds) - 1))]

    def floor(part: float) -> float:
        pairs = [
            (
                at(part, three.commits(node.folder, len(CONTENTS) + 100, REQUESTS)),
                at(part, plain_commits(node.folder)),
            )
            for _ in range(take.rounds)
        ]
        return statistics.median(least / other for least, other in pairs)

    return [
        take.compare(
            f"commit of one entry inside, on disk, {name}{words}",
            "write, fdatasync and two P-384 signatures by plain Python",
            hold,
            ours=lambda part=part: at(part, node.commits()),
            theirs=lambda part=part: at(part, plain_commits(node.folder)),
            # With --witness-every the node flushes less than the three do: they are no lower bound of it.
            also=None
            if words
            else lambda part=part: {
                "three plain Pythons that do the same work, against the same": f"{floor(part):.2f}"
            },
        )
        for name, part, hold in (("p50", 0.5, 1.6), ("p99", 0.99, 2.0))
    ]


def plain_commits(folder: Path) -> list[float]:
    """What each commit takes in this process.

    The file grows from call to call, as a ledger's does: the blocks of a file that is cut off are discarded
    by later flushes, those of the other side among them.
    """
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in range(2)]
    data, seconds = os.urandom(ENTRY_BYTES), []
    file = os.open(folder / "plain", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        end = os.fstat(file).st_size
        for number in range(REQUESTS):
            begun = time.perf_counter()
            for key in keys:
                key.sign(data[:32], ec.ECDSA(hashes.SHA384()))
            os.pwrite(file, data, end + number * len(data))
            os.fdatasync(file)
            seconds.append(time.perf_counter() - begun)
    finally:
        os.close(file)
    return seconds


def posts(take: Harness, node: Node, words: str) -> list[Row]:
    """Writes one after the other, with the receipt in the answer; and 32 in flight."""
    body = json.dumps({"contents": CONTENTS}).encode()
    kind = {"Content-Type": "application/json"}
    client = node.client()
    ours = client.request("POST", f"{AT}?{VERSION}&waitForCommit=true", body, kind)
    empty = client.request("POST", "/app/empty", b"", {})
    with tempfile.TemporaryDirectory(dir=node.folder) as folder:
        given = {"LEDGER_STATE": folder, "LEDGER_SIGNATURE_BYTES": str(SIGNED_BYTES)}
        with outside(APPS / "plain_ledger", "app:ledger", **given) as url:
            plain = Kept(url.rstrip("/"), unchecked())
            theirs = plain.request("POST", "/", body, kind)
            serial = take.compare(
                f"POST of an entry of 1 KiB, one after the other, receipt ready{words}",
                "a ledger without an enclave, under uvicorn: signs twice, the same bytes on its disk",
                2.0 if words else 2.3,
                ours=lambda: many(lambda: client.send(ours)),
                theirs=lambda: many(lambda: plain.send(theirs)),
                also=lambda: {
                    "processor time a request": milliseconds(node.spent(lambda: client.send(ours)))
                },
            )
    if words:
        return [serial]
    clients = [node.client() for _ in range(IN_FLIGHT)]
    write = clients[0].request("POST", f"{AT}?{VERSION}", body, kind)
    flying = take.compare(
        f"POST of an entry of 1 KiB, {IN_FLIGHT} connections in flight, time an entry",
        "an empty authenticated POST of the same server and clients",
        2.0,
        ours=lambda: in_flight(clients, write),
        theirs=lambda: in_flight(clients, empty),
    )
    return [serial, flying]


def receipt(take: Harness, node: Node) -> Row:
    """A receipt with claims, of any entry."""
    client = node.client()
    empty = client.request("GET", "/app/empty", b"", {})
    return take.compare(
        f"receipt with claims of an entry among {MANY:,}",
        "an empty authenticated GET of the same server",
        2.0,
        ours=lambda: many(node.receipts(client)),
        theirs=lambda: many(lambda: client.send(empty)),
    )


def grown(take: Harness, large: Node, small: Node) -> list[Row]:
    """The same of a large ledger and of a small one."""
    one, two = large.client(), small.client()
    body = json.dumps({"contents": CONTENTS}).encode()
    write = one.request("POST", f"{AT}?{VERSION}", body, {"Content-Type": "application/json"})
    against = f"the same at {FEW:,} entries"
    return [
        take.compare(
            f"{words} at {MANY:,} entries",
            against,
            1.2,
            ours=lambda a=a: many(a),
            theirs=lambda b=b: many(b),
        )
        for words, a, b in (
            ("write of an entry", lambda: one.send(write), lambda: two.send(write)),
            ("receipt with claims", large.receipts(one), small.receipts(two)),
        )
    ]


def restart(take: Harness, folder: Path, heap: int) -> Row:
    """A node's start from a whole log, until it answers."""
    kluis = str(Path(sys.executable).with_name("kluis"))
    verify = [kluis, "ledger", "verify", str(folder / "ledger"), "--level", "full"]

    def start() -> float:
        with Node.running(folder) as node:
            return node.started

    return take.compare(
        f"restart of a node with {MANY:,} entries",
        "kluis ledger verify, the checks of FULL, on the same files",
        2.5,
        ours=start,
        theirs=lambda: timed(lambda: subprocess.run(verify, check=True, capture_output=True)),
        rounds=min(take.rounds, 5),
        also=lambda: {"resident memory of the node, its heap of 512 MiB included": f"{heap >> 20} MiB"},
    )


class Node:
    """A node that serves.

    Attributes:
        folder: of its state.
        started: seconds from the command to the first answer.
    """

    def __init__(self, folder: Path, running: Serving, started: float) -> None:
        self.folder = folder
        self.started = started
        self._running = running
        self._url = running.addresses["ledger"]

    @classmethod
    @contextmanager
    def running(cls, folder: Path, witness_seconds: float = 0.0) -> Iterator[Node]:
        """A node of the ledger in a folder, which is founded there if there is none."""
        given = {"ledger": {"principals": [principal(folder)], "witness_seconds": witness_seconds}}
        plan = Plan(
            services=("ledger",), state=folder, port=0, given=given, ledger_application=APPS / "ledger"
        )
        with ExitStack() as stack:
            begun = time.perf_counter()
            made = stack.enter_context(
                serving(plan, SystemClock(), lambda line: None, log=lambda lines: None)
            )
            node = cls(folder, made, time.perf_counter() - begun)
            yield node

    def client(self) -> Kept:
        """A connection of the administrator's."""
        return Kept(self._url, context(self.folder))

    def fill(self, count: int) -> None:
        """Write many entries, and wait until all are committed."""
        end = self._seqno() + count
        self._ask("POST", "/app/fill", {"count": count})
        while self._seqno() < end:
            time.sleep(1.0)

    def commits(self) -> list[float]:
        """What each commit takes, seconds."""
        self._ask("POST", "/app/commits", {"count": REQUESTS})
        time.sleep(0.5)
        while not (found := self._ask("GET", "/app/commits")["seconds"]):
            time.sleep(0.5)  # a look costs a handshake
        return [float(one) for one in found]

    def receipts(self, client: Kept) -> Callable[[], object]:
        """Gets the receipt of another entry at each call, over all entries but the ledger's first."""
        last, number = self._seqno(), iter(range(1 << 40))
        history = self._ask("GET", "/app/commit?view_history=true")["view_history"]
        starts = [tuple(map(int, str(one).split("."))) for one in history]

        def ask() -> object:
            seqno = GENESIS + next(number) * 7919 % (last - GENESIS)
            view = max(view for view, first in starts if first <= seqno)
            return client.send(client.request("GET", f"{AT}/{view}.{seqno}/receipt?{VERSION}", b"", {}))

        return ask

    def spent(self, work: Callable[[], object]) -> float:
        """Processor seconds of the enclave for a call."""
        before = spent(self._pid)
        for _ in range(REQUESTS):
            work()
        return (spent(self._pid) - before) / REQUESTS

    def resident(self) -> int:
        """Bytes of memory that the enclave has touched."""
        for line in Path(f"/proc/{self._pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
        raise RuntimeError("no VmRSS")

    @property
    def _pid(self) -> int:
        return self._running.fleets[0].instances[0].enclave.pid

    def _seqno(self) -> int:
        return int(self._ask("GET", "/app/commit")["transaction_id"].partition(".")[2])

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        with httpx.Client(base_url=self._url, verify=context(self.folder), timeout=600) as client:
            return client.request(method, path, json=body).raise_for_status().json()


def many(work: Callable[[], object]) -> float:
    """The mean time of many calls, one after the other."""
    work()
    return timed(lambda: [work() for _ in range(REQUESTS)]) / REQUESTS


def in_flight(clients: list[Kept], request: bytes) -> float:
    """Seconds a request, of all clients at once."""

    def ask(client: Kept) -> None:
        for _ in range(REQUESTS):
            client.send(request)

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]

    def work() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return timed(work) / (REQUESTS * len(clients))


def principal(folder: Path) -> dict[str, Any]:
    """The administrator, whose certificate and key are made in the folder once."""
    pem, shown = folder / "client.pem", folder / "client_cert.pem"
    if not pem.exists():
        key = ec.generate_private_key(ec.SECP384R1())
        shown.write_text(member_certificate(key, SystemClock().now(), name="client"), encoding="ascii")
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem.write_bytes(shown.read_bytes() + private)
    return {"id": member_id(shown.read_text(encoding="ascii")), "roles": ["Administrator"]}


def context(folder: Path) -> ssl.SSLContext:
    """TLS with the administrator's certificate, which trusts only the ledger's service."""
    made = ssl.create_default_context(cafile=str(folder / "service_cert.pem"))
    made.load_cert_chain(folder / "client.pem")
    return made


def milliseconds(seconds: float) -> str:
    """For people."""
    return f"{seconds * 1000:.2f} ms"
