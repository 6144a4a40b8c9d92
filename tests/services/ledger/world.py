"""A ledger in this process: its real engine and log, without an enclave, and clients with certificates."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.hashes import sha256
from kluis.ledger import certificates
from kluis.serve.ledger.log import LedgerLog
from kluis.services.ledger.app import LedgerApplication
from kluis.services.ledger.application import Application
from kluis.services.ledger.callers import canonical_id
from kluis.services.ledger.genesis import Quoted
from kluis.services.ledger.identity import NodeIdentity, Shown
from kluis.services.ledger.node import Node, Surroundings
from kluis.services.ledger.running.state import Witnessed
from kluis.services.ledger.settings import Issuer, Member, Principal, Settings
from tests.keys import rsa_key
from tests.services.keyvault.memory import MemoryStorage

NOW = datetime(2026, 11, 28, 19, tzinfo=UTC)
VERSION = "api-version=2026-02-23"


class SetClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = NOW
        self.seconds = 0.0

    def now(self) -> datetime:
        """The time."""
        return self.time

    def pace(self) -> float:
        """Seconds that only grow."""
        return self.seconds

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.time += timedelta(seconds=seconds)
        self.seconds += seconds


class MemoryWitness:
    """Remembers in this process."""

    def __init__(self) -> None:
        self.said = Witnessed(0, b"", 0)
        self.count = 0

    def read(self) -> Witnessed:
        """The last."""
        return self.said

    def advance(self, to: Witnessed) -> Witnessed:
        """Never back."""
        self.count += 1
        if to.step > self.said.step:
            self.said = to
        return self.said

    async def advance_async(self, to: Witnessed) -> Witnessed:
        """Likewise."""
        return self.advance(to)


class Threaded:
    """A log of this process, whose coroutines wait for it in a thread, as for a host."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append_async(self, previous: bytes, batch: bytes) -> str:
        """As the log's ``append``."""
        return await asyncio.to_thread(self._log.append, previous, batch)

    async def read_each_async(self, seqnos: list[int]) -> list[bytes]:
        """As the log's ``read_each``."""
        return await asyncio.to_thread(self._log.read_each, seqnos)


class Identity:
    """A client's key and certificate.

    Attributes:
        key: on P-384.
        pem: the certificate.
        id: SHA-256 of it, hexadecimal.
        user: the same, as Azure's users are named.
    """

    def __init__(self, name: str = "user", now: datetime = NOW) -> None:
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.pem = certificates.member_certificate(self.key, now, name=name)
        der = x509.load_pem_x509_certificate(self.pem.encode()).public_bytes(Encoding.DER)
        self.id = sha256(der).hex()
        self.user = canonical_id(self.id)


MEMBER = Identity("member0")
MEMBER_RSA = rsa_key(20_000)
ADMIN, WRITER, READER, NOBODY = (Identity(name) for name in ("admin", "writer", "reader", "nobody"))


MEASUREMENT = "ab" * 32


def quote(node: NodeIdentity, service: bytes, genesis: bytes) -> Quoted:
    """No evidence: there is no enclave."""
    return Quoted(MEASUREMENT, b"")


@dataclasses.dataclass
class World:
    """What outlives a node.

    Attributes:
        folder: of the log.
        storage: what is sealed.
        witness: of the ledger.
        clock: of all.
        settings: changes to the usual ones.
        open: whether the service is opened, by an entry of the test's own.
        application: endpoints of the image.
    """

    folder: Path
    storage: MemoryStorage = dataclasses.field(default_factory=MemoryStorage)
    witness: MemoryWitness = dataclasses.field(default_factory=MemoryWitness)
    clock: SetClock = dataclasses.field(default_factory=SetClock)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    issuers: tuple[Issuer, ...] = ()
    open: bool = True
    application: Application = dataclasses.field(default_factory=Application)

    def made_settings(self) -> Settings:
        """The settings."""
        pem = MEMBER_RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        principals = (
            Principal(ADMIN.user, ("Administrator",)),
            Principal(WRITER.user, ("Contributor",)),
            Principal(READER.user, ("Reader",)),
        )
        usual = {
            "members": (Member(certificate=MEMBER.pem, encryption_key=pem),),
            "principals": principals,
            "issuers": self.issuers,
        }
        return Settings(**{**usual, **self.settings})

    def node(self, log: Any) -> Node:
        """A node, replayed."""
        around = Surroundings(
            storage=self.storage,
            log=Threaded(log),
            witness=lambda digest: self.witness,
            clock=self.clock,
            quote=quote,
        )
        return Node(self.made_settings(), around, Shown())

    @contextlib.asynccontextmanager
    async def serving(self, log: Any = None) -> AsyncIterator[Served]:
        """A node that serves."""
        with contextlib.ExitStack() as stack:
            used = log or stack.enter_context(LedgerLog(self.folder))
            node = self.node(used)
            node.begin("127.0.0.1:8000")
            application = LedgerApplication(node, Threaded(used), self.clock, own=self.application)
            async with lifespan(application):
                if self.open:
                    await open_service(node)
                yield Served(application, node)


async def open_service(node: Node) -> None:
    """Have the service be open, if it is not."""
    from kluis.formats.ccf import tables
    from kluis.services.ledger.recorded import is_open
    from kluis.services.ledger.running.engine import Result

    def work(state: Any) -> Result:
        if not is_open(state):
            info = json.loads(state.get(tables.SERVICE_INFO, tables.ONLY))
            opened = json.dumps({**info, "status": "Open"}, sort_keys=True, separators=(",", ":"))
            state.put(tables.SERVICE_INFO, tables.ONLY, opened.encode())
        return Result(None)

    await node.engine.write(work)


class Served:
    """A node that serves, and its clients."""

    def __init__(self, application: LedgerApplication, node: Node) -> None:
        self.application = application
        self.node = node

    async def ask(
        self, method: str, path: str, who: Identity | None = WRITER, version: bool = True, **rest: Any
    ) -> httpx.Response:
        """One request, with a client's certificate, or with a chain of certificates."""
        chain = rest.pop("chain", [] if who is None else [who.pem])

        async def asgi(scope: Any, receive: Any, send: Any) -> None:
            scope["extensions"] = {"tls": {"client_cert_chain": chain}}
            await self.application(scope, receive, send)

        if version:
            path += ("&" if "?" in path else "?") + VERSION
        transport = httpx.ASGITransport(asgi)
        async with httpx.AsyncClient(
            transport=transport, base_url="https://localhost", timeout=120
        ) as client:
            return await client.request(method, path, **rest)

    async def write(self, contents: str, query: str = "", who: Identity = WRITER) -> str:
        """Write an entry; gives its transaction id."""
        answer = await self.ask("POST", f"/app/transactions?{query}", who, json={"contents": contents})
        assert answer.status_code == 200, answer.text
        return answer.headers["x-ms-ccf-transaction-id"]


@contextlib.asynccontextmanager
async def lifespan(application: Any) -> AsyncIterator[None]:
    """An application between its beginning and its end."""
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    outgoing: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.create_task(application({"type": "lifespan"}, incoming.get, outgoing.put))
    await incoming.put({"type": "lifespan.startup"})
    assert (await outgoing.get())["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        await incoming.put({"type": "lifespan.shutdown"})
        await task


def run(world: World, test: Callable[[Served], Awaitable[None]]) -> None:
    """Run a test on a node that serves."""

    async def whole() -> None:
        async with world.serving() as served:
            await test(served)

    asyncio.run(whole())
