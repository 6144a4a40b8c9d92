"""A launch: from an open image file to a running enclave with a session.

1. The image is read and its signature checked, and the operator's launch policy is applied.
2. Every layer is cached: copied into sealed memory, measured there.
3. Missing protections of this machine are refused, or written into the launch configuration if allowed.
4. The spawner starts it; the first hello on the channel must come from that exact process, which must be
   executing the launcher by then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import socket
import stat
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from kluis.errors import KluisError, UnavailableError, UsageError
from kluis.formats.encoding import jcs
from kluis.formats.kluis import channel
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.tee import image as images
from kluis.tee import sigstruct
from kluis.tee.image.layers import Layer
from kluis.tee.platform import shares
from kluis.tee.platform.launchers import check_launcher
from kluis.tee.platform.launching import charges, holding, scratch
from kluis.tee.platform.launching.orders import ChangedLayerError, Orders
from kluis.tee.platform.launching.policy import LaunchPolicy
from kluis.tee.platform.root import session
from kluis.tee.platform.root.identity import Identity
from kluis.tee.platform.root.keys import CPUSVN
from kluis.tee.process import linux, native, sandbox, sockets

HANDSHAKE_SECONDS = 60.0
DYING_SECONDS, BROKEN_SECONDS = 5.0, 0.05
"""How long an enclave whose session ended, or broke, may take to leave its own exit status."""
TIDY_SECONDS = 30.0


@dataclasses.dataclass(slots=True)
class Running:
    """A running enclave.

    Attributes:
        ends: the host's ends of calls and control, to be passed to it; none if it gave streams for them.
        enclave, guardian: pids on this machine.
        gone: set once it has ended.
        user: that launched it.
        image: the name in its image's manifest.
        since: when it was started, aware.
    """

    name: str
    who: Identity
    debug: bool
    ends: tuple[socket.socket, ...]
    enclave: int
    guardian: int
    uid: int
    gone: threading.Event
    user: int
    image: str
    since: datetime


class Launcher:
    """Launches enclaves on this platform.

    Args:
        root: the platform's keys and state.
        ``lacks``: protections that this machine does not have, whatever the heap, by name.
        lockable: bytes of secret memory for one enclave; None: any.
        slowness: how many times longer than elsewhere an enclave may take to start and to end.
        laid: the digest of the layer on which the platform itself runs.

    Attributes:
        turns: of users, for :meth:`launch`. The platform's memory for an image that is launched is not
            charged to anyone, and the spawner carries out one order at a time.
    """

    def __init__(
        self,
        root: session.Root,
        orders: Orders,
        policy: LaunchPolicy,
        lacks: frozenset[str],
        lockable: int | None,
        slowness: float = 1.0,
        laid: bytes | None = None,
    ) -> None:
        self._root = root
        self._slowness = slowness
        self._orders = orders
        self._policy = policy
        self._lacks = lacks
        self.lockable = lockable
        self.holding = holding.Holding(self._unpack, self._drop, laid=laid)
        self._charges = charges.Charges(policy, self._is_free)
        self.running: dict[str, Running] = {}
        self._lock = threading.Lock()
        self.turns = shares.Turns()
        threading.Thread(target=self._tidy, name="tidy", daemon=True).start()

    def _tidy(self) -> None:
        never = threading.Event()
        while not never.wait(TIDY_SECONDS):
            self.holding.tidy()
            self._charges.tidy()

    def _is_free(self, name: str) -> bool:
        with contextlib.suppress(UnavailableError):  # the spawner ended
            return self._orders.send({"op": "free", "id": name})["free"] is True
        return False

    def _drop(self, digest: bytes) -> None:
        self._orders.send({"op": "drop", "digest": digest.hex()})

    def _unpack(self, layer: Layer, part: holding.Part) -> None:
        order = {
            "op": "hold",
            "digest": layer.digest.hex(),
            "data_at": part.data_at,
            "index_at": part.index_at,
            "index_size": part.index_size,
        }
        self._orders.send(order, [part.file])

    def launch(
        self,
        image: int,
        *,
        user: int,
        allow_missing: frozenset[str],
        granted: Sequence[tuple[str, int]],
        ended: Callable[[int, str], None],
        streams: Sequence[int] = (),
    ) -> Running:
        """Start the image in the open file ``image``.

        Args:
            image: a descriptor; read here, and not kept.
            user: the requester's user id, from the kernel.
            allow_missing: names of protections that may be missing.
            granted: grants such as ``listen:web``, each with a socket from the host.
            ended: called with exit status and the launcher's last output.
            streams: the enclave's ends of two streams for calls and control; empty: sockets are made.

        Raises:
            FormatError, AuthenticityError: not an image, or not the signed one.
            PolicyError: the operator's policy refuses it.
            UnavailableError: a protection is missing that may not be missing.
        """
        if not stat.S_ISREG(os.fstat(image).st_mode):
            raise UsageError("image: want a regular file", hint="kluis build DIR -o FILE --key KEY makes one")
        with open(os.dup(image), "rb") as file:
            read = images.read_image(file, self.holding.files(user), holding.MOST_INDEX_BYTES)
            read = dataclasses.replace(read, interface=b"")
            images.launchable(read)
        signed = sigstruct.parse(read.sigstruct)
        manifest = read.manifest
        self._policy.check(
            signer=signed.mrsigner,
            debug=signed.debug,
            heap_bytes=manifest.heap_bytes,
            scratch_bytes=manifest.scratch_bytes,
            user=user,
        )
        check_launcher(read)
        sockets.check(granted, frozenset(manifest.grants))
        sockets.check_streams(streams)
        missing = self._missing(manifest.heap_bytes, allow_missing)
        configuration = LaunchConfiguration(
            heap_bytes=manifest.heap_bytes,
            threads=manifest.threads,
            grants=tuple(manifest.grants),
            missing=tuple(sorted(missing)),
            level=self._root.level,
            counter=self._root.counters.witness,
            platform=self._root.version,
            scratch_bytes=manifest.scratch_bytes,
        )
        who = Identity(
            mrenclave=read.image_id,
            mrsigner=signed.mrsigner,
            product_id=signed.isvprodid,
            svn=signed.isvsvn,
            flags=signed.flags,
            cpusvn=CPUSVN,
            configuration=configuration,
        )
        name, sizes = secrets.token_hex(8), (manifest.heap_bytes, manifest.scratch_bytes)
        self._charges.take(user, *sizes)
        layers: dict[str, bytes] = {}
        held: list[bytes] = []  # all that is kept of the image for its release
        place = threading.Semaphore(1)

        def release() -> None:
            if place.acquire(blocking=False):
                self.holding.release(held, user)
                self._charges.give_back(name, user, *sizes)

        def report_end(status: int, words: str) -> None:
            release()
            ended(status, words)

        try:
            for layer in read.layers:
                layers[layer.mount] = self.holding.hold(image, layer, user)
                held.append(layer.digest)
            return self._start(name, read, layers, who, signed.debug, granted, report_end, user, streams)
        except BaseException as error:
            release()
            if isinstance(error, ChangedLayerError):
                self.holding.forget(error.layer)
            raise

    def _missing(self, heap_bytes: int, allowed: frozenset[str]) -> frozenset[str]:
        lacks = self._lacks
        if self.lockable is not None and self.lockable < heap_bytes:
            lacks |= {"secret-memory"}
        linux.check_missing(lacks, allowed)
        return lacks

    def _start(
        self,
        name: str,
        read: images.Image,
        indexes: dict[str, bytes],
        who: Identity,
        debug: bool,
        granted: Sequence[tuple[str, int]],
        ended: Callable[[int, str], None],
        user: int,
        streams: Sequence[int],
    ) -> Running:
        manifest = read.manifest
        stdlib = f"{native.INSIDE}/python{'.'.join(manifest.python.split('.')[:2])}"
        mounts = [[layer.digest.hex(), layer.mount] for layer in read.layers]
        region = 2 * manifest.heap_bytes + sandbox.RESERVE
        if self.lockable is not None and "secret-memory" not in who.configuration.missing:
            region = min(region, self.lockable)
        without = list(who.configuration.missing) + (["secret-memory", "guardian"] if debug else [])
        order: dict[str, Any] = {
            "op": "launch",
            "id": name,
            "layers": mounts,
            "paths": [stdlib, f"{stdlib}/lib-dynload", *(m for _, m in mounts if m != native.PYTHON)],
            "heap": manifest.heap_bytes,
            "region": region,
            "threads": manifest.threads,
            "without": ",".join(without),
            "options": "".join(
                letter
                for letter, holds in (
                    ("j", "insecure_jit" in manifest.grants),
                    ("d", debug),
                    ("s", manifest.scratch_bytes),
                )
                if holds
            ),
            "environment": sorted((_environment(manifest) | manifest.env).items()),
        }
        channel_answer = channel.Answer()
        gone = threading.Event()

        def report_end(status: int, words: str) -> None:
            with self._lock:
                gone.set()
                self.running.pop(name, None)
            with contextlib.suppress(OSError):  # others may have its end of the session, too
                pairs[-1][0].shutdown(socket.SHUT_RDWR)
            ended(status, words)

        with contextlib.ExitStack() as failing, contextlib.ExitStack() as descriptors:
            count = 1 if streams else 3
            pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
            for ours, inside in pairs:
                failing.enter_context(ours)
                descriptors.enter_context(inside)
            files = [
                self._document(read, who, debug, [each for each, _ in granted], channel_answer.public_key)
            ]
            descriptors.callback(os.close, files[-1])
            files.append(_index_file(indexes))
            descriptors.callback(os.close, files[-1])
            if manifest.scratch_bytes:
                files.append(scratch.backing(name, manifest.scratch_bytes))
                descriptors.callback(os.close, files[-1])
            self._orders.on_end(name, report_end)
            failing.callback(self._orders.forget_end, name)
            ends = [*streams, *(inside.fileno() for _, inside in pairs)]
            answer = self._orders.send(order, [*ends, *files, *(fd for _, fd in granted)])
            failing.pop_all()
        running = Running(
            name,
            who,
            debug,
            tuple(ours for ours, _ in pairs[:-1]),
            int(answer["enclave"]),
            int(answer["guardian"]),
            int(answer["uid"]),
            gone,
            user,
            manifest.name,
            datetime.now(UTC),
        )
        with self._lock:
            # Its end may have been reported already: it would count as running indefinitely.
            if not gone.is_set():
                self.running[name] = running
        try:
            threading.Thread(
                target=self._serve,
                args=(running, pairs[-1][0], channel_answer),
                name=f"session-{name}",
                daemon=True,
            ).start()
        except RuntimeError:  # no memory is left for its stack
            self.kill(name)  # its place is given back by the caller: it must not run on
            raise UnavailableError("launch: the platform has no memory left", code="launch_failed") from None
        return running

    def _document(
        self, read: images.Image, who: Identity, debug: bool, granted: list[str], platform: bytes
    ) -> int:
        """The launch document, public, in a sealed memory file."""
        text = jcs.dumps(
            {
                "manifest": jcs.loads(read.manifest_bytes, "manifest"),
                "image_id": who.mrenclave.hex(),
                "launch_configuration": jcs.loads(who.configuration.encode(), "launch configuration"),
                "level": "none" if debug else who.configuration.level,
                "debug": debug,
                "platform": platform.hex(),
                "sockets": {name: sandbox.FIRST_GRANTED_FD + at for at, name in enumerate(granted)},
            }
        )
        return _seal_data("launch", text)

    def _serve(self, running: Running, end: socket.socket, answer: channel.Answer) -> None:
        patience = DYING_SECONDS
        try:
            end.settimeout(HANDSHAKE_SECONDS * self._slowness)
            sealed = session.accept(end, answer, lambda: self._executing(running))
            end.settimeout(None)
            session.serve(end, sealed, running.who, self._root, running.user)
        except (KluisError, OSError) as error:
            # An enclave that closed its session is ending, and its exit status has the reason; on a loaded
            # machine that takes a while.
            if not (isinstance(error, KluisError) and error.code == "enclave_died"):
                patience = BROKEN_SECONDS
        finally:
            end.close()
            if not running.gone.wait(patience * self._slowness):
                self.kill(running.name)

    def _executing(self, running: Running) -> int:
        """The enclave's pid, once the spawner has confirmed that it executes the launcher; otherwise it is
        ended.
        """
        self._orders.send({"op": "check", "id": running.name})
        return running.enclave

    def kill(self, name: str) -> None:
        """End an enclave; no error if it has already ended."""
        try:
            self._orders.send({"op": "kill", "id": name})
        except UnavailableError:
            return


def _index_file(indexes: dict[str, bytes]) -> int:
    """The layers' indexes by mount point, in the form for :func:`kluis.measured.arm`."""
    head = " ".join(f"{mount} {len(index)}" for mount, index in indexes.items())
    return _seal_data("indexes", b"\n".join((head.encode(), b"".join(indexes.values()))))


def _seal_data(name: str, data: bytes) -> int:
    """A sealed memory file, positioned at its start."""
    made = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(os.dup(made), "wb") as file:
        file.write(data)
    holding.seal(made)
    os.lseek(made, 0, os.SEEK_SET)
    return made


def _environment(manifest: images.Manifest) -> dict[str, str]:
    return sandbox.environment(manifest.threads, manifest.heap_bytes, manifest.scratch_bytes)
