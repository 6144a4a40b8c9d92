"""A hundred thousand requests of every kind: all answered, through restarts, in memory that does not grow."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kluis.enclave import Evidence
from kluis.host import load
from kluis.tee.platform.client import Platform
from tests.serve.served import Admin, Served, free_ports

QUICK, REQUESTS = 100, 100_000
CLIENTS = 4
RESTARTS = 3
WEB = Path(__file__).resolve().parents[2] / "examples" / "web"
# What a heap of half a gigabyte may grow by, of 100,000 requests: less than two bytes each.
MOST_GROWTH = 16 << 20


class Kept:
    """One client: a connection that it keeps, and reopens only after it was announced to end."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        host, _, port = url.removeprefix("https://").partition(":")
        self._where, self._context = (host, int(port)), context
        self._socket: ssl.SSLSocket | None = None

    def ask(self, request: bytes) -> int:
        """One request, and its status."""
        if self._socket is None:
            raw = socket.create_connection(self._where, timeout=300)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = self._context.wrap_socket(raw, server_hostname=self._where[0])
        self._socket.sendall(request)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._part()
        head = data[:end].lower()
        size = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        while len(data) < end + 4 + size:
            data += self._part()
        if b"connection: close" in head:
            self.close()
        return int(data[9:12])

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _part(self) -> bytes:
        assert self._socket is not None
        part = self._socket.recv(65536)
        assert part, "the service hung up on a connection that it had not said it ends"
        return part


def request_bytes(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """A request as it goes over a connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _requests(admin: Admin, made: Evidence) -> list[tuple[str, bytes]]:
    """One of every kind, by service."""
    attest, vault = admin.headers("attestation"), admin.headers("keyvault")
    runtime = {"data": _url64(made.runtime_data), "dataType": "JSON"}
    body = json.dumps({"quote": _url64(made.quote), "runtimeData": runtime}).encode()
    digest = json.dumps({"alg": "ES256", "value": _url64(bytes(32))}).encode()
    kind = {"Content-Type": "application/json"}
    return [
        ("attestation", request_bytes("POST", "/attest/SgxEnclave?api-version=2022-08-01", body, kind)),
        ("keyvault", request_bytes("GET", "/keys/soak/?api-version=7.4", headers=vault)),
        ("attestation", request_bytes("GET", "/certs")),
        ("keyvault", request_bytes("POST", "/keys/soak/sign?api-version=7.4", digest, {**kind, **vault})),
        ("attestation", request_bytes("GET", "/policies/SgxEnclave?api-version=2020-10-01", headers=attest)),
        ("keyvault", request_bytes("GET", "/keys?api-version=7.4", headers=vault)),
        ("attestation", request_bytes("POST", "/attest/SgxEnclave?api-version=2022-08-01", b"{}", kind)),
    ]


class Load:
    """Clients that ask all kinds in turn, ``pause`` seconds after an answer, and what they were answered."""

    def __init__(self, told: Any, requests: list[tuple[str, bytes]], total: int, pause: float) -> None:
        self.statuses: Counter[int] = Counter()
        self._told, self._requests, self._left = told, requests, total
        self._pause = pause
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(at,)) for at in range(CLIENTS)]
        self.faults: list[BaseException] = []
        for one in self._threads:
            one.start()

    @property
    def left(self) -> int:
        """The number of requests left."""
        return self._left

    def join(self) -> None:
        """Wait for all."""
        for one in self._threads:
            one.join()

    def _run(self, at: int) -> None:
        context = ssl.create_default_context(cafile=self._told["ca"])
        clients = {name: Kept(url, context) for name, url in self._told["addresses"].items()}
        try:
            while self._take():
                service, request = self._requests[at % len(self._requests)]
                status = clients[service].ask(request)
                with self._lock:
                    self.statuses[status] += 1
                at += 1
                time.sleep(self._pause)
        except BaseException as fault:
            self.faults.append(fault)
        finally:
            for client in clients.values():
                client.close()

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0


def resident_bytes(pid: int) -> int:
    """Bytes of memory that a process has touched, secret memory included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError(pid)


def _soak(state: Path, folder: Path, total: int, restarts: int, pause: float = 0.0) -> tuple[Load, list[int]]:
    """Ask, restart meanwhile, and say by how much each enclave of the last restart grew."""
    root = folder / "root.pem"
    root.write_bytes(Platform.connect().root_pem())
    made = _evidence(folder)
    more = ["--root", str(root), "--database", f"sqlite:///{folder / 'soak.db'}"]
    with Served(("attestation", "keyvault"), state, *more, port=free_ports()) as served:
        with Admin(served.told) as admin:
            assert admin.create_key("soak")
            asked = Load(served.told, _requests(admin, made), total, pause)
        for number in range(restarts):
            while asked.left > total * (restarts + 1 - number) // (restarts + 2) and not asked.faults:
                time.sleep(0.2)
            os.kill(served.process.pid, signal.SIGHUP)
            while sum("restarted" in line for line in served.log) <= number:
                assert served.process.poll() is None
                time.sleep(0.2)
        pids = served.running_enclaves()
        while asked.left > total // (restarts + 3) and not asked.faults:
            time.sleep(0.2)
        before = [resident_bytes(pid) for pid in pids]
        asked.join()
        grown = [resident_bytes(pid) - old for pid, old in zip(pids, before, strict=True)]
        assert served.stop() == 0
    return asked, grown


def _evidence(folder: Path) -> Evidence:
    from kluis.tee.image.build.builder import build

    image = folder / "web.kluis"
    build(WEB, image, folder / "author.pem")
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        load(image, sockets={"listen:web": listener}) as one,
    ):
        return one.evidence(bytes(16))


def _check(asked: Load, total: int) -> None:
    assert asked.faults == []
    assert set(asked.statuses) == {200, 400}
    assert sum(asked.statuses.values()) == total


def test_no_request_is_lost_in_a_restart(state: Path, tmp_path: Path) -> None:
    """A hundred requests of every kind, through one restart: every one is answered as it should be."""
    asked, _ = _soak(state, tmp_path, QUICK, 1, pause=0.25)
    _check(asked, QUICK)


@pytest.mark.slow
def test_a_hundred_thousand_requests(state: Path, tmp_path: Path) -> None:
    """A hundred thousand, through three restarts: none is lost, and no enclave's memory grows with them."""
    asked, grown = _soak(state, tmp_path, REQUESTS, RESTARTS)
    _check(asked, REQUESTS)
    assert max(grown) < MOST_GROWTH
