"""Start and stop a platform: as root the machine's, otherwise one user's."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from kluis.errors import UnavailableError
from kluis.tee import places as where
from kluis.tee.places import Places
from kluis.tee.platform.forked import Forked
from kluis.tee.process import linux, native, sandbox

USER: Final = "kluis"
IDLE_SECONDS: Final = 30.0
BACKLOG: Final = 64
ANSWER_SECONDS: Final = 120.0
STOP_SECONDS: Final = 120.0
START_SECONDS: Final = 180.0
START_LOCK: Final = "start.lock"
LOG: Final = "platform.log"
TPM: Final = "/dev/tpmrm0"
BWRAP: Final = "/usr/bin/bwrap"
"""Where a guest has it."""


def start(*, idle_seconds: float | None = None, tpm: bool = False, tpm_device: str = TPM) -> Places:
    """Start a platform, unless it is running: as root the machine's, else this user's.

    Args:
        idle_seconds: end after this time without hosts; None: never.
        tpm: seal the secret to a TPM, which witnesses the counters. A secret that is sealed stays so.
        tpm_device: of the TPM.

    Raises:
        UnavailableError: something is missing; with the command that installs it.
    """
    import shutil  # a guest does without

    places = where.mine()
    uid, gid = _ids() if places.system else (os.geteuid(), os.getegid())
    bwrap = shutil.which("bwrap")
    if not bwrap:
        raise UnavailableError(
            "bubblewrap: bwrap is not on the PATH", hint="apt-get install bubblewrap", code="no_bwrap"
        )
    native.guardian()
    where.prepare(places, uid, gid)
    with _only_one(places):
        if not answers(places):
            with contextlib.suppress(FileNotFoundError):
                os.close(where.lock_state(places.state, create=False))
            sealed = (places.state / where.SEALED).exists()
            device = _usable(tpm_device) if tpm or sealed else None
            with _listening(places) as listener:
                settings = _settings(
                    places, listener, uid, gid, bwrap=bwrap, idle_seconds=idle_seconds, tpm=device
                )
                spawner = _spawn(places, listener, settings)
            _await(places, spawner)
        elif idle_seconds is None:
            # Another command may have started it only for itself, and it would end with the last one.
            ask(places, {"op": "stay"})
    return places


def _usable(device: str) -> str:
    """The device, after it was opened: so the reason why it cannot be used is not in a log only."""
    from kluis.tee.tpm.tpm import Tpm  # only a platform with a TPM needs it

    with Tpm.open(device):
        return device


def _ids() -> tuple[int, int]:
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        import subprocess  # a guest does without

        subprocess.run(
            [
                "useradd",
                "--system",
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                "/usr/sbin/nologin",
                USER,
            ],
            check=True,
        )
        user = pwd.getpwnam(USER)
    return user.pw_uid, user.pw_gid


@contextlib.contextmanager
def _only_one(places: Places) -> Iterator[None]:
    # Anyone who can open it can lock it, and block every start: so only its owner may.
    with open(places.runtime / START_LOCK, "w") as lock:
        os.fchmod(lock.fileno(), 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def answers(places: Places) -> bool:
    """Whether a platform answers there."""
    try:
        return bool(ask(places, {"op": "status"}))
    except (OSError, UnavailableError):
        return False


def ask(places: Places, request: dict[str, Any]) -> dict[str, Any]:
    """Send one request without descriptors and read its answer.

    Raises:
        OSError: nothing listens there.
        UnavailableError: it hung up, or is another user's.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        # With Python's timeout it would not wait its turn where others connect, too.
        seconds = int(ANSWER_SECONDS * linux.slowness())
        limit = seconds.to_bytes(8, sys.byteorder) + bytes(8)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.connect(str(places.socket))
        where.require_ours(places, connection)
        connection.settimeout(seconds)
        connection.send(json.dumps(request).encode())
        data = connection.recv(256 * 1024)
    if not data:
        raise UnavailableError("platform: hung up", code="platform_gone")
    answer: dict[str, Any] = json.loads(data)
    return answer


class Spawner(Protocol):
    """The process that starts the platform."""

    def poll(self) -> int | None:
        """Its exit status; None if it runs."""

    def kill(self) -> None:
        """End it."""

    def wait(self) -> int:
        """Wait for its end."""


class Starting:
    """A platform that a guest's first program starts, from a fork of itself.

    On an emulated processor another Python would take longer to start. The caller must have one thread, and
    hold no secret: the fork has its memory.

    Args:
        base: where the runtime's base layer is unpacked, on a file system that the kernel checks.

    Raises:
        UnavailableError: something is missing.
    """

    def __init__(self, base: Path) -> None:
        self._places = where.mine()
        native.guardian()
        uid, gid = _ids()
        where.prepare(self._places, uid, gid)
        with _only_one(self._places), _listening(self._places) as listener:
            settings = _settings(self._places, listener, uid, gid, bwrap=BWRAP, base=str(base))
            self._spawner = Forked(
                lambda: _run_spawner(settings),
                log=self._places.runtime / LOG,
                keep=frozenset({listener.fileno()}),
            )

    def finish(self) -> None:
        """Wait until it answers.

        Raises:
            UnavailableError: it did not start.
        """
        _await(self._places, self._spawner)


@contextlib.contextmanager
def _listening(places: Places) -> Iterator[socket.socket]:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(places.socket)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        old = os.umask(0o177)
        try:
            listener.bind(str(places.socket))
        finally:
            os.umask(old)
        os.chmod(places.socket, 0o666 if places.system else 0o600)
        listener.listen(BACKLOG)
        yield listener


def _settings(
    places: Places,
    listener: socket.socket,
    uid: int,
    gid: int,
    *,
    bwrap: str,
    idle_seconds: float | None = None,
    base: str | None = None,
    tpm: str | None = None,
) -> str:
    own_uids = places.system
    linux.raise_limits()  # for the platform and its enclaves, which inherit it
    lockable = linux.lockable_bytes()
    lacks = linux.missing(0)
    secret = "secret-memory" not in lacks and (lockable is None or lockable >= sandbox.PLATFORM_HEAP)
    region = 2 * sandbox.PLATFORM_HEAP + sandbox.RESERVE
    settings = {
        "bwrap": bwrap,
        "base": base,
        "layers": str(places.layers),
        "state": str(places.state),
        "socket": str(places.socket),
        "socket_mark": where.mark(places.socket),
        "start_lock": str(places.runtime / START_LOCK),
        "listen": listener.fileno(),
        "uid": uid if own_uids else 0,
        "gid": gid if own_uids else 0,
        "own_uids": own_uids,
        "tpm": tpm,
        "without": ",".join(sorted(lacks | (set() if secret else {"secret-memory"}))),
        "region": region if lockable is None or not secret else min(region, lockable),
        "daemon": {
            "level": "process" if own_uids else "process-user",
            "lacks": sorted(lacks),
            "lockable": lockable,
            "version": native.version().hex(),
            "base": native.runtime().digest,
            "idle_seconds": idle_seconds,
            "slowness": linux.slowness(),  # within the platform's walls there is no /proc/cpuinfo
            "tpm": tpm is not None,
        },
    }
    return json.dumps(settings)


def _spawn(places: Places, listener: socket.socket, settings: str) -> Spawner:
    import subprocess  # a guest does without

    namespaces = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        namespaces += ["--user", "--map-root-user"]
    line = [*namespaces, sys.executable, "-I", "-m", "kluis.tee.platform.launching.main", settings]
    with open(places.runtime / LOG, "ab") as log:
        return subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath)},  # no secrets of its starter
        )


def _run_spawner(settings: str) -> int:
    from kluis.tee.platform.launching.main import main  # only the child needs it

    linux.own_mounts()
    return main([settings])


def _await(places: Places, spawner: Spawner) -> None:
    until = time.monotonic() + START_SECONDS * linux.slowness()
    while not (running := answers(places)) and spawner.poll() is None and time.monotonic() < until:
        pass  # On an emulated processor it takes minutes; as long as it lives, it may come.
    if not running:
        spawner.kill()
        spawner.wait()
        places.socket.unlink(missing_ok=True)
        raise UnavailableError(
            f"platform: did not start: {_last_words(places.runtime / LOG)}",
            code="platform_start",
            hint=f"kluis doctor; the whole log is {places.runtime / LOG}",
        )


def _last_words(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    if len(lines) > 1 and lines[-1].startswith("hint: "):  # a note of the error before it
        return f"{lines[-2][:500]}; {lines[-1][:500]}"
    return lines[-1][:500] if lines else "no word in its log"


def stop(places: Places) -> None:
    """Stop a platform and its enclaves, and wait for its end; no error if it is not running."""
    its = where.mark(places.socket)
    try:
        ask(places, {"op": "stop"})
    except (ConnectionRefusedError, FileNotFoundError):
        return
    except (OSError, UnavailableError):
        pass  # It may be gone before its answer is; it is waited for all the same.
    until = time.monotonic() + STOP_SECONDS
    while its and where.mark(places.socket) == its and time.monotonic() < until:
        time.sleep(0.005)
