"""Send answers to the host: complete, or an error instead, even if the enclave's heap is full.

If there is no memory for an answer, a reserve is released, and the answer is retried while other calls fail
and release memory. If that does not help within ten seconds, the enclave ends, so that its host notices in
any case.
"""

from __future__ import annotations

import _socket as socket
import errno
import os
import threading
import time
from typing import TYPE_CHECKING

from kluis.enclave.boundary import codec, frames
from kluis.enclave.boundary.frames import Frame
from kluis.enclave.runtime.failures import OUT_OF_MEMORY, failure

if TYPE_CHECKING:
    from kluis.streams import Stream

try:
    from kluis_launcher import set_aside  # type: ignore[import-not-found]  # built into the launcher
except ImportError:  # a rehearsal, in an interpreter without the launcher

    def set_aside(size: int) -> None:
        """Does nothing: outside an enclave there is no bounded heap to reserve memory in."""


ATTEMPTS, PAUSE_SECONDS = range(1000), 0.01
RESERVE_BYTES = 4 << 20
"""Reserved in the heap; counted, but not touched: the first touch of a page of secret memory is slow."""
EXIT_NO_MEMORY, EXIT_STREAM = 71, 72
GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF, errno.ESHUTDOWN, errno.ENODEV})
"""Errors of a socket whose other end has closed, and of a port that was unplugged."""


def leave(error: OSError) -> None:
    """End the enclave if its host has closed the sockets, or has violated the format of the streams."""
    if error.errno == errno.EPROTO:
        os._exit(EXIT_STREAM)
    if error.errno in GONE:
        os._exit(0)


class Answers:
    """Sends answers.

    Args:
        calls: the calls socket or stream.
        control: the control socket or stream.
        debug: whether the enclave is a debug one, which reports more about its errors.
    """

    def __init__(self, calls: socket.socket | Stream, control: socket.socket | Stream, debug: bool) -> None:
        self._calls = calls
        self._control = control
        self._debug = debug
        self._parcels = threading.Lock()
        self._reserved = True
        set_aside(RESERVE_BYTES)

    def send(self, call: int, frame: Frame, files: tuple[int, ...]) -> None:
        """Send a frame of any size; the enclave ends if the other end has closed.

        Raises:
            OSError, MemoryError: it cannot be put into a memory file now.
        """
        try:
            if len(frame) <= frames.INLINE and not files:
                self._calls.send(frame)
                return
            with self._parcels:
                frames.send_announced(self._calls, self._control, call, frame, files)
        except OSError as error:
            leave(error)
            raise

    def finish(self, call: int, answer: Frame | None, files: tuple[int, ...] = ()) -> None:
        """Send an answer, or the error if it cannot be sent; None becomes an out-of-memory error. Closes
        ``files``.
        """
        for _ in ATTEMPTS:
            try:
                if answer is None:
                    answer = OUT_OF_MEMORY.frame(call)
                self.send(call, answer, files)
                break
            except MemoryError:
                self.wait_for_memory()
            except OSError as error:  # no descriptor, or no memory for a memory file
                codec.close(files)
                answer, files = self.error_frame(call, error), ()
        else:
            os._exit(EXIT_NO_MEMORY)
        codec.close(files)
        if not self._reserved:
            self._reserved = True
            set_aside(RESERVE_BYTES)

    def error_frame(
        self, call: int, error: BaseException, raises: tuple[type[Exception], ...] = ()
    ) -> Frame | None:
        """The frame that reports an error; None if there is no memory for it."""
        try:
            return failure(error, raises, self._debug).frame(call)
        except MemoryError:
            return None

    def refuse(self, call: int, error: Exception) -> None:
        """Answer with an error."""
        self.finish(call, self.error_frame(call, error))

    def wait_for_memory(self) -> None:
        """Release the reserve, and wait briefly for other calls to release memory."""
        self._reserved = False
        set_aside(0)
        time.sleep(PAUSE_SECONDS)
