"""The service as tests reach it: in this process, or on loopback under an authority of the test's own."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import httpx
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.authority import enrolment
from kluis.authority.enrolment import Enrolment
from kluis.enclave.store.model import Storage
from kluis.formats import x509
from kluis.hashes import sha256
from kluis.serve.front.authority import LoopbackAuthority
from kluis.services.provisioning.app import Settings, service
from tests.services.web.issuer import FixedClock, TokenMaker

MAKER = TokenMaker()
OWNER, READER = "Provisioning Contributor", "Provisioning Reader"
SGX = "/sgx/certification/v4"
ONES, TWOS = bytes([1] * 16), bytes([2] * 16)


class Asking:
    """A service, its clock, and requests to it without a network."""

    def __init__(self, storage: Storage, now: datetime, level: str | None = "process", **more: Any) -> None:
        self.clock = FixedClock(now)
        self.storage = storage
        self.service = service(Settings(level=level, issuer=MAKER.issuer()), storage, self.clock, **more)

    @property
    def now(self) -> datetime:
        return self.clock.at

    def ask(self, method: str, path: str, role: str | None = None, **rest: Any) -> httpx.Response:
        """One request; with a token of ``role`` if there is one."""
        headers = rest.pop("headers", {}) | ({} if role is None else MAKER.header(role, now=self.now))

        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self.service)
            async with httpx.AsyncClient(
                transport=transport, base_url="https://pcs.example", timeout=120
            ) as client:
                return await client.request(method, path, headers=headers, **rest)

        return asyncio.run(run())

    def get(self, path: str) -> httpx.Response:
        return self.ask("GET", path)

    def order(self, name: str, **body: Any) -> httpx.Response:
        """An order of the owner's."""
        return self.ask("POST", f"/kluis/{name}", OWNER, json=body)

    def root(self) -> bytes:
        return self.get("/kluis/root").content

    def enrol(self, platform: Platform) -> httpx.Response:
        """A platform's request."""
        return self.ask("POST", f"{SGX}/platforms", content=platform.request(self))


class Platform:
    """A platform that requests a certificate."""

    def __init__(self, ppid: bytes = bytes(range(16)), cpusvn: bytes = ONES, pcesvn: int = 1) -> None:
        self.pck = ec.generate_private_key(ec.SECP256R1())
        self.ppid, self.cpusvn, self.pcesvn = ppid, cpusvn, pcesvn

    def request(self, asking: Asking, **changes: Any) -> bytes:
        """What it signs."""
        (root,) = x509.parse_pem(asking.root(), "root")
        said = {
            "ppid": self.ppid,
            "key": enrolment.point(self.pck.public_key()),
            "cpusvn": self.cpusvn,
            "pcesvn": self.pcesvn,
            "level": "process",
            "root": sha256(root.der),
            "made": asking.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return Enrolment(**{**said, **changes}).sign(self.pck)


class Served(Asking):
    """A service on loopback: ``url`` over TLS under ``ca`` (PEM file), ``plain`` without."""

    def __init__(self, storage: Storage, now: datetime, folder: Path, **more: Any) -> None:
        super().__init__(storage, now, **more)
        real = datetime.now(UTC)  # the clients' TLS believes no other clock
        authority = LoopbackAuthority.load_or_create(folder / "tls", real)
        authority.server_context(folder / "tls", ("localhost", "127.0.0.1"), real)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(authority.root_pem())
        self._pem = folder / "tls" / "server.pem"
        self._stack = ExitStack()
        self.url = self.plain = ""

    def __enter__(self) -> Self:
        self.url = f"https://127.0.0.1:{self._run(ssl_certfile=self._pem, ssl_keyfile=self._pem)}"
        self.plain = f"http://127.0.0.1:{self._run()}"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _run(self, **tls: Any) -> int:
        server = uvicorn.Server(
            uvicorn.Config(self.service, port=0, log_level="error", lifespan="off", **tls)
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(300)

        self._stack.callback(stop)
        until = time.monotonic() + 120
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        port: int = server.servers[0].sockets[0].getsockname()[1]
        return port
