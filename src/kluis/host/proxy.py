"""A running enclave for the host: its ecalls as methods, its evidence, its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import msgspec

from kluis.enclave.app import binder
from kluis.enclave.attestation import Evidence
from kluis.enclave.boundary import codec as boundary
from kluis.enclave.boundary import frames, streaming
from kluis.enclave.boundary.codec import Codec, explain
from kluis.enclave.boundary.frames import Parcel
from kluis.enclave.boundary.interface import Signature
from kluis.errors import CallCancelled, EnclaveError, FormatError, RemoteError, UsageError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.host.interface import Interface
from kluis.host.link import Link
from kluis.host.ocalls import Functions, Ocalls
from kluis.host.starting import describe_end
from kluis.host.streaming import StreamingEcall
from kluis.streams import Stream
from kluis.tee.backend import Backend, Running

if TYPE_CHECKING:
    from pathlib import Path

    from kluis.appraisal import AttestationResult, Policy

T = TypeVar("T")


class Call(Future[Any]):
    """A running call: a future whose ``cancel`` also stops the code in the enclave.

    Attributes:
        number: the call's id on the link.
    """

    def __init__(self, link: Link, number: int) -> None:
        super().__init__()
        self._link = link
        self.number = number

    def cancel(self) -> bool:
        """Cancel the call: waiting for it raises CallCancelled at once, and the code inside is stopped.

        Returns:
            False if it had already ended.
        """
        try:
            self.set_exception(CallCancelled("the call was taken back"))
        except InvalidStateError:
            return False
        self._link.cancel(self.number)
        return True


class Ecall:
    """One ecall, called from outside.

    Args:
        link: the enclave's.
        signature: from the interface.
        codec: of that signature.
        timeout_seconds: of each call; None means no timeout.
    """

    def __init__(self, link: Link, signature: Signature, codec: Codec, timeout_seconds: float | None) -> None:
        self._link = link
        self._signature = signature
        self._codec = codec
        self._bind = binder(signature)
        self._timeout_seconds = timeout_seconds
        self.__name__ = signature.name
        self.__doc__ = signature.doc

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it.

        Raises:
            TypeError: an argument too many, too few or unknown.
            UsageError: an argument is of another type, or too large.
            RemoteError: the code inside raised.
            CallTimeout, CallCancelled, EnclaveDied: no answer came.
        """
        codec = self._codec
        if kwargs or len(args) != codec.count:
            args = self._bind(args, kwargs)
        if codec.frame is None or self._timeout_seconds is not None:
            return self._exchange(next(self._link.ids), args)
        call = next(self._link.ids)
        answer = self._link.quick(call, codec.encode_plain(call, args), codec)
        return self._read(answer) if type(answer) is Parcel else answer

    def submit(self, *args: Any, **kwargs: Any) -> Call:
        """Start a call in a separate thread; errors of its arguments are raised here."""
        call = Call(self._link, next(self._link.ids))
        arguments = self._bind(args, kwargs)

        def run() -> None:
            try:
                result = self._exchange(call.number, arguments)
            except BaseException as error:  # noqa: BLE001 - it is the future's
                _settle(call.set_exception, error)
            else:
                _settle(call.set_result, result)

        threading.Thread(target=run, name=f"kluis-{self.__name__}", daemon=True).start()
        return call

    def number(self) -> int:
        """A number that no call and no stream of this enclave has."""
        return next(self._link.ids)

    def drop(self, *args: Any) -> None:
        """Make a call whose answer is discarded, without waiting; nothing if the enclave has ended."""
        number = next(self._link.ids)
        self._link.drop(number, self._codec.encode_plain(number, args))

    def within(self, seconds: float) -> Ecall:
        """The same function with a timeout of ``seconds`` for each call."""
        return Ecall(self._link, self._signature, self._codec, seconds)

    def _exchange(self, number: int, arguments: tuple[Any, ...]) -> Any:
        codec = self._codec
        frame, files = codec.encode_call(number, arguments)
        try:
            codec.check_call(frame)
            answer = self._link.exchange(number, frame, files, self._timeout_seconds, codec.name)
        finally:
            boundary.close(files)
        return self._read(answer)

    def _read(self, answer: Parcel) -> Any:
        if frames.head(answer.frame).kind == frames.RETURN:
            return self._codec.decode_result(answer)
        raise error_of(answer)

    def __repr__(self) -> str:
        return f"<ecall {self.__name__}({', '.join(self._codec.parameters)})>"


class TypedEnclave:
    """A running enclave whose ecalls a type checker knows: the base of the classes of ``kluis stubs``.

    Attributes:
        interface: of the enclave.

    Args:
        process: the enclave's.
        interface: of the enclave.
        functions: ocalls that this host serves.
        timeout_seconds: of each call, unless ``within`` overrides it; None means no timeout.
        platform: that launched it; None: this machine's.
    """

    _interface: ClassVar[str] = ""  # the digest and the classes of the interface that it is for
    _types: ClassVar[dict[str, type]] = {}

    def __init__(
        self,
        process: Running,
        interface: Interface,
        functions: Functions,
        timeout_seconds: float | None = None,
        platform: Backend | None = None,
    ) -> None:
        self.interface = interface
        self._platform = platform
        self._process = process
        self._ocalls = Ocalls(interface, functions)
        if isinstance(process.control, Stream):
            process.control.most_bytes = max(interface.limits.message_bytes, interface.limits.table_bytes)
        self._link = Link(
            process.calls,
            process.control,
            interface.limits.message_bytes,
            self._ocalls.take,
            self._last_words,
        )
        self._ocalls.connect(self._link.answer_ocall)
        self._timeout_seconds = timeout_seconds
        self._ecalls = self._make_ecalls()

    def _make_ecalls(self) -> dict[str, Ecall | StreamingEcall]:
        """Each ecall by its name; a stream has three calls."""
        limits, declared = self.interface.limits, self.interface.ecalls
        calls = [
            Ecall(self._link, one, Codec(one, kind, frames.RETURN, limits), self._timeout_seconds)
            for kind, one in enumerate(streaming.calls_of(declared))
        ]
        taking = iter(calls[len(declared) :])
        return {
            one.name: StreamingEcall(call, next(taking), calls[-1]) if one.stream else call
            for one, call in zip(declared, calls, strict=False)
        }

    @property
    def image_id(self) -> bytes:
        """The image id of its code: 32 bytes."""
        return self._process.image_id

    @property
    def level(self) -> str:
        """The protection level that the platform states; :meth:`attest` proves it."""
        return self._process.level

    @property
    def launch_configuration(self) -> bytes:
        """How it was started: canonical JSON, whose SHA-512 is CONFIGID."""
        return self._process.launch_configuration

    @property
    def debug(self) -> bool:
        """Whether its host can read its memory."""
        return self._process.debug

    @property
    def pid(self) -> int:
        """Its process id, on the machine where it runs."""
        return self._process.pid

    if not TYPE_CHECKING:  # for a type checker, a class has the ecalls that it declares, and no others

        def __getattr__(self, name: str) -> Ecall | StreamingEcall:
            try:
                return self._ecalls[name]
            except KeyError:
                raise AttributeError(f"enclave {self.interface.name}: has no ecall {name}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._ecalls]

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call the ecall ``name``; raises the errors of :class:`Ecall`.

        Raises:
            UsageError: there is no such ecall.
        """
        return self._ecall(name)(*args, **kwargs)

    def submit(self, name: str, *args: Any, **kwargs: Any) -> Call:
        """Start the ecall ``name`` in a separate thread; raises the errors of :meth:`call`."""
        call: Call = self._ecall(name).submit(*args, **kwargs)
        return call

    def _ecall(self, name: str) -> Ecall | StreamingEcall:
        try:
            return self._ecalls[name]
        except KeyError:
            raise UsageError(
                f"enclave {self.interface.name}: ecall {name}: want one of {sorted(self._ecalls)}"
            ) from None

    def ocall(self, function: Callable[..., T]) -> Callable[..., T]:
        """Serve the ocall of the function's name with it; a decorator.

        Raises:
            UsageError: the image declares no such ocall.
        """
        self._ocalls.give(function.__name__, function)
        return function

    def evidence(self, nonce: bytes, app_data: bytes = b"") -> Evidence:
        """Request evidence of purpose ``cli`` from the runtime.

        Args:
            nonce: the verifier's, at most 64 bytes.
            app_data: becomes the payload; at most 128 KiB.

        Raises:
            RemoteError: an argument is out of bounds.
        """
        number = next(self._link.ids)
        frame = frames.encode(frames.EvidenceRequest(number, nonce, app_data))
        parcel = self._link.exchange(number, frame, (), self._timeout_seconds, "evidence")
        if frames.head(parcel.frame).kind != frames.RETURN:
            raise error_of(parcel)
        parcel.close()
        try:
            return _evidence(parcel.frame).value
        except UNREADABLE as error:
            raise FormatError(explain(error, "evidence", ("kind", "call", "value"))) from None

    def attest(
        self, policy: Policy | Path | str, *, root: bytes | None = None, collateral: bytes | None = None
    ) -> AttestationResult:
        """Verify with fresh evidence, over a nonce generated here, that the enclave meets ``policy``.

        Args:
            policy: or the path of its TOML file; its binding has the purpose ``cli``.
            root: PEM of the root to trust. None trusts the platform that launched it, and so its operator; an
                owner elsewhere passes the root that the owner has.
            collateral: JSON, as ``kluis platform collateral`` prints it; None uses that platform's.

        Returns:
            The result, with every rule met.

        Raises:
            AuthenticityError, FreshnessError, FormatError: the evidence is not authentic.
            PolicyError: it is authentic, but does not meet the policy; lists each failed claim.
        """
        from kluis.host import attesting

        nonce = attesting.fresh_nonce()
        return attesting.judge(
            self.evidence(nonce),
            attesting.read_policy(policy),
            nonce=nonce,
            root=root,
            collateral=collateral,
            platform=self._platform,
        )

    def kill(self) -> None:
        """End the enclave now, whatever it does."""
        self._link.close()
        self._process.kill()

    def close(self) -> None:
        """Close the connection and wait for the enclave's end; waiting calls raise EnclaveDied."""
        self._link.close()
        self._ocalls.close()
        self._process.kill()
        self._process.wait(CLOSE_SECONDS * self._process.slowness)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<enclave {self.interface.name} {self.image_id.hex()[:16]} {self.level}>"

    def _repr_html_(self) -> str:
        """The enclave with its ecalls, for a notebook; the level is stated, and not yet proven."""
        from kluis.cards import card  # only a notebook needs it

        about = [("image id", self.image_id.hex()), ("level, as its platform states it", self.level)]
        ecalls = [(f"{one.name}()", one.doc) for one in self.interface.ecalls]
        notes = ["debug: its host reads its memory"] if self.debug else []
        return card(f"enclave {self.interface.name}", [*about, *ecalls], notes)

    def _last_words(self) -> str:
        end = self._process.wait(LAST_WORDS_SECONDS * self._process.slowness)
        if end is None:
            return ""
        status, words = end
        how = describe_end(status)
        return f"{how}, {words}" if words else how


class EnclaveProxy(TypedEnclave):
    """A running enclave: its ecalls are its methods. Close it, or use it in a ``with``."""

    if TYPE_CHECKING:  # any name may be an ecall

        def __getattr__(self, name: str) -> Ecall: ...


def error_of(parcel: Parcel) -> EnclaveError:
    """The error in an answer."""
    parcel.close()
    try:
        failure = _raised(parcel.frame)
    except UNREADABLE as problem:
        return EnclaveError(explain(problem, "answer", ("kind", "call")), code="protocol")
    if failure.code == "call_cancelled":
        return CallCancelled(failure.message)
    error = RemoteError(failure.type, failure.message, failure.traceback, hint=failure.hint)
    error.inner_code = failure.code
    return error


class _EvidenceReturn(msgspec.Struct, array_like=True, tag=frames.RETURN, tag_field="kind"):
    id: int
    value: Evidence


def _settle(how: Callable[[Any], None], what: Any) -> None:
    try:
        how(what)
    except InvalidStateError:  # it was cancelled
        return


_evidence = msgspec.msgpack.Decoder(_EvidenceReturn).decode
_raised = msgspec.msgpack.Decoder(frames.Raised).decode
CLOSE_SECONDS = 60.0
LAST_WORDS_SECONDS = 10.0
