"""A service in its enclave: told its settings once, with a store that its host keeps, served over TLS.

What crosses the boundary is here and nowhere else. Inwards: ``configure``, ``tend``, and what
:func:`kluis.enclave.asgi.host` and :func:`kluis.enclave.store.keys.custody.declare` declare. Outwards, to a
host that is not trusted: the store's requests, ``fetch`` for documents whose signatures are checked inside,
``endorse`` likewise, ``certify`` for a certificate of a key made inside, and ``log``.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

import msgspec

from kluis.enclave import Enclave, Evidence, asgi, quote
from kluis.enclave.store.keys import custody
from kluis.enclave.store.model import Storage
from kluis.errors import EnclaveError, UnavailableError, UsageError, foreign
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.services.clock import Clock, SystemClock
from kluis.services.logbook import Logbook

__all__ = ["Endorsed", "Place", "Published", "endorsement", "host", "read_settings"]

T = TypeVar("T")

FETCH_SECONDS: Final = 20.0
GRANT: Final = "listen:web"
LIMITS: Final = asgi.Limits(connections=1000, body_bytes=8 << 20)


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a service finds itself.

    Attributes:
        storage: its records.
        clock: its host's word for the time.
        fetch: bytes at an address, by its host, who may give any: only what is signed counts.
        certify: from a request (PKCS#10, PEM) to a chain (PEM), by its host's own authority.
        endorse: from a kind (``sgx``, ``tdx``, ``snp``) and evidence to what its maker publishes about it,
            JSON; by its host, and verified inside like what anybody brings. Raises UnavailableError, with the
            host's word for why there is none.
        published: what a maker's service answers to a path and a query: headers and body, or None; by its
            host.
        vouch: quotes a statement, purpose ``app``.
    """

    storage: Storage
    clock: Clock
    fetch: Callable[[str], bytes]
    certify: Callable[[bytes], bytes]
    endorse: Callable[[str, bytes], bytes]
    published: Callable[[str, Mapping[str, str]], tuple[dict[str, str], bytes] | None]
    vouch: Callable[[bytes], Evidence]


class Endorsed(msgspec.Struct, frozen=True):
    """What a maker publishes about evidence; or why the host has none.

    Attributes:
        document: JSON; empty for none.
        why: what failed; for people.
        mend: what the host's operator does about it; for people.
    """

    document: bytes
    why: str = ""
    mend: str = ""


class Published(msgspec.Struct, frozen=True):
    """A maker's document as its service answers it; empty where the host has none."""

    found: bool
    headers: dict[str, str]
    body: bytes


class Application(Protocol):
    """What is served, and looked after."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, as ASGI 3 has it."""

    def tend(self) -> None:
        """Do what is due by now."""


Build = Callable[[bytes, Place], Application]


def read_settings(document: bytes, kind: type[T], service: str) -> T:
    """What a service was told, of its own type.

    Raises:
        UsageError: of another shape; says where.
    """
    try:
        return msgspec.json.decode(document, type=kind)
    except UNREADABLE as error:
        raise UsageError(f"{service} settings: {error}") from None


def host(app: Enclave, build: Build, identity: asgi.Identity | None = None) -> asgi.Server:
    """Declare all that a service's enclave has.

    Args:
        app: whose ecalls and ocalls they become.
        build: makes the service's ASGI application from its settings (JSON) and its place; raises one of
            our errors for settings that cannot be meant.
        identity: of its TLS, where the code inside chooses it; None: a key that the host has named.

    Returns:
        The server.
    """
    clock = SystemClock()
    kept = custody.declare(app, now=clock.now)
    later = _Later()

    @app.ocall(timeout_seconds=FETCH_SECONDS)
    def fetch(url: str) -> bytes:
        """Bytes at ``url``."""
        raise UnavailableError(f"fetch {url}: this host fetches nothing")

    @app.ocall(timeout_seconds=FETCH_SECONDS)
    def certify(request: bytes) -> bytes:
        """A chain for a request, both PEM."""
        raise UnavailableError("certify: this host has no authority")

    @app.ocall(timeout_seconds=FETCH_SECONDS)
    def endorse(kind: str, evidence: bytes) -> Endorsed:
        """What a maker publishes about evidence."""
        raise UnavailableError(f"endorse {kind}: this host has nothing")

    @app.ocall(timeout_seconds=FETCH_SECONDS)
    def published(path: str, query: dict[str, str]) -> Published:
        """A maker's document."""
        raise UnavailableError(f"published {path}: this host has nothing")

    @app.ocall(timeout_seconds=FETCH_SECONDS)
    def log(lines: list[str]) -> None:
        """Lines of the log."""

    def answered(path: str, query: Mapping[str, str]) -> tuple[dict[str, str], bytes] | None:
        made = published(path, dict(query))
        return (made.headers, made.body) if made.found else None

    once = threading.Lock()

    @app.ecall
    def configure(settings: bytes) -> None:
        """Take the service's settings (JSON), and open its store; once a launch."""
        if not once.acquire(blocking=False):
            raise UsageError("configure: this service has its settings already")
        _log_to(log)
        place = Place(
            storage=kept.storage,
            clock=clock,
            fetch=fetch,
            certify=certify,
            endorse=lambda kind, evidence: endorsement(endorse, kind, evidence),
            published=answered,
            vouch=quote,
        )
        later.application = build(settings, place)

    @app.ecall
    def tend() -> None:
        """Do what is due by now, if anything is. When that is, is computed inside: a host can only knock."""
        if later.application is not None:
            later.application.tend()

    return asgi.host(app, later, grant=GRANT, limits=LIMITS, identity=identity)


def endorsement(endorse: Callable[[str, bytes], Endorsed], kind: str, evidence: bytes) -> bytes:
    """What a host gives for evidence.

    Raises:
        UnavailableError: nothing; carries why, as the host says it.
    """
    try:
        endorsed = endorse(kind, evidence)
    except EnclaveError as error:
        endorsed = Endorsed(b"", error.message)
    if endorsed.document:
        return endorsed.document
    reason = foreign(endorsed.why) or "no reason"
    mend = f"; mended there by: {foreign(endorsed.mend)}" if endorsed.mend else ""
    raise UnavailableError(f"the host says, unchecked: {reason}{mend}", code="collateral_missing")


class _Later:
    """The application that ``configure`` makes."""

    application: Application | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.application is None:
            raise UsageError("serve: want settings first", hint="configure(settings)")
        await self.application(scope, receive, send)


def _log_to(log: Callable[[list[str]], None]) -> None:
    logger = logging.getLogger("kluis.services")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(Logbook(log))
