"""Enclave, ``@ecall`` and ``@ocall``: an application's declarations, which are all that may cross the
boundary.

Outside a running enclave a decorated function is unchanged, so a unit test can call it directly; inside, an
ocall goes to the host.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from msgspec import UNSET

from kluis.enclave.boundary import interface
from kluis.enclave.boundary.interface import Signature
from kluis.enclave.names import LARGEST_MESSAGE, LARGEST_TABLE
from kluis.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")

MAX_MESSAGE_BYTES = 256 << 20
MAX_TABLE_BYTES = 16 << 30


class Router(Protocol):
    """Carries ocalls to the host: the runtime, once the enclave runs."""

    def begin(self, index: int, arguments: tuple[Any, ...]) -> Callable[[], Any]:
        """Send the ocall with number ``index``, and return a function that waits for its result."""

    async def request(self, index: int, arguments: tuple[Any, ...]) -> Any:
        """Send the ocall with number ``index`` from a coroutine, and return its result."""


class Declare(Protocol):
    """A decorator that preserves a function's type."""

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Declare ``function``, and return it or its replacement."""
        ...


class Enclave:
    """An enclave: its identity, and the functions that cross its boundary.

    Args:
        name: 1 to 64 characters; shown to people.
        product_id: 0..65535, ISVPRODID; identifies the signer's product.
        svn: 0..65535, ISVSVN; raise it when older versions must no longer be trusted.
        max_message_bytes: the largest encoded call or result, not including tables.
        max_table_bytes: the largest table.

    Raises:
        UsageError: a value is out of range.
    """

    def __init__(
        self,
        name: str,
        *,
        product_id: int = 0,
        svn: int = 0,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_table_bytes: int = MAX_TABLE_BYTES,
    ) -> None:
        if not 1 <= len(name) <= 64:
            raise UsageError(f"enclave name: want 1 to 64 characters, got {len(name)}")
        for what, value in (("product_id", product_id), ("svn", svn)):
            if not 0 <= value <= 0xFFFF:
                raise UsageError(f"{what}: want 0..65535, got {value}")
        for what, value, most in (
            ("max_message_bytes", max_message_bytes, LARGEST_MESSAGE),
            ("max_table_bytes", max_table_bytes, LARGEST_TABLE),
        ):
            if not 1 <= value <= most:
                raise UsageError(f"{what}: want 1..{most}, got {value}")
        self.name = name
        self.product_id = product_id
        self.svn = svn
        self.max_message_bytes = max_message_bytes
        self.max_table_bytes = max_table_bytes
        self.ecalls: dict[str, Callable[..., Any]] = {}
        self.ocalls: dict[str, Callable[..., Any]] = {}
        self.ecall_signatures: list[Signature] = []
        self.ocall_signatures: list[Signature] = []
        self._begun: dict[Callable[..., Any], Callable[..., Callable[[], Any]]] = {}
        self._requested: dict[Callable[..., Any], Callable[..., Coroutine[Any, Any, Any]]] = {}
        self._router: Router | None = None

    @overload
    def ecall(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def ecall(self, /, *, raises: tuple[type[Exception], ...] = ...) -> Declare: ...
    def ecall(self, function: Any = None, /, *, raises: tuple[type[Exception], ...] = ()) -> Any:
        """Declare a function that the host may call.

        A coroutine function runs on the enclave's event loop. A function whose result is hinted as an
        iterator, such as ``Iterator[str]`` or ``AsyncIterator[Table]``, is a stream: the host takes its items
        one by one, and closes it when it leaves its loop.

        Args:
            function: named parameters, each with a type hint, and a hinted result.
            raises: exceptions whose messages the host may read. Of any other exception (except KluisError and
                MemoryError) only the class's name leaves: the message of ``int("secret")`` contains the
                secret.

        Raises:
            UsageError: a hint is missing, or a type cannot cross the boundary.
        """
        if function is None:
            return functools.partial(self._ecall, raises=raises)
        return self._ecall(function, raises=raises)

    def _ecall(self, function: Callable[P, R], raises: tuple[type[Exception], ...]) -> Callable[P, R]:
        signature = interface.parse_signature(_plain(function), raises=raises, plain=False)
        self._declare(signature)
        self.ecalls[signature.name] = function
        self.ecall_signatures.append(signature)
        return function

    @overload
    def ocall(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def ocall(self, /, *, timeout_seconds: float | None = ...) -> Declare: ...
    def ocall(self, function: Any = None, /, *, timeout_seconds: float | None = None) -> Any:
        """Declare a function that the host runs for the enclave; its result is not trusted.

        Args:
            function: named parameters, each with a type hint, and a hinted result. A host that loads the
                image with ``ocalls=app`` runs the body; other hosts pass their own functions.
            timeout_seconds: of the host; None means no timeout.

        Raises:
            UsageError: a hint is missing, or a type cannot cross the boundary.
        """
        if function is None:
            return functools.partial(self._ocall, timeout_seconds=timeout_seconds)
        return self._ocall(function, timeout_seconds=timeout_seconds)

    def _ocall(self, function: Callable[P, R], timeout_seconds: float | None) -> Callable[P, R]:
        signature = interface.parse_signature(_plain(function), timeout_seconds=timeout_seconds)
        self._declare(signature)
        index = len(self.ocall_signatures)
        self.ocalls[signature.name] = function
        self.ocall_signatures.append(signature)
        bind = binder(signature)

        @functools.wraps(function)
        def outward(*args: P.args, **kwargs: P.kwargs) -> R:
            return begin(*args, **kwargs)()

        def begin(*args: P.args, **kwargs: P.kwargs) -> Callable[[], R]:
            if self._router is None:
                return functools.partial(function, *args, **kwargs)
            waiting: Callable[[], R] = self._router.begin(index, bind(args, kwargs))
            return waiting

        async def request(*args: P.args, **kwargs: P.kwargs) -> Any:
            if self._router is None:
                return function(*args, **kwargs)
            return await self._router.request(index, bind(args, kwargs))

        self._begun[outward] = begin
        self._requested[outward] = request
        return outward

    def begin(self, ocall: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Callable[[], R]:
        """Send an ocall without waiting for the host.

        Args:
            ocall: declared here.
            *args: its arguments.
            **kwargs: its arguments by name.

        Returns:
            A function that waits for the result and returns it; call it once, and in this thread.

        Raises:
            UsageError: it is not an ocall of this enclave.
        """
        begun = self._begun.get(ocall)
        if begun is None:
            raise UsageError(f"begin: want an ocall of {self.name}, got {ocall!r}")
        waiting = begun(*args, **kwargs)
        # A thread that a socket wakes usually runs on the waker's own processor, because most writers then
        # wait: the host would start only when this thread is done.
        os.sched_yield()
        return waiting

    async def request(self, ocall: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call an ocall from a coroutine: its event loop goes on until the host has answered.

        Args:
            ocall: declared here.
            *args: its arguments.
            **kwargs: its arguments by name.

        Raises:
            UsageError: it is not an ocall of this enclave.
        """
        requested = self._requested.get(ocall)
        if requested is None:
            raise UsageError(f"request: want an ocall of {self.name}, got {ocall!r}")
        result: R = await requested(*args, **kwargs)
        return result

    def _declare(self, signature: Signature) -> None:
        if signature.name in self.ecalls or signature.name in self.ocalls:
            raise UsageError(f"{signature.name}: is declared twice", hint="rename one", code="interface_name")
        interface.check(signature)

    def interface(self) -> dict[str, Any]:
        """The interface document, as JSON values."""
        return interface.describe(
            name=self.name,
            product_id=self.product_id,
            svn=self.svn,
            max_message_bytes=self.max_message_bytes,
            max_table_bytes=self.max_table_bytes,
            ecalls=self.ecall_signatures,
            ocalls=self.ocall_signatures,
        )

    def interface_json(self) -> bytes:
        """The interface document's bytes, as contained in the image and measured."""
        return interface.encode(self.interface())

    def route(self, router: Router) -> None:
        """Send ocalls through ``router`` from now on; called once, by the runtime."""
        self._router = router

    def __repr__(self) -> str:
        return f"Enclave({self.name!r}, product_id={self.product_id}, svn={self.svn})"


def _plain(function: Callable[..., Any]) -> FunctionType:
    if not isinstance(function, FunctionType):
        raise UsageError(f"{function!r}: want a function defined with def, got a {type(function).__name__}")
    return function


def binder(signature: Signature) -> Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, ...]]:
    """Build a function that puts arguments into the signature's order and fills in defaults."""
    names = [one.name for one in signature.parameters]
    defaults = {one.name: one.default for one in signature.parameters}
    count = len(names)

    def bind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if len(args) == count and not kwargs:
            return args
        if len(args) > count:
            raise TypeError(f"{signature.name}: want at most {count} arguments, got {len(args)}")
        arguments = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in defaults:
                raise TypeError(f"{signature.name}: has no parameter {name}")
            if name in arguments:
                raise TypeError(f"{signature.name}: {name} is given twice")
            arguments[name] = value
        laid = tuple(arguments.get(name, defaults[name]) for name in names)
        missing = [name for name, value in zip(names, laid, strict=True) if value is UNSET]
        if missing:
            raise TypeError(f"{signature.name}: wants {', '.join(missing)}")
        return laid

    return bind
