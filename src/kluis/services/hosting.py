"""Runs a service inside its enclave: configured once, with a host-kept sealed store, served over TLS.

Everything that crosses the boundary is declared here. Inwards: ``configure``, ``tend``, and the declarations
of :func:`kluis.enclave.asgi.host` and :func:`kluis.enclave.store.keys.custody.declare`. Outwards, to an
untrusted host: the store's requests, and ``fetch`` and ``endorse`` for documents whose signatures are checked
inside. Also ``certify``, for a certificate of a key generated inside, and ``log``.
"""

from __future__ import annotations

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
from kluis.frozen import frozen
from kluis.services.clock import Clock, SystemClock
from kluis.services.logbook import Logbook

T = TypeVar("T")

FETCH_SECONDS: Final = 20.0
GRANT: Final = "listen:web"
LIMITS: Final = asgi.Limits(connections=1000, body_bytes=8 << 20)


@frozen
class Place:
    """The environment of a service.

    Attributes:
        storage: its records.
        clock: the time from its host.
        fetch: returns the bytes at an address. The host may return any bytes: only signed content is trusted.
        certify: from a request (PKCS#10, PEM) to a chain (PEM), by the host's own authority.
        endorse: takes a kind (``sgx``, ``tdx``, ``snp``) and evidence, and returns the vendor's documents
            about it, JSON. They come from the host, and are verified inside like any input. Raises
            UnavailableError, with the host's reason.
        published: a vendor's response to a path and a query: headers and body, or None; from the host.
        vouch: quotes a statement, with purpose ``app``.
    """

    storage: Storage
    clock: Clock
    fetch: Callable[[str], bytes]
    certify: Callable[[bytes], bytes]
    endorse: Callable[[str, bytes], bytes]
    published: Callable[[str, Mapping[str, str]], tuple[dict[str, str], bytes] | None]
    vouch: Callable[[bytes], Evidence]


class Endorsed(msgspec.Struct, frozen=True):
    """A vendor's documents about evidence, or the reason why the host has none.

    Attributes:
        document: JSON; empty if there is none.
        why: the failure; for people.
        fix: what the host's operator can do about it; for people.
    """

    document: bytes
    why: str = ""
    fix: str = ""


class Published(msgspec.Struct, frozen=True):
    """A vendor's document in its service's form; empty if the host has none."""

    found: bool
    headers: dict[str, str]
    body: bytes


class Application(Protocol):
    """The ASGI application of a service, and its upkeep."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (ASGI 3)."""

    def tend(self) -> None:
        """Do the upkeep that is due."""

    def metrics(self) -> bytes:
        """Counts and times, in Prometheus' text format."""


Build = Callable[[bytes, Place], Application]


def read_settings(document: bytes, kind: type[T], service: str) -> T:
    """Decode a service's settings into its own type.

    Raises:
        UsageError: another shape; with the place.
    """
    try:
        return msgspec.json.decode(document, type=kind)
    except UNREADABLE as error:
        raise UsageError(f"{service} settings: {error}") from None


def host(app: Enclave, build: Build, identity: asgi.Identity | None = None) -> asgi.Server:
    """Declare all ecalls and ocalls of a service's enclave.

    Args:
        app: that declares them.
        build: creates the service's ASGI application from its settings (JSON) and its environment; raises one
            of our errors for invalid settings.
        identity: of its TLS, if the code inside chooses it; None: a key whose certificate the host issues.

    Returns:
        The server.
    """
    clock = SystemClock()
    store_keys = custody.declare(app, now=clock.now)
    later = _Later()

    @app.ocall(timeout_seconds=FETCH_SECONDS)
    def fetch(url: str) -> bytes:
        """Return the bytes at ``url``."""
        raise UnavailableError(f"fetch {url}: this host fetches nothing")

    @app.ocall(timeout_seconds=FETCH_SECONDS)
    def certify(request: bytes) -> bytes:
        """Return a chain for a request, both PEM."""
        raise UnavailableError("certify: this host has no authority")

    @app.ocall(timeout_seconds=FETCH_SECONDS)
    def endorse(kind: str, evidence: bytes) -> Endorsed:
        """Return a vendor's documents about evidence."""
        raise UnavailableError(f"endorse {kind}: this host has nothing")

    @app.ocall(timeout_seconds=FETCH_SECONDS)
    def published(path: str, query: dict[str, str]) -> Published:
        """Return a vendor's document."""
        raise UnavailableError(f"published {path}: this host has nothing")

    @app.ocall(timeout_seconds=FETCH_SECONDS)
    def log(lines: list[str]) -> None:
        """Write lines to the log."""

    def fetch_published(path: str, query: Mapping[str, str]) -> tuple[dict[str, str], bytes] | None:
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
            storage=store_keys.storage,
            clock=clock,
            fetch=fetch,
            certify=certify,
            endorse=lambda kind, evidence: endorsement(endorse, kind, evidence),
            published=fetch_published,
            vouch=quote,
        )
        later.application = build(settings, place)

    @app.ecall
    def tend() -> None:
        """Do the upkeep that is due, if any. The schedule is computed inside: a host can only trigger this
        call.
        """
        if later.application is not None:
            later.application.tend()

    return asgi.host(app, later, grant=GRANT, limits=LIMITS, identity=identity, metrics=later.metrics)


def endorsement(endorse: Callable[[str, bytes], Endorsed], kind: str, evidence: bytes) -> bytes:
    """Fetch the host's endorsements for evidence.

    Raises:
        UnavailableError: there are none; with the host's reason.
    """
    try:
        endorsed = endorse(kind, evidence)
    except EnclaveError as error:
        endorsed = Endorsed(b"", error.message)
    if endorsed.document:
        return endorsed.document
    reason = foreign(endorsed.why) or "no reason"
    fix = f"; fix on the host: {foreign(endorsed.fix)}" if endorsed.fix else ""
    raise UnavailableError(f"the host reports, unverified: {reason}{fix}", code="collateral_missing")


class _Later:
    """A placeholder for the application that ``configure`` creates."""

    application: Application | None = None

    def metrics(self) -> bytes:
        return b"" if self.application is None else self.application.metrics()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.application is None:
            raise UsageError("serve: want settings first", hint="configure(settings)")
        await self.application(scope, receive, send)


def _log_to(log: Callable[[list[str]], None]) -> None:
    logger = logging.getLogger("kluis.services")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(Logbook(log))
