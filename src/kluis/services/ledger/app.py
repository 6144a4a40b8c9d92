"""The ledger's ASGI application: its operations, its engine's life, and refusals in its clients' shape."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from kluis.errors import AuthenticityError, FormatError, KluisError, UnavailableError
from kluis.formats.ccf.txid import HEADER
from kluis.ledger.governance.faults import GovernanceError
from kluis.services.clock import Clock
from kluis.services.ledger.application import Application
from kluis.services.ledger.azure.about import About
from kluis.services.ledger.azure.entries import Entries
from kluis.services.ledger.azure.users import Users
from kluis.services.ledger.azure.versions import GA
from kluis.services.ledger.callers import ANY, LedgerGate
from kluis.services.ledger.ccf.actors import Common
from kluis.services.ledger.ccf.governance import Governance
from kluis.services.ledger.ccf.nodes import Nodes
from kluis.services.ledger.ccf.service import ServiceState
from kluis.services.ledger.node import Node
from kluis.services.ledger.recorded import is_open
from kluis.services.ledger.running import refusals
from kluis.services.ledger.running.log import HostLog
from kluis.services.web import Operation, Refusal, Service, openapi

# What all services call these, and what CCF's clients do.
CODES: Final[Mapping[str, str]] = {
    "NotFound": "ResourceNotFound",
    "MethodNotAllowed": "UnsupportedHttpVerb",
    "RequestTooLarge": "RequestBodyTooLarge",
    "UnsupportedMediaType": "UnsupportedContentType",
    "InternalServerError": "InternalError",
}


class Gate(LedgerGate):
    """Lets nobody into an application whose service is not open."""

    def admit_client(self, operation: Operation, *rest: Any) -> Any:
        """As :meth:`LedgerGate.admit_client`.

        Raises:
            Refusal: 404, the service is not open yet; else likewise.
        """
        if operation.access not in (None, ANY) and not is_open(self._begin()):
            raise refusals.not_open()
        return super().admit_client(operation, *rest)


class LedgerApplication:
    """A ledger, as ASGI 3: its engine runs from the beginning of serving to its end.

    Args:
        node: replayed; :meth:`Node.begin` must have returned before requests come.
        log: the host's.
        clock: the host's word for the time.
        failed: called when the engine ends by itself: the node can serve no more.
        own: the endpoints of the image's application.
    """

    def __init__(
        self,
        node: Node,
        log: HostLog,
        clock: Clock,
        failed: Callable[[], None] = lambda: None,
        own: Application | None = None,
    ) -> None:
        self.node = node
        self._failed = failed
        self._running: asyncio.Task[None] | None = None
        operations = (
            *Entries(node, log, clock).operations(),
            *Users(node).operations(),
            *About(node).operations(),
            *Common(node, log, self.document).operations(),
            *Nodes(node).operations(),
            *Governance(node, clock).operations(),
            *ServiceState(node).operations(),
            *(own or Application()).operations(node),
        )
        self._document: dict[str, Any] = openapi.document("Kluis ledger", operations, GA)
        self._service = Service(
            "ledger",
            "Kluis ledger",
            operations,
            gate=Gate(node.ledger.store.begin, clock, node.settings.audiences),
            clock=clock,
            ready=self._ready,
            refusal_of=refusal_of,
            headers=lambda: {HEADER: str(node.ledger.committed)},
            trailing_slash=True,
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or begin and end with the server."""
        if scope["type"] != "lifespan":
            await self._service(scope, receive, send)
            return
        self._running = asyncio.create_task(self._run())
        try:
            await self._service(scope, receive, send)
        finally:
            self.node.engine.stop()
            with contextlib.suppress(KluisError):
                await self._running

    def document(self) -> dict[str, Any]:
        """Its OpenAPI document."""
        return self._document

    def metrics(self) -> bytes:
        """Counts and times, in Prometheus' text format."""
        return self._service.metrics()

    def tend(self) -> None:
        """Do what is due by now.

        Raises:
            KluisError: the engine ended by itself; states why.
        """
        if self.node.engine.ended is not None:
            raise self.node.engine.ended
        self._service.tend()

    async def _run(self) -> None:
        try:
            await self.node.engine.run()
        except KluisError:
            self._failed()
            raise

    def _ready(self) -> None:
        if self.node.engine.ended is not None:
            raise self.node.engine.ended
        if self.node.engine.is_stuck:
            raise UnavailableError(
                "ledger: its log takes no entries at present",
                hint="the operator's terminal states why; see the disk of the ledger's folder",
                code="ledger_log",
            )
        if not is_open(self.node.ledger.store.begin()):
            raise UnavailableError("ledger: its members have not opened it yet", code="ledger_opening")


def refusal_of(error: KluisError) -> Refusal:
    """The refusal for an error of this service."""
    if isinstance(error, AuthenticityError) and error.code.startswith("ledger_"):  # what the host did
        return Refusal(503, error.code, error.message, hint=error.hint)
    if isinstance(error, GovernanceError):
        return Refusal(error.http_status, error.odata, error.message, hint=error.hint)
    if isinstance(error, FormatError):
        return Refusal(400, "InvalidInput", error.message, hint=error.hint)
    refusal = Refusal.of(error)
    if (code := CODES.get(refusal.code)) is not None:
        return Refusal(
            refusal.status, code, refusal.message, details=refusal.details, headers=refusal.headers
        )
    return refusal
