"""The agent: passes requests of hosts on to the machine's platform, and gives enclaves the hosts' streams.

It is trusted with availability, and with keys of the machine's vTPM (:mod:`kluis.tee.inside.keys`). The
platform measures what it launches, and what an enclave and its host say to each other does not pass through
here.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import socket
import threading
from collections.abc import Sequence
from typing import Final

from kluis.errors import KluisError, PolicyError, UnavailableError, UsageError
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.formats.kluis.machine_key import GRANT
from kluis.parcels import Place
from kluis.streams import PATIENCE_SECONDS, Stream
from kluis.tee.image.archive import Head
from kluis.tee.inside import images
from kluis.tee.inside.keys import MachineKeys
from kluis.tee.platform.client import Launched, Platform
from kluis.tee.process.sandbox import MOST_GRANTED
from kluis.tee.remote import messages
from kluis.tee.remote.forwarding import carry
from kluis.tee.remote.messages import Message

MOST_STREAMS: Final = 128
BACKLOG: Final = 64


MOST_NONCE: Final = 64


class Launching:
    """A launch whose host has yet to bring both ends.

    Attributes:
        ends: streams by name, calls and control.
        joined: names of those whose host has the answer, after which nothing of ours is sent there.
        complete: set once both have joined.
        over: set once it has failed, or its enclave has ended.
        granted: the enclave's sockets, by grant.
        keys: the agent's end of the socket for the machine's keys; None if the image has no such grant.
    """

    def __init__(self) -> None:
        self.ends: dict[str, Stream] = {}
        self.joined: set[str] = set()
        self.complete = threading.Event()
        self.over = threading.Event()
        self.granted: dict[str, socket.socket] = {}
        self.keys: socket.socket | None = None
        self._far: dict[str, socket.socket] = {}
        self._addresses: dict[str, str | bytes] = {}

    def grant(self, names: Sequence[str]) -> None:
        """Make the sockets of these grants, which the host's are forwarded to.

        Raises:
            UsageError: a name is neither ``listen:NAME`` nor ``connect:NAME``, or there are too many.
        """
        if len(names) > MOST_GRANTED:
            raise UsageError(f"launch: sockets: want at most {MOST_GRANTED}, got {len(names)}")
        for name in names:
            if name == GRANT:
                raise UsageError(f"launch: socket {GRANT}: want none from the host: the machine has it")
            if name.startswith("connect:"):
                self.granted[name], self._far[name] = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            elif name.startswith("listen:"):
                self.granted[name] = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                listener.bind("")  # the kernel chooses a name, which no enclave's network namespace has
                listener.listen(BACKLOG)
                self._addresses[name] = listener.getsockname()
            else:
                raise UsageError(f"launch: socket {name[:80]!r}: want listen:NAME or connect:NAME")

    def grant_keys(self) -> None:
        """Make the socket over which the enclave requests the machine's keys."""
        self.granted[GRANT], self.keys = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def connect(self, name: str) -> socket.socket | None:
        """A socket connected to the enclave's of this grant; None if there is none, or it was taken."""
        if name in self._addresses:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(self._addresses[name])
            except OSError:  # the enclave has closed it
                sock.close()
                return None
            return sock
        return self._far.pop(name, None)

    def close(self) -> None:
        """Close the sockets that nobody has taken."""
        for each in (*self.granted.values(), *self._far.values(), *([self.keys] if self.keys else [])):
            each.close()


class Agent:
    """Serves hosts over streams.

    Args:
        platform: of this machine.
        only: the image id that may be launched, 32 bytes; None: any.
        keys: of the machine's vTPM; None: those of this machine.
        patience_seconds: how long a host may take for each of its steps.
    """

    def __init__(
        self,
        platform: Platform,
        *,
        only: bytes | None = None,
        keys: MachineKeys | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._platform = platform
        self._only = only
        self._keys = keys or MachineKeys()
        self._patience = patience_seconds
        self._launches: dict[str, Launching] = {}
        self._lock = threading.Lock()
        self._streams = threading.Semaphore(MOST_STREAMS)

    def serve(self, end: Stream) -> None:
        """Serve one stream until it, or the enclave that it was given to, ends; then close it."""
        if not self._streams.acquire(blocking=False):
            end.close()
            return
        end.patience_seconds = self._patience
        end.most_bytes = images.MAX_HEAD_BYTES
        try:
            with contextlib.suppress(KluisError):
                while (request := messages.receive(end)) is not None:
                    if not self._one(end, *request):
                        return
        finally:
            end.close()
            self._streams.release()

    def _one(self, end: Stream, request: Message, files: tuple[int, ...]) -> bool:
        """Answer one request; False if the stream has no more of them."""
        goes_on = request.get("op") != "launch"
        try:
            match request.get("op"):
                case "launch":
                    self._launch(end, request, files)
                    return False
                case "join":
                    self._join(end, request)
                    return False
                case "forward":
                    self._forward(end, request)
                    return False
                case _:
                    answer = self._answer(request)
        except KluisError as error:
            answer = messages.report(error)
        finally:
            for descriptor in files:
                os.close(descriptor)
        messages.send(end, answer)
        return goes_on

    def _answer(self, request: Message) -> Message:
        match request.get("op"):
            case "hello":
                only = self._only.hex() if self._only else None
                # The nonce tells a host that this answers its own request, not that of the host before.
                nonce = messages.text(request, "nonce")[:MOST_NONCE] if "nonce" in request else ""
                return {"protocol": messages.PROTOCOL, "only": only, "nonce": nonce}
            case "root":
                return {"root": self._platform.root_pem().decode()}
            case "collateral":
                return {"collateral": self._platform.collateral().decode()}
            case "status":
                return dict(self._platform.status())
            case other:
                names = "hello, status, root, collateral, launch, join or forward"
                raise UsageError(f"request: want {names}, got {str(other)[:30]!r}")

    def _join(self, end: Stream, request: Message) -> None:
        """Give this stream to a launch, and wait until that is over."""
        name, which = messages.text(request, "launch"), messages.text(request, "as")
        with self._lock:
            launching = self._launches.get(name)
            if launching is None:
                raise UsageError("join: no such launch is waiting for streams", code="no_launch")
            if which not in messages.ENDS or which in launching.ends:
                raise UsageError(
                    f"join: want one of {', '.join(messages.ENDS)}, each once, got {which[:30]!r}"
                )
            launching.ends[which] = end
        messages.send(end, {"joined": which})
        with self._lock:
            launching.joined.add(which)
            if len(launching.joined) == len(messages.ENDS):
                launching.complete.set()
        launching.over.wait()

    def _forward(self, end: Stream, request: Message) -> None:
        """Carry the bytes of one connection between this stream and an enclave's socket."""
        name, grant = messages.text(request, "launch"), messages.text(request, "socket")
        with self._lock:
            launching = self._launches.get(name)
        sock = launching.connect(grant) if launching is not None else None
        if sock is None:
            raise UsageError(f"forward: no launch waits for socket {grant[:80]!r}", code="no_launch")
        try:
            messages.send(end, {"forwarded": grant})
        except BaseException:
            sock.close()
            raise
        carry(sock, Stream(os.dup(end.fileno())))

    def _launch(self, end: Stream, request: Message, files: tuple[int, ...]) -> None:
        name, launching = messages.text(request, "launch"), Launching()
        if not 16 <= len(name) <= 64:
            raise UsageError(f"launch: want a name of 16 to 64 characters, got {len(name)}")
        with self._lock:
            if name in self._launches:
                raise UsageError("launch: want a name that no other launch has")
            self._launches[name] = launching
        try:
            launched = self._start(end, request, files, launching)
            try:
                self._accompany(end, launched)
            finally:
                launched.kill()
                launched.wait()
        finally:
            with self._lock:
                del self._launches[name]
            launching.close()
            launching.over.set()

    def _start(self, end: Stream, request: Message, files: tuple[int, ...], launching: Launching) -> Launched:
        if len(files) != 1:
            raise UsageError(f"launch: want one file, the image's head, got {len(files)}")
        launching.grant(messages.texts(request, "sockets"))
        data, head = images.read_head(files[0])
        self._check_only(images.image_id(head))
        if GRANT in head.manifest.grants:
            launching.grant_keys()
        allowed = frozenset(messages.texts(request, "allow_missing"))
        known, laid = self._platform.layers()
        if request.get("fresh") is True:
            known, laid = frozenset(), None
        image = self._collect(end, data, head, known, laid)
        try:
            if not launching.complete.wait(self._patience):
                raise UnavailableError(
                    f"launch: its streams did not join in {self._patience:g} s", code="no_streams"
                )
            return self._start_image(image, allowed, launching)
        finally:
            os.close(image)

    def _collect(self, end: Stream, data: bytes, head: Head, known: frozenset[str], laid: str | None) -> int:
        """Receive the layers that are missing here; return a descriptor of the image's file."""
        own = {digest: path for digest, path in images.own_layers().items() if digest not in known}
        layers = head.manifest.layers
        wanted = dict.fromkeys(each.digest for each in layers if each.digest not in known | own.keys())
        messages.send(end, {"want": list(wanted)})
        end.most_bytes = messages.MAX_BYTES
        received = {digest: functools.partial(_receive_layer, end, digest) for digest in wanted}
        return images.assemble(data, head, received, own, laid)

    def _start_image(self, image: int, allowed: frozenset[str], launching: Launching) -> Launched:
        streams = [launching.ends[each].fileno() for each in messages.ENDS]
        launched = self._platform.launch(
            f"/proc/self/fd/{image}", allow_missing=allowed, sockets=launching.granted, streams=streams
        )
        for stream in launching.ends.values():
            stream.close()  # the enclave has its own descriptor, and with its end the stream ends
        for granted in launching.granted.values():
            granted.close()
        if launching.keys is not None:
            self._serve_keys(launching.keys, launched)
            launching.keys = None
        return launched

    def _serve_keys(self, end: socket.socket, launched: Launched) -> None:
        """Give an enclave keys of the vTPM, unless its host may look inside, or a protection is missing."""
        missing = LaunchConfiguration.parse(launched.launch_configuration).missing
        lack = "debug" if launched.debug else ", ".join(missing)
        arguments = (end, launched.image_id, lack)
        threading.Thread(target=self._keys.serve, args=arguments, name="keys", daemon=True).start()

    def _accompany(self, end: Stream, launched: Launched) -> None:
        """Report a running enclave and its end; return when its host has closed the stream."""
        messages.send(
            end,
            {
                "pid": launched.pid,
                "image_id": launched.image_id.hex(),
                "level": launched.level,
                "launch_configuration": base64.b64encode(launched.launch_configuration).decode(),
                "debug": launched.debug,
            },
        )
        threading.Thread(target=_report_end, args=(end, launched), name="end", daemon=True).start()
        while (request := messages.receive(end)) is not None:
            for descriptor in request[1]:
                os.close(descriptor)
            if request[0].get("op") == "kill":
                launched.kill()

    def _check_only(self, image_id: bytes) -> None:
        if self._only is not None and image_id != self._only:
            raise PolicyError(
                f"launch: image id: want {self._only.hex()}, this machine's only one, got {image_id.hex()}",
                code="only_image",
                hint="start another machine for this image",
            )


def _receive_layer(end: Stream, digest: str, place: Place) -> None:
    received = messages.receive(end, announced=True, place=place)
    if received is None:
        raise UnavailableError("launch: the host closed its stream", code="host_gone")
    message, files = received
    for descriptor in files:
        os.close(descriptor)
    if files or (got := messages.text(message, "layer")) != digest:
        more = f"{1 + len(files)} files" if files else repr(got[:80])
        raise UsageError(f"launch: want layer {digest} with one file, got {more}")


def _report_end(end: Stream, launched: Launched) -> None:
    status, words = launched.wait() or (-9, "")
    with contextlib.suppress(KluisError):
        messages.send(end, {"event": "exited", "status": status, "words": words})
