"""The platform's side of the spawner: sends orders, receives answers and reports of ended enclaves."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

from kluis.errors import AuthenticityError, UnavailableError

MAX_REPORT = 128 * 1024


class ChangedLayerError(AuthenticityError):
    """A cached layer has changed since it was measured.

    Attributes:
        layer: its digest; empty if the guardian was changed.
    """

    layer: bytes = b""


class Orders:
    """Sends one order at a time, and reports the ends of enclaves.

    Args:
        spawner: the platform's end of the order socket.
        lost: called when the spawner closes the socket.
    """

    def __init__(self, spawner: socket.socket, lost: Callable[[], None]) -> None:
        self._socket = spawner
        self._lost = lost
        self._turn = threading.Lock()
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._ended: dict[str, Callable[[int, str], None]] = {}
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        threading.Thread(target=self._report_ends, name="ends", daemon=True).start()

    def _listen(self) -> None:
        # If it ended in any other way, no order would be answered, and no enclave could be ended.
        try:
            # A spawner that was killed with unread orders resets the connection: treat this as its end, too.
            with contextlib.suppress(OSError):
                while data := self._socket.recv(MAX_REPORT):
                    report = json.loads(data)
                    (self._answers if report.pop("event") == "answer" else self._ends).put(report)
        finally:
            self._ends.put(None)
            self._give_up()

    def _report_ends(self) -> None:
        # In a separate thread: what an end releases may wait for a lock whose owner waits for an answer.
        try:
            while report := self._ends.get():
                if ended := self._ended.pop(report["id"], None):
                    ended(int(report["status"]), str(report["words"]))
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        self._answers.put({"error": "the spawner ended"})
        self._lost()

    def send(self, order: dict[str, Any], descriptors: list[int] | None = None) -> dict[str, Any]:
        """Send one order and wait for its answer.

        Raises:
            UnavailableError: the spawner could not carry it out; with the reason.
            ChangedLayerError: measured files have changed: code ``layer_changed``.
        """
        with self._turn:
            try:
                socket.send_fds(self._socket, [json.dumps(order).encode()], descriptors or [])
            except OSError as failed:
                answer = {"error": f"the spawner got no order: {failed.strerror}"}
            else:
                answer = self._answers.get()
        if "changed" in answer:
            error = ChangedLayerError(
                f"launch: {answer['changed']}: was changed on this machine after it was measured",
                code="layer_changed",
                hint="launch again: the layer is read from the image again; find out who changed it",
            )
            error.layer = bytes.fromhex(answer["layer"])
            raise error
        if "error" in answer:
            raise UnavailableError(f"launch: {answer['error']}", code="launch_failed", hint="kluis doctor")
        return answer

    def on_end(self, name: str, ended: Callable[[int, str], None]) -> None:
        """Register ``ended(status, words)`` to be called when the enclave ``name`` has ended."""
        self._ended[name] = ended

    def forget_end(self, name: str) -> None:
        """Do not report the end of an enclave whose launch failed."""
        self._ended.pop(name, None)
