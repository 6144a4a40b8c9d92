"""Client of the platform, for hosts: launch an image, get the root, the collateral, the status."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from kluis.errors import BY_NAME, UnavailableError, UsageError
from kluis.tee import places as where
from kluis.tee.places import Places
from kluis.tee.platform import start as starting

MAX_ANSWER = 256 * 1024
SOCKETS = 2


@dataclass(slots=True)
class Launched:
    """An enclave that this process started, and that lives as long as this object.

    Attributes:
        calls, control: SEQPACKET sockets to the enclave; None if its host gave streams for them.
        pid: the enclave's, on this machine; ``guardian`` is its tracer's.
        image_id: 32 bytes.
        level: protection level of this launch.
        launch_configuration: canonical JSON; its SHA-512 is CONFIGID in evidence.
        slowness: 1, since it runs on this machine.
    """

    calls: socket.socket | None
    control: socket.socket | None
    pid: int
    guardian: int
    uid: int
    image_id: bytes
    level: str
    launch_configuration: bytes
    debug: bool
    slowness: float
    _connection: socket.socket
    _ends: queue.SimpleQueue[tuple[int, str]] = field(default_factory=queue.SimpleQueue)

    def kill(self) -> None:
        """End the enclave now; :meth:`wait` returns when it has ended."""
        # When a connection is shut down, the platform ends its enclaves, and then reports how they ended.
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
        for end in (self.calls, self.control):
            if end is not None:
                end.close()

    def wait(self, timeout: float | None = None) -> tuple[int, str] | None:
        """Wait for the enclave's end.

        Returns:
            Its exit status and the launcher's last output, or None after ``timeout`` seconds. A negative
            status is the signal that ended it.
        """
        try:
            end = self._ends.get(timeout=timeout)
        except queue.Empty:
            return None
        self._ends.put(end)
        return end

    def _listen(self) -> None:
        try:
            data = self._connection.recv(MAX_ANSWER)
        except OSError:
            data = b""
        finally:
            self._connection.close()
        if data:
            event: dict[str, Any] = json.loads(data)
            self._ends.put((int(event["status"]), str(event["words"])))
        else:
            self._ends.put((-9, "ended with the platform"))


class Platform:
    """A platform on this machine."""

    def __init__(self, places: Places) -> None:
        self.places = places

    @classmethod
    def connect(cls, *, start: bool = True) -> Self:
        """Connect to the system's platform, else this user's; start one if there is none.

        Raises:
            UnavailableError: none is running, and none could be started.
        """
        for candidate in where.candidates():
            if starting.answers(candidate):
                return cls(candidate)
        if not start:
            raise UnavailableError("platform: not running", code="no_platform", hint="kluis platform start")
        return cls(starting.start(idle_seconds=starting.IDLE_SECONDS))

    def launch(
        self,
        path: Path | str,
        *,
        allow_missing: frozenset[str] = frozenset(),
        sockets: Mapping[str, socket.socket] | None = None,
        streams: Sequence[int] = (),
    ) -> Launched:
        """Start the image at ``path``.

        Args:
            path: of the image.
            allow_missing: names of protections that this machine may do without.
            sockets: by grant, such as ``listen:web``; the enclave gets a duplicate of each.
            streams: descriptors of its ends of two streams, for calls and control, in place of sockets.

        Raises:
            KluisError: as for ``kluis.tee.platform.launching.launch.Launcher.launch``; UsageError if the file
            does not exist.
        """
        try:
            image = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                f"image {path}: {error.strerror}", hint="kluis build DIR -o FILE --key KEY makes one"
            ) from None
        connection = self._connect()
        try:
            grants = dict(sockets or {})
            request = {
                "op": "launch",
                "allow_missing": sorted(allow_missing),
                "sockets": list(grants),
                "streams": bool(streams),
            }
            handed = [image, *streams, *(end.fileno() for end in grants.values())]
            with _its_end():
                socket.send_fds(connection, [json.dumps(request).encode()], handed)
                data, descriptors, _, _ = socket.recv_fds(
                    connection, MAX_ANSWER, SOCKETS, socket.MSG_CMSG_CLOEXEC
                )
            answer = self._check(data)
            _check_whole(descriptors, 0 if streams else SOCKETS)
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(image)
        calls, control = (socket.socket(fileno=fd) for fd in descriptors) if descriptors else (None, None)
        launched = Launched(
            calls=calls,
            control=control,
            pid=answer["pid"],
            guardian=answer["guardian"],
            uid=answer["uid"],
            image_id=bytes.fromhex(answer["image_id"]),
            level=answer["level"],
            launch_configuration=base64.b64decode(answer["launch_configuration"]),
            debug=answer["debug"],
            slowness=1.0,
            _connection=connection,
        )
        threading.Thread(target=launched._listen, name="launched", daemon=True).start()
        return launched

    def root_pem(self) -> bytes:
        """The root certificate of this platform's authority, PEM."""
        return str(self._ask("root")["root"]).encode()

    def collateral(self) -> bytes:
        """Fresh collateral, JSON in the format of ``dcap-qvl``."""
        return str(self._ask("collateral")["collateral"]).encode()

    def layers(self) -> tuple[frozenset[str], str | None]:
        """The digests of the layers that it holds, hex: an image's file need not contain them.

        The second value is the digest of the layer of which a file need contain only the index, or None.

        Raises:
            UsageError: this is not the platform's user.
        """
        answer = self._ask("layers")
        return frozenset(map(str, answer["layers"])), answer["laid"]

    def status(self) -> dict[str, Any]:
        """Its status: level, version, missing protections, enclaves."""
        answer = self._ask("status")
        answer.pop("event", None)
        return {**answer, "socket": str(self.places.socket), "state": str(self.places.state)}

    def enclaves(self) -> list[dict[str, Any]]:
        """The newest 100 running enclaves that this user started; for root, and the platform's user, of all.

        Returns:
            For each: image (the name in its manifest), image_id (hex), level, debug, missing, pid, user, and
            started (RFC 3339).
        """
        return [dict(each) for each in self._ask("enclaves")["enclaves"]]

    def order(self, op: str, **order: Any) -> dict[str, Any]:
        """Manage certificates: ``recover``, ``revoke``, ``certify``, ``enrolment``, ``adopt``, ``endorse``,
        ``reseal``.

        Raises:
            KluisError: as for :class:`kluis.tee.platform.root.upkeep.Upkeep`; PolicyError for another user.
        """
        with self._connect() as connection, tempfile.TemporaryFile() as file:
            file.write(json.dumps(order).encode())
            file.flush()
            with _its_end():
                socket.send_fds(connection, [json.dumps({"op": op}).encode()], [file.fileno()])
                data = connection.recv(MAX_ANSWER)
            answer = self._check(data)
        answer.pop("event", None)
        return answer

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep an idle platform from ending, for as long as the ``with`` lasts."""
        with self._connect():
            yield

    def stop(self) -> None:
        """Stop the platform and every enclave it runs."""
        starting.stop(self.places)

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(str(self.places.socket))
        except OSError as error:
            connection.close()
            raise UnavailableError(
                f"platform {self.places.socket}: {error.strerror}",
                code="no_platform",
                hint="kluis platform start",
            ) from None
        try:
            where.require_ours(self.places, connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _ask(self, op: str) -> dict[str, Any]:
        with self._connect() as connection:
            with _its_end():
                connection.send(json.dumps({"op": op}).encode())
                data = connection.recv(MAX_ANSWER)
            return self._check(data)

    def _check(self, data: bytes) -> dict[str, Any]:
        if not data:
            raise _gone_error()
        answer: dict[str, Any] = json.loads(data)
        if kind := answer.get("error"):
            raise BY_NAME.get(kind, UnavailableError)(
                answer["message"], hint=answer["hint"], code=answer["code"]
            )
        return answer


def _gone_error() -> UnavailableError:
    return UnavailableError("platform: hung up", code="platform_gone", hint="kluis platform start")


@contextlib.contextmanager
def _its_end() -> Iterator[None]:
    """A platform that ends with an unread request resets the connection: treat this as closed, too."""
    try:
        yield
    except ConnectionError:
        raise _gone_error() from None


def _check_whole(descriptors: Sequence[int], want: int) -> None:
    """Check that both of an enclave's sockets arrived: the kernel drops descriptors above a process's limit.

    Raises:
        UnavailableError: one is missing.
    """
    if len(descriptors) != want:
        for each in descriptors:
            os.close(each)
        raise UnavailableError(
            f"platform: want {want} sockets of the enclave, got {len(descriptors)}: this process may open"
            " no more files",
            hint="ulimit -n 4096",
        )
