"""``RemotePlatform``: a backend of this host that launches images in a machine, over streams."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from kluis.errors import (
    AuthenticityError,
    FormatError,
    UnavailableError,
    UnsupportedError,
    UsageError,
    foreign,
)
from kluis.streams import PATIENCE_SECONDS, Stream
from kluis.tee.image import archive
from kluis.tee.process.sockets import check
from kluis.tee.remote import messages
from kluis.tee.remote.forwarding import Forwarding
from kluis.tee.remote.messages import Message

ANSWER_SECONDS: Final = 120.0
LAUNCH_SECONDS: Final = 300.0
HELLO_SECONDS, MOST_HELLO_SECONDS = 4.0, 32.0
"""How long the first hello over a port may take; each further one may take longer, up to a bound."""
PAUSE_SECONDS: Final = 0.5
"""How long a port is left between two of them, so that the guest sees that its host was gone."""

Connect = Callable[[], "socket.socket | Stream"]


@dataclass(slots=True)
class Remote:
    """An enclave in a machine, which lives as long as this object.

    Attributes:
        calls, control: streams to the enclave.
        pid: the enclave's, in the machine.
        image_id: 32 bytes.
        level: protection level of this launch.
        launch_configuration: canonical JSON; its SHA-512 is CONFIGID in evidence.
        slowness: as of the platform.
    """

    calls: Stream
    control: Stream
    pid: int
    image_id: bytes
    level: str
    launch_configuration: bytes
    debug: bool
    slowness: float
    _connection: Stream
    _forwarding: Forwarding
    _ends: queue.SimpleQueue[tuple[int, str]] = field(default_factory=queue.SimpleQueue)

    def kill(self) -> None:
        """End the enclave now; :meth:`wait` returns when it has ended."""
        with contextlib.suppress(UnavailableError):
            messages.send(self._connection, {"op": "kill"})
        for end in (self.calls, self.control):
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
        status, words = -9, "ended with its machine"
        try:
            received = messages.receive(self._connection)
            if received is not None:
                for descriptor in received[1]:
                    os.close(descriptor)
                status, words = (
                    messages.number(received[0], "status"),
                    foreign(messages.text(received[0], "words"), messages.MOST_WORDS),
                )
        except (FormatError, UnavailableError) as error:
            words = error.message
        finally:
            self._connection.close()
            self._forwarding.end()
            # A port of a machine does not report that the enclave has closed it.
            for end in (self.calls, self.control):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._ends.put((status, words))


class RemotePlatform:
    """The platform of a machine.

    Args:
        connect: opens a new stream to the machine's agent; raises OSError. Each enclave has three.
        slowness: how many times longer than a machine with this processor's speed it may take for anything.
        ports: the streams are ports of the machine, in which the host before may have left bytes: the first
            message of a stream is sent again until it is answered.
    """

    def __init__(self, connect: Connect, *, slowness: float = 1.0, ports: bool = False) -> None:
        self._connect = connect
        self.slowness = slowness
        self._ports = ports

    def launch(
        self,
        path: Path | str,
        *,
        allow_missing: frozenset[str] = frozenset(),
        sockets: Mapping[str, socket.socket] | None = None,
    ) -> Remote:
        """Start the image at ``path`` in the machine; only the layers that it does not hold are sent.

        Raises:
            KluisError: as for :meth:`kluis.tee.platform.client.Platform.launch`; UnavailableError with code
                ``machine_gone`` if the machine does not answer.
        """
        try:
            with open(path, "rb") as file:
                head = archive.read_head(file, f"image {path}")
                try:
                    return self._launch(file, head, allow_missing, sockets or {}, fresh=False)
                except (AuthenticityError, FormatError):
                    # The machine may have dropped a layer after it said that it holds it.
                    return self._launch(file, head, allow_missing, sockets or {}, fresh=True)
        except OSError as error:
            raise UsageError(
                f"image {path}: {error.strerror}", hint="kluis build DIR -o FILE --key KEY makes one"
            ) from None

    def root_pem(self) -> bytes:
        """The root certificate of the machine's platform, PEM."""
        return messages.text(self._ask({"op": "root"}), "root").encode()

    def collateral(self) -> bytes:
        """Fresh collateral, JSON in the format of ``dcap-qvl``."""
        return messages.text(self._ask({"op": "collateral"}), "collateral").encode()

    def status(self) -> dict[str, Any]:
        """Its status: level, version, missing protections, enclaves; ``only``: its one image id, or None."""
        session, hello = self._session()
        with contextlib.closing(session):
            messages.send(session, {"op": "status"})
            return {**_answer(session), "only": hello.get("only")}

    def await_answer(self, seconds: float) -> None:
        """Wait until the agent answers.

        Raises:
            UnavailableError, FormatError: it did not, for ``seconds``; with the last reason.
        """
        self._session(seconds)[0].close()

    def _launch(
        self,
        file: BinaryIO,
        head: archive.Head,
        allow_missing: frozenset[str],
        sockets: Mapping[str, socket.socket],
        *,
        fresh: bool,
    ) -> Remote:
        name = secrets.token_hex(16)
        check([(grant, each.fileno()) for grant, each in sockets.items()], frozenset(head.manifest.grants))
        request: Message = {
            "op": "launch",
            "launch": name,
            "allow_missing": [*sorted(allow_missing)],
            "sockets": [*sockets],
            "fresh": fresh,
        }
        with contextlib.ExitStack() as failing:
            session = failing.enter_context(contextlib.closing(self._session()[0]))
            messages.send(session, request, [_block(file, 0, head.end)])
            wanted = frozenset(messages.texts(_answer(session), "want"))
            _send_layers(session, file, head, wanted)
            calls, control = (
                failing.enter_context(contextlib.closing(self._join(name, each))) for each in messages.ENDS
            )
            forwarding = Forwarding(sockets, lambda grant: self._forward(name, grant))
            failing.callback(forwarding.end)
            forwarding.start()
            session.patience_seconds = LAUNCH_SECONDS * self.slowness
            answer = _answer(session)
            session.patience_seconds = PATIENCE_SECONDS * self.slowness
            remote = Remote(
                calls=calls,
                control=control,
                pid=messages.number(answer, "pid"),
                image_id=messages.digest(answer, "image_id"),
                level=foreign(messages.text(answer, "level")),
                launch_configuration=messages.octets(answer, "launch_configuration"),
                debug=answer.get("debug") is True,
                slowness=self.slowness,
                _connection=session,
                _forwarding=forwarding,
            )
            failing.pop_all()
        threading.Thread(target=remote._listen, name="remote", daemon=True).start()
        return remote

    def _join(self, name: str, which: str) -> Stream:
        """A new stream, given to the launch ``name``."""
        return self._open_for({"op": "join", "launch": name, "as": which})

    def _forward(self, name: str, grant: str) -> Stream:
        """A new stream, connected to the enclave's socket of that grant."""
        return self._open_for({"op": "forward", "launch": name, "socket": grant})

    def _open_for(self, request: Message) -> Stream:
        """A new stream for a use other than requests, once the agent has answered the request for that."""
        end, _ = self._session()
        try:
            messages.send(end, request)
            _answer(end)
        except BaseException:
            end.close()
            raise
        end.restart()
        end.patience_seconds = PATIENCE_SECONDS * self.slowness
        return end

    def _ask(self, request: Message) -> Message:
        with contextlib.closing(self._session()[0]) as session:
            messages.send(session, request)
            return _answer(session)

    def _session(self, within_seconds: float | None = None) -> tuple[Stream, Message]:
        """A new stream to the agent, and the agent's hello."""
        longest = ANSWER_SECONDS * self.slowness
        limit = longest if within_seconds is None else within_seconds
        seconds, until = min(HELLO_SECONDS, limit) if self._ports else limit, time.monotonic() + limit
        while True:
            session = self._open()
            try:
                session.patience_seconds = seconds
                hello = _greet(session)
                session.patience_seconds = longest
            except (FormatError, UnavailableError):
                session.close()
                if not self._ports or time.monotonic() > until:
                    raise
            except BaseException:
                session.close()
                raise
            else:
                return session, hello
            seconds = min(2 * seconds, MOST_HELLO_SECONDS)
            time.sleep(PAUSE_SECONDS)

    def _open(self) -> Stream:
        try:
            end = self._connect()
        except OSError as error:
            raise UnavailableError(
                f"machine: no stream: {error.strerror or error}", code="machine_gone", hint="kluis vm list"
            ) from None
        return end if isinstance(end, Stream) else Stream(end)


def _greet(session: Stream) -> Message:
    """The agent's hello, which answers this one."""
    nonce = secrets.token_hex(16)
    messages.send(session, {"op": "hello", "nonce": nonce})
    hello = _answer(session)
    if (got := messages.number(hello, "protocol")) != messages.PROTOCOL:
        raise UnsupportedError(
            f"machine: protocol: want {messages.PROTOCOL}, got {got}",
            hint="start the machine with the guest of this release: kluis vm guest build",
        )
    if hello.get("nonce") != nonce:
        raise FormatError("machine: hello: want the nonce of this stream, got another", code="bad_encoding")
    return hello


def _answer(stream: Stream) -> Message:
    """The answer to a request; raises the error that it reports."""
    received = messages.receive(stream, announced=True)
    if received is None:
        raise UnavailableError("machine: closed its stream", code="machine_gone", hint="kluis vm list")
    answer, files = received
    for descriptor in files:
        os.close(descriptor)
    return messages.check(answer)


def _send_layers(session: Stream, file: BinaryIO, head: archive.Head, wanted: frozenset[str]) -> None:
    """Send the wanted layers, in the manifest's order."""
    at = head.end
    left = set(wanted)
    for layer in head.manifest.layers:
        size = messages.BLOCK_BYTES + layer.index_size + layer.data_size
        if layer.digest in left:
            left.discard(layer.digest)
            block = _block(file, at, size)
            try:
                messages.send(session, {"layer": layer.digest}, [block])
            except UnavailableError:
                return  # it has refused the launch, and its answer states why
        at += size


def _block(file: BinaryIO, at: int, size: int) -> bytes:
    """A part of an image's file.

    Raises:
        FormatError: the file ends before it.
    """
    file.seek(at)
    data = file.read(size)
    if len(data) != size:
        raise FormatError(f"image: {size - len(data)} bytes are missing", code="truncated")
    return data
