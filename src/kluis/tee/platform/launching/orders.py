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
from kluis.tee.platform import shares

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
        self._starting = shares.Turns()
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._ended: dict[str, Callable[[int, str], None]] = {}
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def _listen(self) -> None:
        # If it ended in any other way, no order would be answered, and no enclave could be ended.
        try:
            # A spawner that was killed with unread orders resets the connection: treat this as its end, too.
            with contextlib.suppress(OSError):
                while data := self._socket.recv(MAX_REPORT):
                    report = json.loads(data)
                    if report.pop("event") == "answer":
                        self._answers.put(report)
                    elif ended := self._ended.pop(report["id"], None):
                        ended(int(report["status"]), str(report["words"]))
        finally:
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

    def start(self, user: int, order: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Send an order to start an enclave: one of a user at a time.

        The spawner carries out one order at a time, and first measures the layers' data again, which may take
        seconds. A user who launches many enclaves at once would otherwise keep the others from their turn.

        Raises:
            UnavailableError, ChangedLayerError: as :meth:`send`.
        """
        with self._starting.of(user):
            return self.send(order, descriptors)

    def on_end(self, name: str, ended: Callable[[int, str], None]) -> None:
        """Register ``ended(status, words)`` to be called when the enclave ``name`` has ended."""
        self._ended[name] = ended

    def forget_end(self, name: str) -> None:
        """Do not report the end of an enclave whose launch failed."""
        self._ended.pop(name, None)
