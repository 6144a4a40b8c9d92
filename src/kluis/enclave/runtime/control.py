"""Who reads the control socket: its own thread, or an event loop that awaits the host's answers.

An answer that the thread receives must wake the loop, and to wake a thread takes longer than most answers. So
while a loop awaits answers, it reads the socket itself, and the thread only looks now and then whether the
loop still does. The thread reads again if the loop is busy or has ended, and as soon as the loop's own thread
waits for an answer.
"""

from __future__ import annotations

import _socket as socket
import contextlib
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kluis.enclave.runtime.failures import OwnInterrupt

if TYPE_CHECKING:
    import asyncio

    from kluis.streams import Stream

LOOK_SECONDS: Final = 0.2
"""How often the thread looks. A frame waits twice as long at most if its loop is busy."""


class ControlReader:
    """Reads the control socket.

    Args:
        control: the socket; a stream is always read by the thread.
        read: reads one frame and dispatches it; gets flags of ``recvmsg``, and does nothing if there is no
            frame and they say not to wait.
        fail: called in the loop's thread if ``read`` raises there, but for OwnInterrupt. A loop would log
            that and go on, with a frame lost; in the thread, the error ends :meth:`run`.
    """

    def __init__(
        self, control: socket.socket | Stream, read: Callable[[int], None], fail: Callable[[], object]
    ) -> None:
        self._control = control
        self._read = read
        self._fail = fail
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._resumed = threading.Event()

    def run(self) -> None:
        """Read until the process ends; called in the thread."""
        while True:
            if self._loop is None:
                self._read(0)
            elif self._resumed.wait(LOOK_SECONDS):
                self._resumed.clear()
            elif self._is_ignored():
                self._resume()

    def lend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let a loop read, unless one does; called in its thread."""
        lent = self._loop is not None and not self._loop.is_closed()
        if not lent and isinstance(self._control, socket.socket):
            self._loop, self._thread = loop, threading.get_ident()
            loop.add_reader(self._control, self._read_now)

    def _read_now(self) -> None:
        try:
            self._read(socket.MSG_DONTWAIT)
        except OwnInterrupt:  # of the call that runs this loop; its frame was dispatched
            self.take_back()
            raise
        except BaseException:
            self._fail()
            raise

    def take_back(self) -> None:
        """Let the thread read if the calling thread's loop does: this thread is about to wait."""
        if self._thread == threading.get_ident():
            self._resume()

    def _is_ignored(self) -> bool:
        """Whether a frame is there now, and is still there after another while."""
        return self._has_frame() and not self._resumed.wait(LOOK_SECONDS) and self._has_frame()

    def _has_frame(self) -> bool:
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _resume(self) -> None:
        loop, self._loop, self._thread = self._loop, None, 0
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self._unwatch, loop)
        self._resumed.set()

    def _unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            loop.remove_reader(self._control)
