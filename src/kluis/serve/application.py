"""Serve the ASGI application of an image on one listening socket, in one or more enclaves.

The application's ``asgi.host(app, application)`` declares the ecalls that this module uses. This process
opens the port, and forwards ciphertext: it is not trusted.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from kluis.errors import AuthenticityError, EnclaveError, UnavailableError, UsageError
from kluis.hashes import sha256
from kluis.host import load
from kluis.host.interface import parse
from kluis.host.loading import head_of
from kluis.serve.addresses import address_of, reason_of
from kluis.serve.fleet import Fleet
from kluis.serve.instance import Instance, as_own

MOST_INSTANCES: Final = 16
BACKLOG: Final = 1024
START_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.05
_ECALLS: Final = frozenset({"serve", "drain"})
_LISTEN: Final = "listen:"


class Application(NamedTuple):
    """An image that serves.

    Attributes:
        path: of the image.
        name: of its enclave.
        image_id: 32 bytes.
        grant: for the listening socket, such as ``listen:web``.
        ocalls: the names of those that return nothing.
        traced: whether it lists its requests for traces.
    """

    path: Path
    name: str
    image_id: bytes
    grant: str
    ocalls: tuple[str, ...]
    traced: bool


def application_of(path: Path) -> Application:
    """Read what an image serves, without starting it.

    Raises:
        UsageError: there is no such file, or the image serves no ASGI application.
        FormatError: not an image.
    """
    head = head_of(path)
    declared = parse(head.interface)
    if not {one.name for one in declared.ecalls} >= _ECALLS:
        raise UsageError(
            f"image {path}: want the ecalls serve and drain of an ASGI application, got none",
            hint="asgi.host(app, application) in app.py declares them; kluis new NAME --template api has one",
            code="not_asgi",
        )
    grants = [grant for grant in head.manifest.grants if grant.startswith(_LISTEN)]
    if len(grants) != 1:
        raise UsageError(
            f"image {path}: want one grant listen:NAME, got {', '.join(grants) or 'none'}",
            hint='grants = ["listen:web"] in kluis.toml, then kluis build',
            code="not_asgi",
        )
    quiet = tuple(one.name for one in declared.ocalls if one.returns in {None, type(None)})
    traced = any(one.name == "recent_requests" for one in declared.ecalls)
    return Application(path, declared.name, sha256(head.manifest_bytes), grants[0], quiet, traced)


class ServedApplication:
    """The running enclaves of an application; use it in a ``with``.

    Args:
        application: what is served.
        listener: where; owned by the caller.
        instances: number of enclaves, 1..16.
        ocalls: the host's functions by name; those of other names fail.
        insecure_allow_missing: protections that this machine may do without; written into the evidence.

    Raises:
        UsageError: the number of instances is out of range.
    """

    def __init__(
        self,
        application: Application,
        listener: socket.socket,
        instances: int = 1,
        *,
        ocalls: Mapping[str, Callable[..., Any]] | None = None,
        insecure_allow_missing: frozenset[str] = frozenset(),
    ) -> None:
        if not 1 <= instances <= MOST_INSTANCES:
            raise UsageError(f"instances: want 1..{MOST_INSTANCES}, got {instances}")
        self.application = application
        self._listener = listener
        self._ocalls = dict(ocalls or {})
        self._missing = insecure_allow_missing
        self.fleet = Fleet(application.name, self._begin, instances, listener=listener)

    def __enter__(self) -> ServedApplication:
        """Start all enclaves, and wait until the application answers.

        Raises:
            KluisError: one does not start; nothing is left running.
        """
        self.fleet.start()
        try:
            self._await_answer()
        except BaseException:
            self.fleet.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let requests finish, and end all enclaves."""
        self.fleet.stop()

    @property
    def levels(self) -> tuple[str, ...]:
        """The protection levels of the enclaves, as their platform states them."""
        return tuple(dict.fromkeys(one.enclave.level for one in self.fleet.instances))

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the enclaves."""
        return tuple(one.enclave.pid for one in self.fleet.instances)

    def replace(self) -> None:
        """Start the image as the file has it now, next to the old enclaves, then drain those.

        Raises:
            KluisError: the new one does not start; the old ones continue.
        """
        before = self.application
        self.application = application_of(before.path)
        try:
            if self.application.grant != before.grant:
                raise UsageError(f"grant: want {before.grant}, as before, got {self.application.grant}")
            self.fleet.replace()
        except BaseException:
            self.application = before
            raise

    def _begin(self) -> Instance:
        wanted = self.application
        enclave = load(
            wanted.path,
            sockets={wanted.grant: self._listener},
            ocalls={name: each for name, each in self._ocalls.items() if name in wanted.ocalls},
            start_seconds=START_SECONDS,
            insecure_allow_missing=self._missing,
        )
        try:
            if enclave.image_id != wanted.image_id:
                raise AuthenticityError(
                    f"image {wanted.path}: want image id {wanted.image_id.hex()},"
                    f" got {enclave.image_id.hex()}",
                    hint=f"the file changed: kill -HUP {os.getpid()} serves the new image",
                    code="image_changed",
                )
        except BaseException:
            enclave.close()
            raise
        instance = Instance(enclave, named=False)
        instance.serve(lambda _: None)
        return instance

    def _await_answer(self) -> None:
        """Wait for the first TLS handshake.

        Raises:
            KluisError: the application ended instead, such as by an error of its start-up.
            UnavailableError: no answer in time.
        """
        context = ssl.create_default_context()
        # Clients verify evidence. This only waits, and sends nothing.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            for one in self.fleet.instances:
                if fault := one.fault():
                    raise as_own(fault)
            with (
                contextlib.suppress(OSError),
                socket.create_connection(_reachable(self._listener), timeout=LOOK_SECONDS) as raw,
                context.wrap_socket(raw),
            ):
                return
            time.sleep(PAUSE_SECONDS)  # it may close connections at once
        raise EnclaveError(f"application {self.application.name}: does not answer", code="application_silent")


def _reachable(listener: socket.socket) -> tuple[str, int]:
    """An address at which this machine reaches a listener, which may listen on all addresses."""
    host, port = listener.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - it is replaced


@contextlib.contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """Listen on ``HOST:PORT``, such as ``127.0.0.1:8443`` or ``[::1]:0``; close it at the end.

    Raises:
        UsageError: not an address and a port.
        UnavailableError: the port is in use, or the address is not this machine's.
    """
    parsed = address_of(address, "--listen", "127.0.0.1:8443")
    host = address.rpartition(":")[0]
    family = socket.AF_INET6 if ":" in parsed.host else socket.AF_INET
    try:
        listener = socket.create_server(parsed, family=family, backlog=BACKLOG)
    except OSError as error:
        raise UnavailableError(
            f"--listen: cannot listen on {address[:80]}: {reason_of(error)}",
            hint=f"--listen {host}:0 takes a free port; ss -ltnp shows which program has this one",
            code="port",
        ) from None
    with listener:
        yield listener
