"""``kluis-platformd``: the root of trust, as a separate process.

It runs under the launcher and the guardian like an enclave: secret memory, not dumpable, filtered, in an
empty network namespace, with its state directory as the only writable place. Descriptor 3 listens for hosts,
descriptor 4 leads to the spawner, and descriptor 5 to the TPM if the platform uses one.

A host's requests are JSON datagrams. A launch passes the image as a descriptor and returns the host's ends of
the enclave's channels. When the connection that launched an enclave closes, the enclave ends.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kluis.errors import PolicyError, UnavailableError, UsageError
from kluis.tee import places
from kluis.tee.platform import shares
from kluis.tee.platform.hosts import Host
from kluis.tee.platform.launching import policy
from kluis.tee.platform.launching.launch import Launcher
from kluis.tee.platform.launching.orders import Orders
from kluis.tee.platform.root import upkeep
from kluis.tee.platform.root.authority import Authority
from kluis.tee.platform.root.counters import Counters
from kluis.tee.platform.root.enrolled import Enrolled
from kluis.tee.platform.root.keys import CPUSVN, Secret
from kluis.tee.platform.root.quoting import PlatformKeys
from kluis.tee.platform.root.session import Root

LISTEN_FD, ORDERS_FD, TPM_FD = 3, 4, 5
CREDENTIALS = 12
MOST_CONNECTIONS = 384
MOST_EACH = 128
MOST_OPERATORS = 16
"""Concurrent connections of all users, of one, and of the operators beyond: each is a thread, and without
free threads no host is served. Operators find one, however many users come.
"""
MOST_SHOWN = 100
STACK_BYTES = 1 << 20


def load_root(state: Path, level: str, version: bytes, tpm: int | None = None) -> Root:
    """Read the platform's state, or create it on first use.

    Args:
        state: its directory.
        level: that it states.
        version: 32 bytes.
        tpm: descriptor of the TPM that has its secret and witnesses its counters; None if there is none.

    Raises:
        UnavailableError: one of its files is another user's, or accessible to others; or as for
            :func:`kluis.tee.platform.root.sealed.open_state`.
    """
    now = datetime.now(UTC)
    secret, counters, reseal = _secret_and_counters(state, tpm)
    ca_at, keys_at = state / "authority", state / "platform"
    if not (ca_at / "authority.json").exists():
        Authority.create(level, now, cpusvn=CPUSVN).save(ca_at)
    authority = Authority.load(ca_at)
    if not (keys_at / "platform.json").exists():
        PlatformKeys.create(authority, now, cpusvn=CPUSVN).save(keys_at)
    upkeep.settle(state)
    keys = PlatformKeys.load(keys_at)
    root = Root(level, secret, authority, keys, counters, version, reseal=reseal)
    enrolled = Enrolled.load(state)
    if enrolled is not None and enrolled.vouches_for(keys):
        root.enrolled = enrolled
    return root


def _secret_and_counters(
    state: Path, tpm: int | None
) -> tuple[Secret, Counters, Callable[[Mapping[int, bytes]], None] | None]:
    if tpm is None:
        if (state / places.SEALED).exists():
            raise UnavailableError(
                "platform secret: is sealed to a TPM", hint="kluis platform start --tpm", code="tpm_absent"
            )
        return Secret.load_or_create(state / "platform.secret"), Counters(state / "counters"), None
    from kluis.tee.platform.root import sealed
    from kluis.tee.tpm.tpm import Tpm  # only a platform with a TPM needs it
    from kluis.tee.tpm.transport import Transport

    at, opened = state / places.SEALED, Tpm(Transport(tpm))
    return *sealed.open_state(state, at, opened), functools.partial(sealed.reseal, at, opened)


class Daemon:
    """Serves hosts until stopped, or, for one user, until idle."""

    def __init__(
        self, listener: socket.socket, launcher: Launcher, root: Root, lacks: frozenset[str], state: Path
    ) -> None:
        self._listener = listener
        self._launcher = launcher
        self._root = root
        self._lacks = lacks
        self._upkeep = upkeep.Upkeep(root, state)
        self._connections: collections.Counter[int] = collections.Counter()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._idle_seconds: float | None = None
        self._started = datetime.now(UTC)

    def serve(self, idle_seconds: float | None) -> None:
        """Accept hosts; return when stopped, or after ``idle_seconds`` without any; None: never."""
        self._idle_seconds = idle_seconds
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        quiet = 0.0
        while not self._stop.is_set():
            if poll.poll(500):
                quiet = 0.0
                self._accept()
            elif not self._connections:
                quiet += 0.5
                if self._idle_seconds is not None and quiet >= self._idle_seconds:
                    return

    def _accept(self) -> None:
        """Serve one more host in a separate thread, or close the connection if there are too many."""
        try:
            connection, _ = self._listener.accept()
        except (OSError, MemoryError):  # no descriptor or memory is left, or the host is gone again
            self._stop.wait(0.05)
            return
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS)
        user = int.from_bytes(raw[4:8], "little")
        most = MOST_CONNECTIONS + (MOST_OPERATORS if shares.is_operator(user) else 0)
        with self._lock:
            if self._connections.total() >= most or self._connections[user] >= MOST_EACH:
                connection.close()
                return
            self._connections[user] += 1
        try:
            threading.Thread(target=self._host, args=(connection, user), daemon=True).start()
        except (RuntimeError, MemoryError):  # no memory is left for it, or for its stack
            self._forget(connection, user)

    def _forget(self, connection: socket.socket, user: int) -> None:
        connection.close()
        with self._lock:
            self._connections[user] -= 1
            self._connections += collections.Counter()  # forgets the users that have none

    def _host(self, connection: socket.socket, user: int) -> None:
        host = Host(connection, user, self._launcher, self._answer)
        try:
            host.serve()
        finally:
            host.close()
            self._forget(connection, user)

    def _answer(self, request: dict[str, Any], descriptors: list[int], user: int) -> dict[str, Any]:
        match request.get("op"):
            case "root":
                return {"root": self._root.root_pem().decode()}
            case "collateral":
                return {"collateral": self._root.collateral().decode()}
            case "status":
                return self._status()
            case "enclaves":
                return {"enclaves": self._enclaves(user)}
            case "layers" if user in (0, os.geteuid()):
                held = self._launcher.holding
                laid = None if held.laid is None else held.laid.hex()
                return {"layers": [digest.hex() for digest in held.digests()], "laid": laid}
            case "stay" if user in (0, os.geteuid()):
                self._idle_seconds = None
                return {}
            case "stop" if user in (0, os.geteuid()):
                self._stop.set()
                return {}
            case op if op in self._upkeep:
                if user not in (0, os.geteuid()):
                    raise PolicyError(
                        f"platform {op}: want root or the platform's own user, got user {user}",
                        hint=f"sudo kluis platform {op}",
                        code="platform_user",
                    )
                return self._upkeep.answer(request, descriptors)
            case other:
                raise UsageError(
                    "platform request: want launch, root, collateral, status, enclaves, stay, stop or an "
                    f"order of upkeep; got {str(other)[:30]!r}"
                )

    def _status(self) -> dict[str, Any]:
        return {
            "level": self._root.level,
            "version": self._root.version.hex(),
            "cpusvn": CPUSVN.hex(),
            "missing": sorted(self._lacks),
            "lockable_bytes": self._launcher.lockable,
            "enclaves": len(self._launcher.running),
            "started": self._started.isoformat(timespec="seconds"),
            "counter": self._root.counters.witness,
            "pid": os.getpid(),
            **self._upkeep.status(),
        }

    def _enclaves(self, user: int) -> list[dict[str, Any]]:
        """The newest enclaves that a user started; of every user for root and the platform's own user."""
        seen = [
            each
            for each in list(self._launcher.running.values())
            if user in (0, os.geteuid()) or each.user == user
        ]
        return [
            {
                "image": each.image,
                "image_id": each.who.mrenclave.hex(),
                "level": "none" if each.debug else each.who.configuration.level,
                "debug": each.debug,
                "missing": list(each.who.configuration.missing),
                "pid": each.enclave,
                "user": each.user,
                "started": each.since.isoformat(timespec="seconds"),
            }
            for each in seen[-MOST_SHOWN:]
        ]


def main() -> int:
    """Entry of the daemon, called by the launcher."""
    os.umask(0o077)
    threading.stack_size(STACK_BYTES)
    settings = json.loads(os.environ["KLUIS_PLATFORM_SETTINGS"])
    places.lock_state(Path.cwd(), create=True)  # for as long as this process lives
    lacks = frozenset(settings["lacks"])
    tpm = TPM_FD if settings["tpm"] else None
    root = load_root(Path.cwd(), settings["level"], bytes.fromhex(settings["version"]), tpm)
    listener = socket.socket(fileno=LISTEN_FD)
    orders = Orders(socket.socket(fileno=ORDERS_FD), lost=lambda: os._exit(1))
    launcher = Launcher(
        root,
        orders,
        policy.load(Path("launch.toml")),
        lacks,
        settings["lockable"],
        settings["slowness"],
        bytes.fromhex(settings["base"]),
    )
    Daemon(listener, launcher, root, lacks, Path.cwd()).serve(settings["idle_seconds"])
    return 0
