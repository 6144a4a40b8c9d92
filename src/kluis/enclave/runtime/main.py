"""The runtime's entry point: handshake, application, then calls until the host closes the sockets.

Descriptors: 3 calls, 4 control (both SOCK_SEQPACKET, or both streams), 5 platform, 6 the launch document,
7 the layers' indexes, which :mod:`kluis.measured` has read by then, 18 a socket that authenticates this
process. The thread that calls :func:`main` serves the calls socket itself, with no other thread in between;
concurrent calls arrive on the control socket and go to workers. When either side closes the sockets the
process ends at once.
Spec: :mod:`kluis.enclave.boundary.frames`.
"""

from __future__ import annotations

import _socket as socket
import errno
import gc
import importlib
import os
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from cryptography.hazmat.primitives.hashes import SHA256, Hash

from kluis import measured, missing
from kluis.enclave.app import Enclave
from kluis.enclave.boundary import frames
from kluis.enclave.inside import Inside, Launch, enter
from kluis.enclave.platform import PlatformGone, Session
from kluis.enclave.runtime.calls import Calls
from kluis.enclave.runtime.failures import failure
from kluis.errors import AuthenticityError, UsageError

if TYPE_CHECKING:
    from kluis.streams import Stream

try:
    from kluis_launcher import warm  # type: ignore[import-not-found]  # built into the launcher
except ImportError:  # a rehearsal, in an interpreter without the launcher

    def warm() -> None:
        """There is no secret memory whose pages could be touched ahead."""


CALLS, CONTROL, PLATFORM, LAUNCH, NAMED = 3, 4, 5, 6, 18
EXIT_OK, EXIT_NO_APP, EXIT_NO_PLATFORM = 0, 1, 7


def main() -> NoReturn:
    """Run the enclave that the launch document names, until the host closes the sockets."""
    calls, control = _end(CALLS), _end(CONTROL)
    threading.excepthook = sys.unraisablehook = _tell_nothing
    launch = Launch.read(LAUNCH)
    try:
        session = Session.initiate(socket.socket(fileno=PLATFORM), NAMED, launch.platform)
    except PlatformGone:
        os._exit(EXIT_NO_PLATFORM)
    enter(Inside(launch, session))
    try:
        _check_layers(launch)
        gc.freeze()
        gc.enable()
        app = _load(launch)
        served = Calls(app, launch, calls, control)
        served.start()
    except BaseException as error:  # noqa: BLE001 - whatever stops the application is reported to its host
        _refuse(control, error, launch)
    gc.freeze()
    frames.send_parcel(control, 0, frames.encode(frames.Ready(0, launch.interface)))
    warm()
    served.serve()
    os._exit(EXIT_OK)


def _end(descriptor: int) -> socket.socket | Stream:
    """A socket of datagrams; else a stream: of another socket, or of a device such as a machine's port."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        if error.errno != errno.ENOTSOCK:
            raise
    else:
        if sock.type == socket.SOCK_SEQPACKET:
            return sock
        sock.detach()
    from kluis.streams import Stream

    return Stream(descriptor)


def _load(launch: Launch) -> Enclave:
    """Import the application and compare its interface with the measured one."""
    module, _, attribute = launch.entry.partition(":")
    sys.argv = [module, *launch.argv]
    missing.install()
    app = getattr(importlib.import_module(module), attribute or "app", None)
    if not isinstance(app, Enclave):
        raise UsageError(f"{launch.entry}: want an Enclave, got {type(app).__name__}")
    digest = Hash(SHA256())
    digest.update(app.interface_json())
    computed = digest.finalize()
    if computed != launch.interface:
        raise AuthenticityError(
            f"interface: want {launch.interface.hex()}, got {computed.hex()}",
            hint="the application declares other functions here than where it was built",
            code="interface",
        )
    return app


def _check_layers(launch: Launch) -> None:
    """Compare the indexes that imports are checked against with the manifest, and enable fast checks."""
    if measured.layers() != launch.layers:
        raise AuthenticityError("layers: their indexes are not the manifest's", code="layer_changed")
    measured.hash_with(_QuickHash)


class _QuickHash:
    """SHA-256 with the processor's instructions; kluis.hashes would load a second OpenSSL, which few enclaves
    need.
    """

    def __init__(self) -> None:
        self._hash = Hash(SHA256())
        self.update = self._hash.update

    def hexdigest(self) -> str:
        return self._hash.finalize().hex()


def _refuse(control: socket.socket | Stream, error: BaseException, launch: Launch) -> NoReturn:
    """Report why there is no application. No secret has entered yet, so the message may leave."""
    failed = failure(error, (type(error),) if isinstance(error, Exception) else (), launch.debug)
    hint = failed.hint if isinstance(error, Exception) else None
    frame = frames.encode(frames.Failed(0, failed.type, failed.message, failed.traceback, hint))
    try:
        frames.send_parcel(control, 0, frame)
    finally:
        os._exit(EXIT_NO_APP)


def _tell_nothing(_: object) -> None:
    """Discard a thread's unhandled exception, which the host must not see."""
