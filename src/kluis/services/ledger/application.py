"""Applications of a ledger: endpoints in Python, each call one transaction.

In an image's module::

    from kluis.services.ledger.inside import app, application

    class Transfer(msgspec.Struct):
        to: str
        amount: Annotated[int, msgspec.Meta(gt=0)]

    @application.endpoint("POST /transfer", auth=("user", "member"), mode="write")
    def transfer(state: State, caller: LedgerCaller, body: Transfer) -> Balance:
        ...

A function's parameters are ``state``, ``caller`` and ``body``, those that it wants, and the parameters of its
path, as text. It runs in the node's loop, so it must not wait. What it raises writes nothing.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from kluis.errors import UsageError
from kluis.formats.ccf.domain import NO_CLAIMS
from kluis.formats.ccf.txid import HEADER
from kluis.hashes import sha256
from kluis.ledger.claims import is_taken
from kluis.ledger.store import Transaction
from kluis.services.ledger.callers import CCF, require_kind
from kluis.services.ledger.recorded import is_open
from kluis.services.ledger.running import refusals
from kluis.services.ledger.running.engine import Result
from kluis.services.web import Answer, Call, Operation, Refusal

if TYPE_CHECKING:
    from kluis.services.ledger.node import Node

F = TypeVar("F", bound=Callable[..., Any])
Auth = Literal["user", "member", "jwt", "certificate", "none"]
KINDS: Final = ("user", "member", "jwt", "certificate", "none")
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
RESERVED: Final = ("ccf.", "public:ccf.", "app.", "public:app.")
ROUTE: Final = re.compile(r"([A-Z]+) (/[0-9A-Za-z_{}./-]{1,200})")
GIVEN: Final = ("state", "caller", "body")


class State:
    """The tables that an application's function reads and writes: its own, and no table of the ledger's.

    Tables whose names begin with ``public:`` are readable in the ledger's files; all others are encrypted.
    """

    def __init__(self, transaction: Transaction, *, writes: bool) -> None:
        self._transaction = transaction
        self._writes = writes
        self._claims = NO_CLAIMS

    @property
    def claims_digest(self) -> bytes:
        """What the entry claims, 32 bytes; zeros for nothing."""
        return self._claims

    def get(self, table: str, key: bytes) -> bytes | None:
        """A key's value; None if it has none.

        Raises:
            UsageError: the table is the ledger's, or the key is something else than bytes.
        """
        return self._transaction.get(_check_table(table), _check_bytes("key", key))

    def items(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key that has a value, and the value, sorted by key."""
        return self._transaction.items(_check_table(table))

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Give a key a value.

        Raises:
            UsageError: the endpoint only reads, the table is the ledger's, or something else than bytes.
        """
        self._check()
        self._transaction.put(_check_table(table), _check_bytes("key", key), _check_bytes("value", value))

    def remove(self, table: str, key: bytes) -> None:
        """Remove a key's value.

        Raises:
            UsageError: the endpoint only reads, the table is the ledger's, or something else than bytes.
        """
        self._check()
        self._transaction.remove(_check_table(table), _check_bytes("key", key))

    def claim(self, statement: bytes) -> None:
        """State something in the entry's receipt: SHA-256 of it is the claims digest.

        The call must also write: without an entry there is no receipt. A call that claims and writes nothing
        is refused.

        Raises:
            UsageError: the endpoint only reads; or the statement has the form from which the claims of
                Azure's entries, or a snapshot, are hashed: its receipt would also be one of contents that
                nobody wrote.
        """
        self._check()
        if is_taken(statement):
            raise UsageError("claim: want a statement, got the form of Azure's claims or of a snapshot")
        self._claims = sha256(statement)

    def _check(self) -> None:
        if not self._writes:
            raise UsageError("state: want mode write, got an endpoint that only reads")


class Application:
    """The endpoints of one image."""

    def __init__(self) -> None:
        self._declared: list[_Endpoint] = []

    def endpoint(
        self, route: str, *, auth: Auth | tuple[Auth, ...], mode: Literal["read", "write"]
    ) -> Callable[[F], F]:
        """Declare an endpoint.

        Args:
            route: a method and a path, ``POST /transfer``, which is served under ``/app``.
            auth: who may call it: ``user`` or ``member``, whose certificates the ledger has; ``jwt``, of a
                registered issuer; any ``certificate``; or ``none``, anyone.
            mode: whether it writes.

        Raises:
            UsageError: a route, a kind of caller or a parameter that cannot be.
        """
        match, kinds = ROUTE.fullmatch(route), (auth,) if isinstance(auth, str) else tuple(auth)
        if match is None or match[1] not in METHODS:
            raise UsageError(f"endpoint: want METHOD /path, got {route[:100]!a}")
        if not kinds or any(kind not in KINDS for kind in kinds):
            raise UsageError(f"endpoint {route}: want auth of {', '.join(KINDS)}, got {kinds!a}")
        if mode not in ("read", "write"):
            raise UsageError(f"endpoint {route}: want mode read or write, got {mode!a:.40}")

        def declare(function: F) -> F:
            self._declared.append(_Endpoint(match[1], match[2], kinds, mode == "write", function))
            return function

        return declare

    def operations(self, node: Node) -> tuple[Operation, ...]:
        """What can be requested of a node."""
        return tuple(one.operation(node) for one in self._declared)


class _Endpoint:
    def __init__(
        self, method: str, path: str, kinds: tuple[str, ...], writes: bool, function: Callable[..., Any]
    ) -> None:
        self.name = function.__name__
        self._method, self._path, self._kinds, self._writes = method, path, kinds, writes
        self._function = function
        hints = inspect.get_annotations(function, eval_str=True)
        self._result = hints.pop("return", None)
        names = set(re.findall(r"\{(\w+)\}", path))
        self._wants = tuple(inspect.signature(function).parameters)
        if unknown := [name for name in self._wants if name not in (*GIVEN, *names)]:
            raise UsageError(
                f"endpoint {self.name}: want parameters state, caller, body and of the path, got {unknown[0]}"
            )
        self._body = hints.get("body")
        if "body" in self._wants and self._body is None:
            raise UsageError(f"endpoint {self.name}: want a type of body, got none")

    def operation(self, node: Node) -> Operation:
        """The operation, of a node."""
        access = None if "none" in self._kinds else CCF + ",".join(self._kinds)

        async def handle(call: Call) -> Answer:
            return await self._handle(node, call)

        doc = inspect.getdoc(self._function) or self.name
        return Operation(
            name=f"App{self.name}",
            method=self._method,
            path=f"/app{self._path}",
            handler=handle,
            summary=doc.partition("\n")[0],
            access=access,
            versioned=False,
            body=self._body,
            result=self._result,
        )

    async def _handle(self, node: Node, call: Call) -> Answer:
        body = call.json(self._body) if self._body is not None else None

        def run(transaction: Transaction) -> Result:
            if not is_open(transaction):  # the gate checks no endpoint that anyone may call
                raise refusals.not_open()
            if self._writes:
                require_kind(transaction, call.caller, self._kinds)
            state = State(transaction, writes=self._writes)
            values = {**call.path, "state": state, "caller": call.caller, "body": body}
            value = self._function(**{name: values[name] for name in self._wants})
            if state.claims_digest != NO_CLAIMS and not any(transaction.writes.values()):
                raise UsageError(
                    f"endpoint {self.name}: claims something and writes nothing, so no receipt has the claim",
                    hint="call state.put or state.remove in each call that calls state.claim",
                )
            return Result(value, state.claims_digest)

        if self._writes:
            written = await node.engine.write(run)
            value = written.value
        else:
            written = await node.engine.read(run)
            value = written.value.value
        headers = {HEADER: str(written.txid)}
        return Answer(value, 204 if value is None else 200, headers=headers)


def _check_table(table: str) -> str:
    if table.startswith(RESERVED):
        raise UsageError(f"table {table[:100]!a}: belongs to the ledger, not to its application")
    return table


def _check_bytes(what: str, data: object) -> bytes:
    """Refuse here what no entry can hold: the engine writes for all, and would end."""
    if not isinstance(data, bytes):
        raise UsageError(f"{what}: want bytes, got {type(data).__name__}")
    return data


def refuse(code: str, message: str, status: int = 400) -> Refusal:
    """An answer other than the wanted one: raise it in an endpoint.

    Args:
        code: for programs, such as ``InsufficientFunds``.
        message: for people; no secret.
        status: of HTTP, 400..499.
    """
    if not 400 <= status <= 499:
        raise UsageError(f"status: want 400..499, got {status}")
    return Refusal(status, code, message)
