"""A ledger answers a hundred thousand requests of every kind: its memory grows with its tree only."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from kluis.enclave.runtime.workers import STACK_BYTES
from tests.serve.ledger.clients import Client
from tests.serve.served import Served, bring_images
from tests.serve.test_soak import Kept, request_bytes, resident_bytes

QUICK, REQUESTS = 400, 100_000
CLIENTS = 8
WARM = 0.5
"""Memory counts once this part was answered: until then the heap grows to its most, in steps of megabytes."""
OF_ENTRY = 64 + 3 * 8
"""Bytes that an entry leaves: its leaf and the nodes above it, and its seqno in three lists at most."""
REMEMBERED = 500
"""Ids of requests that come again and again: a ledger remembers each for ten minutes."""
SLACK = 8 << 20
"""Bytes for requests that are being answered and for what allocators keep."""
STACK = STACK_BYTES + (1 << 16)
"""Bytes of one more thread, all touched: one starts when more calls are open than ever before."""
STALLED = {502, 503}
"""What is answered while the disk takes nothing for five seconds, as one that others use may do."""
AGAIN_SECONDS = 1.0
MOST_STALLED = 100
"""Of all requests; a ledger with a fault would refuse more."""
VERSION = "api-version=2026-02-23"
NEWEST = "api-version=2026-07-31-preview"


def kinds(txid: str, number: int) -> list[bytes]:
    """One request of every kind.

    Args:
        txid: of an entry that is committed.
        number: makes the written entries of each round others.
    """
    kind, at = {"Content-Type": "application/json"}, "/app/transactions"
    entry = json.dumps({"contents": f"{number:08} {'x' * 200}"}).encode()
    again = {**kind, "x-ms-client-request-id": f"retry-{number % REMEMBERED}"}
    same = json.dumps({"contents": f"{number % REMEMBERED}"}).encode()
    return [
        request_bytes("POST", f"{at}?{VERSION}", entry, kind),
        request_bytes("GET", f"{at}/{txid}/receipt?{VERSION}"),
        request_bytes("POST", f"{at}?{VERSION}&collectionId=c{number % 40}", entry, kind),
        request_bytes("GET", f"{at}/{txid}?{VERSION}"),
        request_bytes("POST", f"{at}?{NEWEST}&tags=t{number % 30},all&waitForCommit=true", entry, kind),
        request_bytes("GET", f"{at}/current?{VERSION}"),
        request_bytes("POST", f"{at}?{VERSION}", same, again),
        request_bytes("GET", f"{at}/{txid}/status?{VERSION}"),
        request_bytes("POST", f"{at}?{VERSION}", entry, kind),
        request_bytes("GET", f"/app/collections?{VERSION}"),
        request_bytes("GET", f"/app/receipt/cose?transaction_id={txid}"),
        request_bytes("GET", "/app/commit?view_history=true"),
        request_bytes("GET", "/gov/service/members?api-version=2024-07-01"),
        request_bytes("GET", f"{at}?{VERSION}&fromTransactionId={txid}&toTransactionId={txid}"),
        request_bytes("POST", f"{at}?{VERSION}", b'{"contents": 7}', kind),
        request_bytes("GET", f"{at}/2.99999999?{VERSION}"),
    ]


class Load:
    """Clients that send all kinds in turn, and again what was refused because the disk stalled.

    Attributes:
        statuses: of the answers.
        stalled: how often a request was refused because the disk stalled.
        faults: what ended a client.
    """

    def __init__(self, url: str, client: Client, txid: str, total: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.stalled = 0
        self.faults: list[BaseException] = []
        self._url, self._context, self._txid, self._left = url, client.context(), txid, total
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(at,)) for at in range(CLIENTS)]
        for one in self._threads:
            one.start()

    @property
    def answered(self) -> int:
        """How many requests were answered."""
        with self._lock:
            return sum(self.statuses.values())

    def join(self) -> None:
        """Wait for all."""
        for one in self._threads:
            one.join()

    def _run(self, number: int) -> None:
        try:
            client = Kept(self._url, self._context)
            while True:
                for request in kinds(self._txid, number):
                    with self._lock:
                        self._left -= 1
                        if self._left < 0:
                            client.close()
                            return
                    while (status := client.ask(request)) in STALLED and self._waits():
                        time.sleep(AGAIN_SECONDS)
                    with self._lock:
                        self.statuses[status] += 1
                number += CLIENTS
        except BaseException as fault:
            self.faults.append(fault)

    def _waits(self) -> bool:
        with self._lock:
            self.stalled += 1
            return self.stalled < MOST_STALLED


def _soak(state: Path, total: int) -> tuple[Counter[int], int, int]:
    """Ask; return the answers by status, by how much the enclave grew, and by how many entries the ledger.

    Stacks of threads that started meanwhile do not count.
    """
    client = Client.create(state)
    with Served(("ledger",), state, "--settings", str(client.settings)) as served:
        url = served.told["addresses"]["ledger"]
        (pid,) = served.enclaves()
        txid = _write(url, client)
        load = Load(url, client, txid, total)
        while load.answered < total * WARM and not load.faults:
            time.sleep(0.05)
        before, threads, entries = resident_bytes(pid), _threads(pid), _committed(url, client)
        load.join()
        assert load.faults == []
        print(f"refused because the disk stalled: {load.stalled}")
        started = _threads(pid) - threads
        grown, more = resident_bytes(pid) - before - started * STACK, _committed(url, client) - entries
        print(f"threads that started: {started}")
        assert served.running_enclaves() == [pid]
        assert served.stop() == 0
    return load.statuses, grown, more


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def _write(url: str, client: Client) -> str:
    with httpx.Client(base_url=url, verify=client.context(), timeout=120) as http:
        answer = http.post(f"/app/transactions?{VERSION}", json={"contents": "first"}).raise_for_status()
        return answer.headers["x-ms-ccf-transaction-id"]


def _committed(url: str, client: Client) -> int:
    with httpx.Client(base_url=url, verify=client.context(), timeout=120) as http:
        txid = http.get("/app/commit").raise_for_status().json()["transaction_id"]
        return int(txid.partition(".")[2])


def _check(statuses: Counter[int], entries: int, total: int) -> None:
    assert set(statuses) == {200, 400, 404}
    assert sum(statuses.values()) == total
    assert entries > total // 8  # about half of the requests write, and some came before the count began


def test_every_kind_is_answered(tmp_path: Path) -> None:
    """A few hundred requests: each as it should be."""
    bring_images(tmp_path)
    statuses, _, entries = _soak(tmp_path, QUICK)
    _check(statuses, entries, QUICK)


@pytest.mark.slow
def test_a_hundred_thousand_requests(tmp_path: Path) -> None:
    """Memory is flat but for the tree, and what finds an entry."""
    bring_images(tmp_path)
    statuses, grown, entries = _soak(tmp_path, REQUESTS)
    print(f"{dict(statuses)}, {entries} entries, grown by {grown >> 10} KiB")
    _check(statuses, entries, REQUESTS)
    assert grown < SLACK + OF_ENTRY * entries, (grown, entries)
