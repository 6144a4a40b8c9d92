"""A launch: from an open image file to a running enclave with a session.

1. The image is read and its signature checked; the operator's launch policy is asked.
2. Every layer is held: copied into sealed memory, measured there.
3. What this machine lacks is refused, or written into the launch configuration where granted.
4. The spawner starts it; the first hello on the channel must come from that very process.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import socket
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Any

from kluis.errors import KluisError, UnavailableError, UsageError
from kluis.formats import jcs
from kluis.formats.launch import UNWITNESSED, LaunchConfiguration
from kluis.tee import image as images
from kluis.tee import sigstruct
from kluis.tee.image.layers import Layer
from kluis.tee.image.manifest import LAUNCHER
from kluis.tee.platform import holding, scratch, session, shares, sockets
from kluis.tee.platform.identity import Identity
from kluis.tee.platform.keys import CPUSVN
from kluis.tee.platform.orders import ChangedLayerError, Orders
from kluis.tee.platform.policy import LaunchPolicy
from kluis.tee.process import linux, native, sandbox

HANDSHAKE_SECONDS = 60.0
DYING_SECONDS, BROKEN_SECONDS = 5.0, 0.05
"""How long an enclave whose session ended, or broke, may take to leave its own exit status."""
TIDY_SECONDS = 30.0


@dataclasses.dataclass(slots=True)
class Running:
    """An enclave that runs.

    Attributes:
        calls, control: the host's ends, to be handed over.
        enclave, guardian: pids on this machine.
        gone: set once it has ended.
    """

    name: str
    who: Identity
    debug: bool
    calls: socket.socket
    control: socket.socket
    enclave: int
    guardian: int
    uid: int
    gone: threading.Event


class Launcher:
    """Launches enclaves on this platform.

    Args:
        root: what the platform holds.
        lacks: what this machine lacks whatever the heap, by name.
        lockable: bytes of secret memory one enclave may have; None: any.
    """

    def __init__(
        self,
        root: session.Root,
        orders: Orders,
        policy: LaunchPolicy,
        lacks: frozenset[str],
        lockable: int | None,
    ) -> None:
        self._root = root
        self._orders = orders
        self._policy = policy
        self._lacks = lacks
        self._lockable = lockable
        self._holding = holding.Holding(self._unpack, self._drop)
        self._places = shares.Taken("max_enclaves")
        self.running: dict[str, Running] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._tidy, name="tidy", daemon=True).start()

    def _tidy(self) -> None:
        never = threading.Event()
        while not never.wait(TIDY_SECONDS):
            self._holding.tidy()

    def _drop(self, digest: bytes) -> None:
        self._orders.send({"op": "drop", "digest": digest.hex()})

    def _unpack(self, layer: Layer, blob: int, index_size: int) -> None:
        order = {
            "op": "hold",
            "digest": layer.digest.hex(),
            "index_at": layer.data_size,
            "index_size": index_size,
        }
        self._orders.send(order, [blob])

    def launch(
        self,
        image: int,
        *,
        user: int,
        allow_missing: frozenset[str],
        granted: Sequence[tuple[str, int]],
        ended: Callable[[int, str], None],
    ) -> Running:
        """Start the image in the open file ``image``.

        Args:
            image: a descriptor; read here, and not kept.
            user: who asks, as the kernel says.
            allow_missing: names of protections that may be missing.
            granted: grants such as ``listen:web``, each with the socket that the host hands over.
            ended: called with exit status and the launcher's last words.

        Raises:
            FormatError, AuthenticityError: it is no image, or not what was signed.
            PolicyError: the operator does not let it run.
            UnavailableError: this machine lacks something that was not granted to lack.
        """
        if not stat.S_ISREG(os.fstat(image).st_mode):
            raise UsageError("image: want a regular file", hint="kluis build DIR -o FILE makes one")
        with open(os.dup(image), "rb") as file:
            read = images.read_image(file, self._holding.files())
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
        missing = self._missing(manifest.heap_bytes, allow_missing)
        configuration = LaunchConfiguration(
            heap_bytes=manifest.heap_bytes,
            threads=manifest.threads,
            grants=tuple(manifest.grants),
            missing=tuple(sorted(missing)),
            level=self._root.level,
            counter=UNWITNESSED,
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
        self._places.take(user, 1, self._policy.max_enclaves)
        held: dict[str, bytes] = {}
        place = threading.Semaphore(1)

        def left() -> None:
            if place.acquire(blocking=False):
                self._places.give_back(user, 1)
                self._holding.release([layer.digest for layer in read.layers if layer.mount in held], user)

        def gone(status: int, words: str) -> None:
            left()
            ended(status, words)

        try:
            for layer in read.layers:
                held[layer.mount] = self._holding.hold(image, layer, user)
            return self._start(read, held, who, signed.debug, granted, gone)
        except BaseException as error:
            left()
            if isinstance(error, ChangedLayerError):
                self._holding.forget(error.layer)
            raise

    def _missing(self, heap_bytes: int, allowed: frozenset[str]) -> frozenset[str]:
        lacks = set(self._lacks)
        if self._lockable is not None and self._lockable < heap_bytes:
            lacks.add("secret-memory")
        refused = sorted(lacks - allowed)
        if refused:
            names = ",".join(refused)
            raise UnavailableError(
                f"launch: {', '.join(refused)}: this machine does not give it",
                code="missing_protection",
                hint=f"{refused[0]} {linux.FIXES[refused[0]]};"
                f" or accept the lack: --insecure-allow-missing={names},"
                f" in Python insecure_allow_missing=frozenset({refused})",
            )
        return frozenset(lacks)

    def _start(
        self,
        read: images.Image,
        indexes: dict[str, bytes],
        who: Identity,
        debug: bool,
        granted: Sequence[tuple[str, int]],
        ended: Callable[[int, str], None],
    ) -> Running:
        manifest, name = read.manifest, secrets.token_hex(8)
        stdlib = f"{native.INSIDE}/python{'.'.join(manifest.python.split('.')[:2])}"
        mounts = [[layer.digest.hex(), layer.mount] for layer in read.layers]
        region = 2 * manifest.heap_bytes + sandbox.RESERVE
        if self._lockable is not None and "secret-memory" not in who.configuration.missing:
            region = min(region, self._lockable)
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
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
        document = self._document(read, who, debug, [name for name, _ in granted])
        index = _index_file(indexes)
        backing = [scratch.backing(name, manifest.scratch_bytes)] if manifest.scratch_bytes else []
        inside = [pair[1] for pair in pairs]
        gone = threading.Event()

        def told(status: int, words: str) -> None:
            with self._lock:
                gone.set()
                self.running.pop(name, None)
            ended(status, words)

        try:
            self._orders.on_end(name, told)
            given = [*(end.fileno() for end in inside), document, index, *backing, *(fd for _, fd in granted)]
            answer = self._orders.send(order, given)
        except KluisError:
            self._orders.forget_end(name)
            for pair in pairs:
                pair[0].close()
            raise
        finally:
            for descriptor in (document, index, *backing):
                os.close(descriptor)
            for end in inside:
                end.close()
        running = Running(
            name,
            who,
            debug,
            pairs[0][0],
            pairs[1][0],
            int(answer["enclave"]),
            int(answer["guardian"]),
            int(answer["uid"]),
            gone,
        )
        with self._lock:
            # Its end may have been told before this thread ran again: it would count as running for ever.
            if not gone.is_set():
                self.running[name] = running
        try:
            threading.Thread(
                target=self._serve, args=(running, pairs[2][0]), name=f"session-{name}", daemon=True
            ).start()
        except RuntimeError:  # no memory is left for its stack
            self.kill(name)  # its place is given back by the caller: it must not run on
            raise UnavailableError("launch: the platform has no memory left", code="launch_failed") from None
        return running

    def _document(self, read: images.Image, who: Identity, debug: bool, granted: list[str]) -> int:
        """The launch document, public, in a sealed memory file."""
        text = jcs.dumps(
            {
                "manifest": jcs.loads(read.manifest_bytes, "manifest"),
                "image_id": who.mrenclave.hex(),
                "launch_configuration": jcs.loads(who.configuration.encode(), "launch configuration"),
                "level": "none" if debug else who.configuration.level,
                "debug": debug,
                "sockets": {name: sandbox.FIRST_GRANTED_FD + at for at, name in enumerate(granted)},
            }
        )
        return _sealed("launch", text)

    def _serve(self, running: Running, end: socket.socket) -> None:
        patience = DYING_SECONDS
        try:
            end.settimeout(HANDSHAKE_SECONDS)
            sealed = session.accept(end, lambda: running.enclave)
            end.settimeout(None)
            session.serve(end, sealed, running.who, self._root)
        except (KluisError, OSError):
            patience = BROKEN_SECONDS
        finally:
            end.close()
            if not running.gone.wait(patience):
                self.kill(running.name)

    def kill(self, name: str) -> None:
        """End an enclave; one that is gone is no error."""
        try:
            self._orders.send({"op": "kill", "id": name})
        except UnavailableError:
            return


def _index_file(indexes: dict[str, bytes]) -> int:
    """The layers' indexes by mount point, as :func:`kluis.measured.arm` reads them."""
    head = " ".join(f"{mount} {len(index)}" for mount, index in indexes.items())
    return _sealed("indexes", b"\n".join((head.encode(), b"".join(indexes.values()))))


def _sealed(name: str, data: bytes) -> int:
    """A sealed memory file, read from its start."""
    made = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(os.dup(made), "wb") as file:
        file.write(data)
    holding.seal(made)
    os.lseek(made, 0, os.SEEK_SET)
    return made


def _environment(manifest: images.Manifest) -> dict[str, str]:
    return sandbox.environment(manifest.threads, manifest.heap_bytes, manifest.scratch_bytes)


def check_launcher(read: images.Image) -> None:
    """The image's launcher must be this platform's own: the platform vouches for the doors it shuts.

    Raises:
        UnavailableError: it is another; names the runtimes of both.
    """
    runtime, stated = native.runtime(), read.manifest
    layer = read.layer("python")
    found = next((e.sha256 for e in layer.files if e.path == LAUNCHER), "") if layer else ""
    if found == runtime.launcher:
        return
    raise UnavailableError(
        f"image {stated.name}: launcher: want {runtime.launcher[:16]},"
        f" of this platform's kluis-runtime {runtime.kluis} for Python {runtime.python},"
        f" got {found[:16] or 'none'}, of kluis-runtime {stated.kluis} for Python {stated.python}",
        code="launcher_unknown",
        hint=_other_runtime(runtime.python, stated.python),
    )


def _other_runtime(own: str, other: str) -> str:
    """What fixes an image of another runtime: a build or a platform, by the Python that it takes."""
    mine, its = (".".join(each.split(".")[:2]) for each in (own, other))
    build = f"build it again: kluis build DIR -o FILE, with a kluis of Python {mine} as this platform is"
    if mine == its:
        return build
    return (
        f"{build}; or run it as it is on a platform of its own:"
        f" KLUIS_HOME=DIR kluis run FILE, with a kluis of Python {its}"
    )
