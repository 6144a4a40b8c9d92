"""A running enclave for asyncio: its ecalls are coroutines, and its streams are for ``async for``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

from kluis.host.proxy import Ecall, EnclaveProxy, TypedEnclave
from kluis.host.streaming import PlainCall, StreamingEcall, T_co, is_end

if TYPE_CHECKING:
    from kluis.appraisal import AttestationResult, Policy
    from kluis.enclave.attestation import Evidence


E = TypeVar("E", bound=TypedEnclave)


class TypedAsyncEnclave(Generic[E]):
    """A running enclave whose awaitable ecalls a type checker knows: the base of ``kluis stubs``' classes.

    Attributes:
        enclave: that runs.

    Args:
        enclave: that runs.
    """

    _kind: ClassVar[type[TypedEnclave]] = EnclaveProxy  # of the enclave that load() starts

    def __init__(self, enclave: E) -> None:
        self.enclave = enclave

    @classmethod
    async def load(cls, path: Path | str, **options: Any) -> Self:
        """Start an image, with the options and errors of :func:`kluis.host.load`; the event loop goes on."""
        from kluis.host.loading import load

        return cls(await asyncio.to_thread(lambda: cast("E", load(path, cls._kind, **options))))

    if not TYPE_CHECKING:  # as for TypedEnclave

        def __getattr__(self, name: str) -> Callable[..., Any]:
            return _callable(self.enclave.__getattr__(name))  # which has ecalls only

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(one.name for one in self.enclave.interface.ecalls)]

    async def evidence(self, nonce: bytes, app_data: bytes = b"") -> Evidence:
        """Request evidence, like :meth:`EnclaveProxy.evidence`."""
        return await asyncio.to_thread(self.enclave.evidence, nonce, app_data)

    async def attest(
        self, policy: Policy | Path | str, *, root: bytes | None = None, collateral: bytes | None = None
    ) -> AttestationResult:
        """Verify that the enclave meets a policy, like :meth:`EnclaveProxy.attest`."""
        return await asyncio.to_thread(self.enclave.attest, policy, root=root, collateral=collateral)

    async def close(self) -> None:
        """End the enclave; waiting calls raise EnclaveDied."""
        await asyncio.to_thread(self.enclave.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<async {self.enclave!r}>"


class AsyncEnclave(TypedAsyncEnclave[EnclaveProxy]):
    """A running enclave: its ecalls are its methods, and each returns an awaitable.

        async with await AsyncEnclave.load("cohort.kluis") as enclave:
            mean, count = await asyncio.gather(enclave.mean_age(ages), enclave.count(ages))
            async for word in enclave.answer("..."):
                print(word)

    A task that is cancelled cancels its call: the code in the enclave stops.

    Args:
        enclave: that runs.
    """

    if TYPE_CHECKING:  # any name may be an ecall

        def __getattr__(self, name: str) -> Callable[..., Any]: ...


def _callable(ecall: Ecall | StreamingEcall) -> Callable[..., Any]:
    if isinstance(ecall, StreamingEcall):
        return lambda *args, **kwargs: AsyncItems(ecall, args, kwargs)
    return lambda *args, **kwargs: asyncio.wrap_future(ecall.submit(*args, **kwargs))


class AsyncItems(AsyncIterator[T_co]):
    """The items of one stream, for ``async for``; closed like :class:`~kluis.host.streaming.Items`.

    Args:
        ecall: to open it with, when the first item is awaited.
        args: of that call.
        kwargs: of that call.
    """

    def __init__(self, ecall: StreamingEcall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._ecall = ecall
        self._arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = (args, kwargs)
        self._number: int | None = None

    async def __anext__(self) -> T_co:
        """The next item.

        Raises:
            StopAsyncIteration: there is none.
            KluisError: as for :class:`~kluis.host.streaming.Items`.
        """
        if self._arguments is not None:
            (args, kwargs), self._arguments = self._arguments, None
            self._number = self._ecall.opening.number()
            await self._call(self._ecall.opening, *args, **kwargs)
        if self._number is None:
            raise StopAsyncIteration
        item: T_co = await self._call(self._ecall.taking)
        return item

    async def _call(self, ecall: PlainCall, *args: Any, **kwargs: Any) -> Any:
        """Make one call of the stream; after an error, and after a cancellation, it is closed."""
        number = self._number
        try:
            return await asyncio.wrap_future(ecall.submit(number, *args, **kwargs))
        except BaseException as error:
            self._number = None
            if is_end(error):
                raise StopAsyncIteration from None
            self._ecall.closing.drop(number)
            raise

    async def aclose(self) -> None:
        """Close the stream; nothing if it has ended, or was never opened."""
        self._arguments = None
        number, self._number = self._number, None
        if number is not None:
            await asyncio.wrap_future(self._ecall.closing.submit(number))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        number, self._number = self._number, None
        if number is not None:
            self._ecall.closing.drop(number)
