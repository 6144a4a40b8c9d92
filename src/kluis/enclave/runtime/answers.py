"""Answers to the host: sent whole, or told why not, also from an enclave whose heap is full.

Where there is no memory to write an answer in, what was kept for this is given up, and the answer is
tried again while other calls fail and give up what they hold. If that does not help in ten seconds
the enclave ends, so that its host hears of it one way or the other.
"""

from __future__ import annotations

import _socket as socket
import errno
import os
import threading
import time

from kluis.enclave.boundary import codec, frames
from kluis.enclave.boundary.frames import Frame
from kluis.enclave.runtime.failures import OUT_OF_MEMORY, failure

try:
    from kluis_launcher import set_aside  # type: ignore[import-not-found]
except ImportError:  # a rehearsal, in an interpreter without the launcher

    def set_aside(size: int) -> None:
        """There is no bounded heap of which anything could be kept."""


ATTEMPTS, PAUSE_SECONDS = range(1000), 0.01
RESERVE_BYTES = 4 << 20
"""Of the heap; counted, and not touched: a page of secret memory is slow to get."""
EXIT_NO_MEMORY = 71
GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF, errno.ESHUTDOWN})
"""What a socket says when nobody is there any more."""


class Answers:
    """The way out.

    Args:
        calls: the calls socket.
        control: the control socket.
        debug: whether the enclave is a debug one, which tells more of its errors.
    """

    def __init__(self, calls: socket.socket, control: socket.socket, debug: bool) -> None:
        self._calls = calls
        self._control = control
        self._debug = debug
        self._parcels = threading.Lock()
        self._reserved = True
        set_aside(RESERVE_BYTES)

    def send(self, call: int, frame: Frame, files: tuple[int, ...]) -> None:
        """Send a frame of any size; the enclave ends if nobody is there to take it.

        Raises:
            OSError, MemoryError: it cannot be put into a memory file now.
        """
        try:
            if len(frame) <= frames.INLINE and not files:
                self._calls.send(frame)
                return
            with self._parcels:
                frames.send_parcel(self._control, call, frame, files)
                self._calls.send(frames.LARGE)
        except OSError as error:
            if error.errno in GONE:
                os._exit(0)
            raise

    def finish(self, call: int, answer: Frame | None, files: tuple[int, ...] = ()) -> None:
        """Send an answer, or why it cannot be sent; None is answered as lack of memory. Closes ``files``."""
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
        """The frame that reports an error; None where there is no memory to write it in."""
        try:
            return failure(error, raises, self._debug).frame(call)
        except MemoryError:
            return None

    def refuse(self, call: int, error: Exception) -> None:
        """Answer with an error."""
        self.finish(call, self.error_frame(call, error))

    def wait_for_memory(self) -> None:
        """Give up what was kept, and wait a little for what others give up."""
        self._reserved = False
        set_aside(0)
        time.sleep(PAUSE_SECONDS)
