"""Calls inside: one thread serves the calls socket, workers serve concurrent calls, and ocalls go out.

Every message from a host is answered or dropped; only closing the sockets ends the enclave. Spec:
:mod:`kluis.enclave.boundary.frames`.
"""

from __future__ import annotations

import _socket as socket
import functools
import itertools
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import msgspec

from kluis.enclave.app import Enclave
from kluis.enclave.boundary import codec as boundary
from kluis.enclave.boundary import frames
from kluis.enclave.boundary.codec import Codec, Limits
from kluis.enclave.boundary.frames import Frame, Parcel
from kluis.enclave.inside import Launch
from kluis.enclave.runtime.answers import ATTEMPTS, EXIT_NO_MEMORY, Answers, leave
from kluis.enclave.runtime.cancelling import Running
from kluis.enclave.runtime.control import ControlReader
from kluis.enclave.runtime.failures import CANCELLED, CancelInterrupt, Failure, OwnInterrupt
from kluis.enclave.runtime.functions import Ecall, functions_of
from kluis.enclave.runtime.ocalls import Slot, Slots, Waiting, result_of
from kluis.enclave.runtime.workers import Workers
from kluis.errors import FormatError
from kluis.formats.encoding.unreadable import UNREADABLE

if TYPE_CHECKING:
    from kluis.streams import Stream

astuple = msgspec.structs.astuple
encode_short = frames.encode_short
get_ident = threading.get_ident

MAX_QUEUED = 256
UNREAD = (*UNREADABLE, MemoryError)
EXIT_DEAF = 70


Answer: TypeAlias = tuple[Frame | None, tuple[int, ...]]
"""A frame and its files; no frame if there was no memory for it."""


class Calls:
    """Serves an application's ecalls and carries its ocalls.

    Args:
        app: the application, whose ocalls are routed through here.
        launch: has the number of threads, and whether the enclave is a debug one.
        calls: the calls socket or stream.
        control: the control socket or stream.

    Raises:
        UsageError: a declared type cannot be encoded.
    """

    def __init__(
        self, app: Enclave, launch: Launch, calls: socket.socket | Stream, control: socket.socket | Stream
    ) -> None:
        limits = Limits(app.max_message_bytes, app.max_table_bytes)
        if not isinstance(control, socket.socket):
            control.most_bytes = max(limits.message_bytes, limits.table_bytes)
        self._ecalls = tuple(
            Ecall(Codec(one, kind, frames.RETURN, limits), function, one.raises)
            for kind, (one, function) in enumerate(functions_of(app))
        )
        self._ocalls = tuple(
            Codec(one, frames.FIRST_OCALL + kind, frames.OCALL_RETURN, limits)
            for kind, one in enumerate(app.ocall_signatures)
        )
        self._by_frame = {one.codec.frame: one for one in self._ecalls if one.codec.frame is not None}
        self._decode = msgspec.msgpack.Decoder(Union[tuple(self._by_frame) or None]).decode  # noqa: UP007 - made when it runs
        self._calls = calls
        self._control = control
        self._out = Answers(calls, control, launch.debug)
        # On a stream, sending may fail for want of memory: then every answer is sent with retries.
        self._most_plain = frames.INLINE if isinstance(calls, socket.socket) else 0
        self._max_bytes = limits.message_bytes
        self._running = Running()
        self._slots = Slots()
        self._ocall_ids = itertools.count(1)
        self._workers = Workers(max(1, launch.threads - 2), MAX_QUEUED)
        self._queued: dict[int, Parcel] = {}
        self._reader = ControlReader(control, self._route, lambda: os._exit(EXIT_DEAF))
        app.route(self)

    def start(self) -> None:
        """Start the thread that reads the control socket."""
        threading.Thread(target=self._listen, name="kluis-control", daemon=True).start()

    def serve(self) -> None:
        """Serve the calls socket in this thread, until the host closes it."""
        receive, serve = self._calls.recv_into, self._serve_plain
        buffer = bytearray(frames.INLINE)  # once: a full heap must not keep a call from being heard
        view = memoryview(buffer)
        while True:
            try:
                try:
                    size = receive(buffer)
                except MemoryError:  # nothing was taken from the stream
                    self._out.wait_for_memory()
                    continue
                if not size:
                    return
                serve(view[:size])
            except OSError as error:
                leave(error)
                return

    def _serve_plain(self, frame: memoryview) -> None:
        """Serve a frame that is usually a plain call: one decode determines this, and returns its
        arguments.
        """
        try:
            read = self._decode(frame)
        except UNREAD:
            read = None
        if read is None or (call := read.call) in self._running.threads:
            self._serve(Parcel(frame))
            return
        answer, files = self._invoke(call, self._by_frame[type(read)], read)
        if answer is None or files or len(answer) > self._most_plain:
            self._out.finish(call, answer, files)
        else:
            self._calls.send(answer)

    def begin(self, index: int, arguments: tuple[Any, ...]) -> Callable[[], Any]:
        """Send ocall number ``index``.

        Returns:
            A function that waits, in this thread, for the host's answer, which is not trusted. It raises
            RemoteError (the host's function raised), CallTimeout (no answer within the declared timeout), or
            FormatError (an answer of another type).

        Raises:
            UsageError: an argument is of another type.
        """
        codec = self._ocalls[index]
        slot = Slot(next(self._ocall_ids))
        self._ask(codec, slot, arguments)
        return functools.partial(self._await_answer, codec, slot)

    async def request(self, index: int, arguments: tuple[Any, ...]) -> Any:
        """Send ocall number ``index`` from a coroutine, and return its result; raises as :meth:`begin`."""
        from kluis.enclave.runtime.awaiting import AwaitedSlot  # loads asyncio

        codec = self._ocalls[index]
        slot = AwaitedSlot(next(self._ocall_ids))
        self._reader.lend(slot.loop)
        self._ask(codec, slot, arguments)
        try:
            answer = await slot.wait(codec.timeout_seconds, codec.name)
        except BaseException:
            self._slots.drop(slot)
            raise
        return result_of(codec, answer)

    def _await_answer(self, codec: Codec, slot: Slot) -> Any:
        self._reader.take_back()
        try:
            answer = slot.wait(codec.timeout_seconds, codec.name)
        except BaseException:
            self._slots.drop(slot)
            raise
        return result_of(codec, answer)

    def _ask(self, codec: Codec, slot: Waiting, arguments: tuple[Any, ...]) -> None:
        frame, files = codec.encode_call(slot.id, arguments)
        try:
            codec.check_call(frame)
            self._slots.add(slot)
            self._out.send(slot.id, frame, files)
        finally:
            boundary.close(files)

    def _listen(self) -> None:
        try:
            self._reader.run()
        finally:
            os._exit(EXIT_DEAF)  # an enclave that hears nothing more is better ended

    def _route(self, flags: int) -> None:
        """Read one frame of the control socket: an answer for its ocall, a cancellation, or a call for a
        worker.
        """
        parcel = self._receive(flags)
        if parcel is not None:
            self._dispatch_retrying(parcel)

    def _receive(self, flags: int) -> Parcel | None:
        """The next parcel, unopened; None if there is none yet."""
        try:
            parcel = frames.receive_sealed(self._control, flags)
            if parcel is not None:
                return parcel
        except BlockingIOError:
            return None
        except MemoryError:  # nothing was taken from the socket: it is there when there is memory
            self._out.wait_for_memory()
            return None
        except frames.LostFrame as error:
            self._out.refuse(error.call, error)
            return None
        except OSError as error:
            leave(error)
            self._out.wait_for_memory()
            return None
        os._exit(0)  # the host has hung up

    def _dispatch_retrying(self, parcel: Parcel) -> None:
        """Dispatch a parcel, retrying while other calls use all memory."""
        for _ in ATTEMPTS:
            try:
                head = self._open(parcel)
                if head is not None:
                    self._dispatch(head, parcel)
                return
            except MemoryError:
                self._out.wait_for_memory()
        os._exit(EXIT_NO_MEMORY)

    def _open(self, parcel: Parcel) -> frames.Head | None:
        """Open a parcel and decode its head; None if it was refused."""
        try:
            frames.open_parcel(parcel, self._max_bytes)
            return frames.head(parcel.frame)
        except frames.LostFrame as error:
            call = error.call
            fault: FormatError = error
        except UNREADABLE as error:
            call, fault = 0, _unreadable(error, "frame")
        parcel.close()
        self._out.refuse(call, fault)
        return None

    def _dispatch(self, head: frames.Head, parcel: Parcel) -> None:
        if head.kind in {frames.OCALL_RETURN, frames.OCALL_RAISED}:
            self._slots.fill(head.id, parcel)
        elif head.kind == frames.CANCEL:
            parcel.close()
            self._cancel(head.id)
        elif self._queued.setdefault(head.id, parcel) is not parcel:
            parcel.close()
            self._out.refuse(0, FormatError(f"call {head.id}: is already queued"))
        else:
            self._queue(head.id, parcel)

    def _queue(self, call: int, parcel: Parcel) -> None:
        """Give a queued call to a worker; after a MemoryError it may be queued again."""
        try:
            if self._workers.put(functools.partial(self._run_queued, call)):
                return
            busy = BUSY.frame(call)
        except MemoryError:
            self._queued.pop(call, None)
            raise
        self._queued.pop(call)
        parcel.close()
        self._out.finish(call, busy)

    def _run_queued(self, call: int) -> None:
        parcel = self._queued.pop(call, None)
        if parcel is None:
            return
        try:
            self._serve(parcel)
        except BaseException:  # noqa: BLE001 - a call without an answer must not wait indefinitely
            os._exit(EXIT_DEAF)

    def _cancel(self, call: int) -> None:
        parcel = self._queued.pop(call, None)
        if parcel is not None:
            parcel.close()
            self._out.finish(call, CANCELLED.frame(call), ())
            return
        thread = self._running.cancel(call)
        if thread == get_ident():
            raise OwnInterrupt
        if thread is not None:
            self._slots.interrupt(thread)

    def _serve(self, parcel: Parcel) -> None:
        """Execute the call in ``parcel`` and send its answer; raises nothing."""
        head = self._head(parcel)
        call = head if isinstance(head, int) else head.id
        answer, files = self._dispatch_call(head, parcel)
        parcel.close()
        self._out.finish(call, answer, files)

    def _head(self, parcel: Parcel) -> frames.Head | int:
        """The head of a frame; 0 if it has none."""
        for _ in ATTEMPTS:
            try:
                return frames.head(parcel.frame)
            except MemoryError:
                self._out.wait_for_memory()
            except UNREADABLE:
                return 0
        os._exit(EXIT_NO_MEMORY)

    def _dispatch_call(self, head: frames.Head | int, parcel: Parcel) -> Answer:
        """Execute a call and encode its answer; no frame if there is no memory for one."""
        try:
            try:
                return self._route_call(head, parcel)
            except UNREADABLE as error:
                fault: Exception = _unreadable(error, "call")
            except Exception as error:  # noqa: BLE001 - whatever it is, the host hears of it and the thread goes on
                fault = error
            return self._out.error_frame(head if isinstance(head, int) else head.id, fault), ()
        except MemoryError:
            parcel.held = None
            return None, ()

    def _route_call(self, head: frames.Head | int, parcel: Parcel) -> Answer:
        """Find the called function, and call it."""
        if isinstance(head, int):
            head = frames.head(parcel.frame)  # raises with the problem
        kind, call = head.kind, head.id
        if call < 1 or call in self._running.threads:
            raise FormatError(f"call: want an id that no call has, got {call}")
        if 0 <= kind < len(self._ecalls):
            return self._invoke(call, self._ecalls[kind], parcel)
        if kind == frames.EVIDENCE:
            return self._evidence(parcel), ()
        raise FormatError(f"call: want an ecall 0..{len(self._ecalls) - 1}, got {kind}")

    def _invoke(self, call: int, ecall: Ecall, request: msgspec.Struct | Parcel) -> Answer:
        """Execute one call and encode its answer, whatever the application does."""
        running = self._running
        try:
            running.threads[call] = get_ident()
            if running.early:
                running.recall(call)
            answer = self._apply(call, ecall, request)
            if running.threads.pop(call, None) is not None:
                return answer
            running.absorb(call)
            boundary.close(answer[1])
            raise CancelInterrupt
        except CancelInterrupt:  # in the application's code, before it, or after
            self._end_call(call)
        # the exception that could not be reported, and everything it referenced, is released by now
        except MemoryError:
            self._end_call(call)
            return None, ()
        return self._out.error_frame(call, CancelInterrupt()), ()

    def _apply(self, call: int, ecall: Ecall, request: msgspec.Struct | Parcel) -> Answer:
        codec = ecall.codec
        try:
            if isinstance(request, Parcel):
                request.held = arguments = codec.decode_call(request)
                result = ecall.function(*arguments)
            else:
                result = ecall.function(*astuple(request)[1:])
            if result is None and codec.returns_none:
                return encode_short((frames.RETURN, call, None)), ()
            return codec.encode_result(call, result)
        except BaseException as error:  # noqa: BLE001 - whatever the application raises ends only its call
            return self._out.error_frame(call, error, ecall.raises), ()

    def _end_call(self, call: int) -> None:
        """Ensure that no interrupt reaches ``call`` any more."""
        if self._running.threads.pop(call, None) is None:
            self._running.absorb(call)

    def _evidence(self, parcel: Parcel) -> Frame:
        from kluis.enclave import attestation

        parcel.close()
        request = _evidence_request(parcel.frame)
        made = attestation.host_evidence(request.nonce, request.app_data)
        return frames.encode((frames.RETURN, request.id, made))


def _unreadable(error: Exception, what: str) -> FormatError:
    return FormatError(boundary.explain(error, what, ("kind", "id")))


BUSY = Failure("UnavailableError", "too many calls wait", None, "busy", "make fewer calls at once")
_evidence_request = msgspec.msgpack.Decoder(frames.EvidenceRequest).decode
