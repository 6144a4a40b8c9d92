"""A service's ASGI application: maps requests to operations, and responses to bytes.

Order of checks: path, method, bearer token and role, ``api-version``, size of the body; then the handler, in
a thread. So an unauthorized caller cannot probe which resources exist.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kluis.enclave.attested_tls.evidence_requests import RefusedBody
from kluis.enclave.attested_tls.meter import TRACEPARENT
from kluis.errors import KluisError
from kluis.services.clock import Clock
from kluis.services.web import openapi
from kluis.services.web.bearer import Bearer, Caller
from kluis.services.web.bodies import MOST_HELD, Bodies
from kluis.services.web.call import Answer, Call
from kluis.services.web.operation import Match, Operation, Routes
from kluis.services.web.refusal import Refusal
from kluis.services.web.telemetry import Happening, Line, Telemetry

DATES: Final = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?", re.ASCII)
NUMBERS: Final = re.compile(r"\d{1,2}\.\d{1,2}(-preview(\.\d{1,2})?)?", re.ASCII)
CLIENT_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
THREADS: Final = 4
MOST_QUERY: Final = 4096


class Gate:
    """Authorizes callers.

    Args:
        bearer: checks tokens; None: no token is valid.
        roles: what each role allows, as values of operations' ``access``.
        clock: returns the time.
    """

    def __init__(self, bearer: Bearer | None, roles: Mapping[str, frozenset[str]], clock: Clock) -> None:
        self._bearer = bearer
        self._roles = roles
        self._clock = clock

    def admit(self, operation: Operation, target: str, headers: Mapping[str, str]) -> Caller | None:
        """Authorize a caller whose token is valid and whose roles allow the operation.

        Raises:
            Refusal: from :meth:`unknown` or :meth:`forbidden`.
        """
        if operation.access is None:
            return None
        caller = self.identify(target, headers)
        if not any(operation.access in self._roles.get(role, frozenset()) for role in caller.roles):
            raise self.forbidden(operation, target, caller)
        return caller

    def admit_client(
        self, operation: Operation, target: str, headers: Mapping[str, str], certificates: Sequence[str]
    ) -> Caller | None:
        """Like :meth:`admit`; a service that identifies callers by certificates also checks those.

        Args:
            operation: the requested one.
            target: the path as sent.
            headers: by lower-case name.
            certificates: the client's of TLS, PEM; of the first it has the key, the rest is unverified.
        """
        return self.admit(operation, target, headers)

    def waits(self, operation: Operation) -> bool:
        """Whether :meth:`admit` may wait for the store, and so must not run in the shared event loop."""
        return False

    def version(self) -> int:
        """The version of the state that determines who is admitted: another one may admit other callers."""
        return 0

    def identify(self, target: str, headers: Mapping[str, str]) -> Caller:
        """Identify the caller, whatever their roles allow.

        Raises:
            Refusal: from :meth:`unknown`.
        """
        if self._bearer is None or "authorization" not in headers:
            raise self.unknown(target, None)
        try:
            caller = self._bearer.check(headers["authorization"], self._clock.now())
        except KluisError as error:
            raise self.unknown(target, error) from None
        self.examine(caller, target, headers)
        return caller

    def examine(self, caller: Caller, target: str, headers: Mapping[str, str]) -> None:
        """Check a caller with a valid token further; a service may override it."""

    def unknown(self, target: str, error: KluisError | None) -> Refusal:
        """The refusal of a caller without a valid token."""
        why = error.message if error is not None else "got none"
        return Refusal(
            401,
            "Unauthorized",
            f"Access to {target} requires a valid JWT bearer token: {why}",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def forbidden(self, operation: Operation, target: str, caller: Caller) -> Refusal:
        """The refusal of a caller whose roles do not allow the operation."""
        return Refusal(
            403,
            "Forbidden",
            f"{operation.name}: want a role that allows {operation.access}, got {sorted(caller.roles)}",
        )


class Service:
    """An ASGI 3 application.

    Args:
        name: for logs and metrics.
        title: for documents.
        operations: of the service.
        gate: authorizes callers.
        clock: the time for the log.
        ready: raises one of our errors while the service is not ready.
        refusal_of: converts one of our errors into a refusal.
        headers: of every response; a function returns them for each.
        bad_request: the code of the error for a missing or invalid ``api-version``.
        version: an example of a valid one, for messages; if it is a number, others may be numbers, not only
            dates.
        threads: number of concurrent handlers.
        most_held: bytes of all bodies held at once.
        upkeep: does what is due by a time, and yields the events.
        trailing_slash: whether a path may have one more slash at its end than its operation's.
    """

    def __init__(
        self,
        name: str,
        title: str,
        operations: tuple[Operation, ...],
        *,
        gate: Gate,
        clock: Clock,
        ready: Callable[[], None],
        refusal_of: Callable[[KluisError], Refusal] = Refusal.of,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
        bad_request: str = "BadRequest",
        version: str = "2022-08-01",
        threads: int = THREADS,
        most_held: int = MOST_HELD,
        upkeep: Callable[[datetime], Iterable[Happening]] = lambda now: (),
        trailing_slash: bool = False,
    ) -> None:
        self.name = name
        self.operations = operations
        self._gate = gate
        self._clock = clock
        self._ready = ready
        self._refusal_of = refusal_of
        fixed = {} if headers is None or callable(headers) else dict(headers)
        self._headers = headers if callable(headers) else lambda: fixed
        self._telemetry = Telemetry(name)
        self._bad_request = bad_request
        self._version = version
        self._title = title
        self._routes = Routes((*operations, *self._list_common()), trailing_slash=trailing_slash)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"kluis-{name}")
        self._bodies = Bodies(most_held)
        self._upkeep = upkeep
        self._tending = threading.Lock()

    @functools.cached_property
    def _document(self) -> dict[str, Any]:
        return openapi.document(self._title, self.operations, self._version)

    def metrics(self) -> bytes:
        """All counts, in Prometheus' text format."""
        return self._telemetry.metrics()

    def tend(self) -> None:
        """Do the upkeep that is due, if any; nothing while another call does it.

        Raises:
            KluisError: what was not done, and why; what was done is counted and logged.
        """
        if not self._tending.acquire(blocking=False):
            return
        try:
            for each in self._upkeep(self._clock.now()):
                self._telemetry.record_event(each, self._clock.now())
        finally:
            self._tending.release()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        self._threads.shutdown(wait=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers = _headers(scope)
        request_id = secrets.token_hex(16)
        traceparent = headers.get("traceparent", "")
        trace = traceparent if TRACEPARENT.fullmatch(traceparent) else None

        def report(operation: str, status: int, code: str | None = None, bug: str | None = None) -> None:
            took = round(time.perf_counter() - began, 6)
            self._telemetry.record(
                Line(self._clock.now(), self.name, operation, status, took, request_id, code, bug, trace)
            )

        operation, code, bug = "unknown", None, None
        try:
            with self._telemetry.running.track_inprogress():
                match = self._match(scope)
                if match.operation is None:
                    raise _no_method(match)
                operation = match.operation.name
                answer = await self._handle(
                    match.operation, match, Request(scope, receive), headers, request_id
                )
        except ClientDisconnect:
            return
        except RefusedBody as refused:  # who serves this answers it
            report(operation, refused.status, refused.code)
            raise
        except KluisError as error:
            answer, code = self._refuse(error)
        except Exception as error:  # noqa: BLE001 - whatever is left is our bug: its class is logged, no word of it goes out
            answer, code, bug = (
                _refusal_answer(Refusal.unexpected()),
                "InternalServerError",
                type(error).__name__,
            )
        report(operation, answer.status, code, bug)
        await self._response(answer, headers, request_id)(scope, receive, send)

    def _refuse(self, error: KluisError) -> tuple[Answer, str]:
        # Not where it was caught: the error has that frame, and only the collector would free both.
        refusal = self._refusal_of(error)
        return _refusal_answer(refusal), refusal.code

    def _match(self, scope: Scope) -> Match:
        # As sent. A framework's URL also contains the Host header, which may be anything.
        target = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
        match = self._routes.find(scope["method"], target)
        if match is None or len(scope["query_string"]) > MOST_QUERY:
            raise Refusal(404, "NotFound", f"path: want one of this service's, got {target[:200]!a}")
        if not scope["query_string"].isascii():
            raise Refusal(
                400, self._bad_request, "query: want it percent-encoded, got bytes that are no ASCII"
            )
        return match

    async def _handle(
        self, operation: Operation, match: Match, request: Request, headers: dict[str, str], request_id: str
    ) -> Answer:
        certificates = tuple(request.scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ()))
        version = self._gate.version()
        caller = await self._admit(operation, match.target, headers, certificates)
        items = reversed(request.query_params.multi_items())
        # Azure's services match names in any case; Intel's and AMD's, which require no version, do not.
        query = {name.lower() if operation.versioned else name: value for name, value in items}
        if operation.versioned:
            self._check_version(query.get("api-version"))
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(415, "UnsupportedMediaType", "content-encoding: want identity, got another")
        async with self._bodies.read(request.stream(), operation.most_bytes) as body:
            if self._gate.version() != version:  # a client chooses how long its body takes
                caller = await self._admit(operation, match.target, headers, certificates)
            call = Call(
                operation=operation.name,
                target=match.target,
                path=match.path,
                query=query,
                headers=headers,
                body=body,
                caller=caller,
                request_id=request_id,
                certificates=certificates,
            )
            if inspect.iscoroutinefunction(operation.handler):
                waited: Answer = await operation.handler(call)
                return waited
            handler: Callable[[Call], Any] = operation.handler
            answered: Answer = await asyncio.get_running_loop().run_in_executor(self._threads, handler, call)
            return answered

    async def _admit(
        self, operation: Operation, target: str, headers: dict[str, str], certificates: Sequence[str]
    ) -> Caller | None:
        if not self._gate.waits(operation):
            return self._gate.admit_client(operation, target, headers, certificates)
        loop, admit = asyncio.get_running_loop(), self._gate.admit_client
        return await loop.run_in_executor(self._threads, admit, operation, target, headers, certificates)

    def _check_version(self, version: str | None) -> None:
        if version is None:
            hint = f"add ?api-version={self._version}"
            raise Refusal(400, self._bad_request, "api-version: want one, got none", hint=hint)
        numbered = NUMBERS.fullmatch(self._version) is not None
        if not DATES.fullmatch(version) and not (numbered and NUMBERS.fullmatch(version)):
            message = f"api-version: want a date{' or a number' * numbered}, got {version[:40]!a}"
            raise Refusal(400, self._bad_request, message)

    def _response(self, answer: Answer, headers: Mapping[str, str], request_id: str) -> Response:
        body, kind = answer.encode()
        made = {
            **self._headers(),
            "x-ms-request-id": request_id,
            "cache-control": "no-cache",
            **answer.headers,
        }
        if kind is not None:
            made["content-type"] = kind
        client_id = headers.get("x-ms-client-request-id", "")
        if CLIENT_ID.fullmatch(client_id):
            made["x-ms-client-request-id"] = client_id
        return Response(body, answer.status, made)

    def _list_common(self) -> tuple[Operation, ...]:
        """Operations that every service has."""

        def ready(call: Call) -> Answer:
            self._ready()
            return Answer({"status": "ready"})

        def make_operation(
            name: str, path: str, summary: str, handler: Callable[[Call], Answer]
        ) -> Operation:
            return Operation(name, "GET", path, handler, summary, versioned=False)

        return (
            make_operation("Live", "/health/live", "Whether it runs.", lambda _: Answer({"status": "live"})),
            make_operation("Ready", "/health/ready", "Whether it can work now.", ready),
            make_operation(
                "Metrics",
                "/metrics",
                "Counts, in Prometheus' text format.",
                lambda _: Answer(self._telemetry.metrics(), content_type=CONTENT_TYPE_LATEST),
            ),
            make_operation(
                "OpenApi",
                "/openapi.json",
                "This service's OpenAPI document.",
                lambda _: Answer(self._document),
            ),
        )


def _headers(scope: Scope) -> dict[str, str]:
    """The headers by name; repeated ones are joined, so that none is ignored.

    Spec: RFC 9110, "Field Lines and Combined Field Value".
    """
    headers: dict[str, str] = {}
    for key, value in scope["headers"]:
        name, text = key.decode("latin-1"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _no_method(match: Match) -> Refusal:
    allowed = ", ".join(match.allowed)
    return Refusal(405, "MethodNotAllowed", f"method: want one of {allowed}", headers={"Allow": allowed})


def _refusal_answer(refusal: Refusal) -> Answer:
    return Answer(refusal.body(), refusal.status, headers=refusal.headers)
