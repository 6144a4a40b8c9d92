"""A rehearsal: an application run by the real runtime in a plain process, for tests that start at once.

There is no image and no isolation: its identity has the debug attribute, so its evidence has level ``none``.
Calls, ocalls, limits, sealing, reports and quotes are the real ones. The platform is separate, with its keys
in a folder of the test.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from kluis.errors import KluisError
from kluis.formats.encoding import jcs
from kluis.formats.kluis import channel
from kluis.formats.kluis.launch import UNWITNESSED, LaunchConfiguration
from kluis.formats.sgx.report import Flag
from kluis.hashes import sha256
from kluis.host.interface import Interface, parse
from kluis.host.ocalls import functions_of
from kluis.host.proxy import EnclaveProxy
from kluis.host.starting import await_ready
from kluis.streams import Stream
from kluis.tee.platform.root import session
from kluis.tee.platform.root.authority import Authority
from kluis.tee.platform.root.counters import Counters
from kluis.tee.platform.root.identity import Identity
from kluis.tee.platform.root.keys import CPUSVN, Secret
from kluis.tee.platform.root.quoting import PlatformKeys

START_SECONDS = 120.0
FIRST = 7  # descriptor of the first socket: 3 to 6 are the runtime's own


class Process:
    """A plain process in place of an enclave.

    Attributes:
        calls, control: the host's ends.
    """

    debug = False
    level = "none"
    slowness = 1.0

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        calls: socket.socket | Stream,
        control: socket.socket | Stream,
        who: Identity,
    ) -> None:
        self._child = child
        self.calls = calls
        self.control = control
        self.pid = child.pid
        self.image_id = who.mrenclave
        self.launch_configuration = who.configuration.encode()

    def kill(self) -> None:
        """End it now."""
        for end in (self.calls, self.control):
            end.close()
        self._child.kill()

    def wait(self, timeout: float | None = None) -> tuple[int, str] | None:
        """Wait for its end; return exit status without output, or None after ``timeout`` seconds."""
        try:
            return self._child.wait(timeout), ""
        except subprocess.TimeoutExpired:
            return None


class RehearsalPlatform:
    """A platform in this process, with keys and counters under ``state``.

    Args:
        state: a folder of the test.
        now: when its certificates are made.
        authority: that certifies it; None: a separate one.
        streams: whether hosts speak over streams, as into a machine.
    """

    def __init__(
        self, state: Path, now: datetime, authority: Authority | None = None, *, streams: bool = False
    ) -> None:
        self.streams = streams
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.authority = authority or Authority.create("process-user", now, cpusvn=CPUSVN)
        self.root = session.Root(
            "process-user",
            Secret.load_or_create(state / "platform.secret"),
            self.authority,
            PlatformKeys.create(self.authority, now, cpusvn=CPUSVN),
            Counters(state / "counters"),
            bytes(32),
        )

    def launch(
        self,
        app: Path,
        *,
        ocalls: object = None,
        debug: bool = False,
        threads: int = 8,
        signer: bytes = bytes(32),
        timeout_seconds: float | None = None,
        sockets: Mapping[str, socket.socket] | None = None,
        argv: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> EnclaveProxy:
        """Run the ``app.py`` at ``app``, and wait until it is ready.

        Args:
            app: the file; its folder is on the path inside.
            ocalls: as for ``kluis.host.load``.
            debug: whether messages and tracebacks leave.
            threads: as in a manifest.
            signer: MRSIGNER, 32 bytes.
            timeout_seconds: of each call.
            sockets: by grant, such as ``listen:web``; providing one also grants it.
            argv: the measured arguments.
            env: variables in addition to those of this process.

        Raises:
            EnclaveError: it did not start.
        """
        interface = interface_of(app)
        process = self.start(
            app, interface, debug=debug, threads=threads, signer=signer, sockets=sockets, argv=argv, env=env
        )
        try:
            await_ready(process, interface[1], START_SECONDS)
            return EnclaveProxy(process, interface[0], functions_of(ocalls), timeout_seconds)
        except BaseException:
            process.kill()
            process.wait(5)
            raise

    def start(
        self,
        app: Path,
        interface: tuple[Interface, bytes],
        *,
        debug: bool = False,
        threads: int = 8,
        signer: bytes = bytes(32),
        sockets: Mapping[str, socket.socket] | None = None,
        argv: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start the process without waiting for it, so that its sockets can be abused."""
        manifest: dict[str, Any] = {
            "entry": f"{app.stem}:app",
            "argv": list(argv),
            "interface": interface[1].hex(),
            "threads": threads,
            "svn": interface[0].document["svn"],
            "product_id": interface[0].document["product_id"],
            "grants": sorted(granted := dict(sockets or {})),
            "source": sha256(app.read_bytes()).hex(),
        }
        who = Identity(
            mrenclave=sha256(jcs.dumps(manifest)),
            mrsigner=signer,
            product_id=manifest["product_id"],
            svn=manifest["svn"],
            flags=Flag.INIT | Flag.MODE64 | Flag.KSS | Flag.DEBUG,
            cpusvn=CPUSVN,
            configuration=LaunchConfiguration(
                heap_bytes=1 << 29,
                threads=threads,
                grants=tuple(sorted(granted)),
                missing=("everything",),
                counter=UNWITNESSED,
                level="none",
            ),
        )
        kind = socket.SOCK_STREAM if self.streams else socket.SOCK_SEQPACKET
        pairs = [socket.socketpair(socket.AF_UNIX, each) for each in (kind, kind, socket.SOCK_SEQPACKET)]
        numbers, answer = {name: FIRST + at for at, name in enumerate(granted)}, channel.Answer()
        document = _document(manifest, who, debug, numbers, answer.public_key)
        handed = [os.dup(one.fileno()) for one in granted.values()]
        inside = [*(pair[1].detach() for pair in pairs), document, *handed]
        paths = [str(app.parent), *(one for one in sys.path if one)]
        try:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", CHILD, ",".join(map(str, inside)), *paths],
                pass_fds=inside,
                env={**os.environ, **(env or {})},
            )
        finally:
            for descriptor in inside:
                os.close(descriptor)
        threading.Thread(target=self._serve, args=(pairs[2][0], answer, child.pid, who), daemon=True).start()
        calls, control = (Stream(ours) if self.streams else ours for ours, _ in pairs[:2])
        return Process(child, calls, control, who)

    def _serve(self, end: socket.socket, answer: channel.Answer, pid: int, who: Identity) -> None:
        try:
            session.serve(end, session.accept(end, answer, lambda: pid), who, self.root)
        except (KluisError, OSError):
            return
        finally:
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of it outlives its enclaves."""


def interface_of(app: Path) -> tuple[Interface, bytes]:
    """Get an application's interface, in a separate process.

    Returns:
        The interface, and its document's SHA-256.

    Raises:
        KluisError: it cannot be imported, or its interface cannot be read.
    """
    completed = subprocess.run(
        [sys.executable, "-c", ASK, str(app.parent), app.stem], capture_output=True, check=False
    )
    if completed.returncode:
        raise KluisError(f"{app}: {completed.stderr.decode(errors='replace').strip().splitlines()[-1]}")
    return parse(completed.stdout), sha256(completed.stdout)


def _document(
    manifest: dict[str, Any], who: Identity, debug: bool, sockets: dict[str, int], platform: bytes
) -> int:
    from kluis.enclave.boundary import memfile

    return memfile.of_bytes(
        jcs.dumps({
            "manifest": manifest,
            "image_id": who.mrenclave.hex(),
            "launch_configuration": jcs.loads(who.configuration.encode(), "launch configuration"),
            "level": "none",
            "debug": debug,
            "platform": platform.hex(),
            "sockets": sockets,
        })
    )  # fmt: skip


ASK = (
    "import sys, importlib; sys.path.insert(0, sys.argv[1]); "
    "sys.stdout.buffer.write(importlib.import_module(sys.argv[2]).app.interface_json())"
)

CHILD = """
import fcntl, os, socket, sys
given = [fcntl.fcntl(int(n), fcntl.F_DUPFD_CLOEXEC, 64) for n in sys.argv[1].split(",")]
for number, descriptor in enumerate(given, 3):
    os.dup2(descriptor, number, inheritable=False)
named = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.dup2(named.detach(), 18, inheritable=False)
sys.path[:0] = sys.argv[2:]
from kluis.enclave.runtime.main import main
main()
"""
