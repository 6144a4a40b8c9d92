"""One host's connection to the platform: its requests, and its enclaves, which end with it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from kluis.errors import FormatError, KluisError, UsageError
from kluis.formats.encoding import jcs
from kluis.tee.platform.launching.launch import Launcher, Running
from kluis.tee.process.sandbox import MOST_GRANTED
from kluis.tee.process.sockets import ENDS

MAX_REQUEST = 16 * 1024
MOST_DESCRIPTORS = 1 + ENDS + MOST_GRANTED
DYING_SECONDS = 60.0


class Host:
    """A connected host.

    Args:
        connection: SEQPACKET; one request for each datagram, with its descriptors.
        user: the host's user id, from the kernel.
        launcher: starts enclaves.
        answer: answers every other request, with its descriptors, for the user.
    """

    def __init__(
        self,
        connection: socket.socket,
        user: int,
        launcher: Launcher,
        answer: Callable[[dict[str, Any], list[int], int], dict[str, Any]],
    ) -> None:
        self._connection = connection
        self._user = user
        self._launcher = launcher
        self._answer = answer
        self._running: list[Running] = []
        self._left = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._answering = False
        self._ends: list[bytes] = []

    def serve(self) -> None:
        """Answer requests until the host closes the connection, or sends an invalid one."""
        with contextlib.suppress(OSError, ValueError):
            while True:
                data, descriptors, _, _ = socket.recv_fds(self._connection, MAX_REQUEST, MOST_DESCRIPTORS)
                try:
                    if not data:  # an empty message, with descriptors or none, or the end
                        return
                    self._one(_parse(data), descriptors)
                finally:
                    for fd in descriptors:
                        os.close(fd)

    def close(self) -> None:
        """End the enclaves of this connection, and wait for their end; each is reported to the host."""
        for running in self._running:
            self._launcher.kill(running.name)
        for _ in self._running:
            self._left.acquire(timeout=DYING_SECONDS)

    def _one(self, request: dict[str, Any], descriptors: list[int]) -> None:
        ends: tuple[socket.socket, ...] = ()
        with self._lock:
            self._answering = True
        try:
            if request.get("op") == "launch":
                running = self._launch(request, descriptors)
                answer, ends = _answer_of(running), running.ends
            else:
                answer = self._answer(request, descriptors, self._user)
        except KluisError as error:
            kind = next(c.__name__ for c in type(error).__mro__ if c.__module__ == "kluis.errors")
            answer = {"error": kind, "code": error.code, "message": error.message, "hint": error.hint}
        text = json.dumps({"event": "answer", **answer}).encode()
        socket.send_fds(self._connection, [text], [end.fileno() for end in ends])
        for end in ends:
            end.close()
        with self._lock:
            self._answering = False
            for event in self._ends:
                self._send(event)
            self._ends.clear()

    def _launch(self, request: dict[str, Any], descriptors: list[int]) -> Running:
        allowed, names = (_names(request, field) for field in ("allow_missing", "sockets"))
        first = 1 + (ENDS if request.get("streams") is True else 0)
        if len(descriptors) != first + len(names):
            want = f"{first} of the image and streams, and {len(names)} of sockets"
            raise UsageError(f"launch: descriptors: want {want}, got {len(descriptors)}")
        with self._launcher.turns.of(self._user):
            running = self._launcher.launch(
                descriptors[0],
                user=self._user,
                allow_missing=frozenset(allowed),
                granted=list(zip(names, descriptors[first:], strict=True)),
                ended=self._report_end,
                streams=descriptors[1:first],
            )
        self._running.append(running)
        return running

    def _report_end(self, status: int, words: str) -> None:
        event = json.dumps({"event": "exited", "status": status, "words": words}).encode()
        with self._lock:
            # An enclave may end before its launch is answered: the host reads the answer first.
            if self._answering:
                self._ends.append(event)
            else:
                self._send(event)
        self._left.release()

    def _send(self, event: bytes) -> None:
        # One thread reports the ends of all enclaves: it must not wait for a host to read.
        with contextlib.suppress(OSError):
            self._connection.send(event, socket.MSG_DONTWAIT)


def _answer_of(running: Running) -> dict[str, Any]:
    configuration = running.who.configuration
    return {
        "pid": running.enclave,
        "guardian": running.guardian,
        "uid": running.uid,
        "image_id": running.who.mrenclave.hex(),
        "level": "none" if running.debug else configuration.level,
        "launch_configuration": base64.b64encode(configuration.encode()).decode(),
        "debug": running.debug,
    }


def _names(request: dict[str, Any], field: str) -> list[str]:
    value = request.get(field, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"launch: {field}: want a list of names")
    return value


def _parse(data: bytes) -> dict[str, Any]:
    """Parse a request; ValueError if it is not a JSON object."""
    try:
        request = jcs.loads(data, "request")
    except FormatError as error:
        raise ValueError(error.message) from None
    if not isinstance(request, dict):
        raise ValueError(f"request: want an object, got {type(request).__name__}")
    return request
