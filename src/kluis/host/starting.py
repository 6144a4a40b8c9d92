"""Wait until a just started enclave is ready, and check its interface."""

from __future__ import annotations

import select

import msgspec

from kluis.enclave.boundary import frames
from kluis.errors import AuthenticityError, CallTimeout, EnclaveDied, EnclaveError, FormatError, RemoteError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.tee.backend import Running
from kluis.tee.process import sandbox

MAX_BYTES = 1 << 20
STREAM_BROKEN = 72
"""Exit status of an enclave that could not read its streams."""
ENDING_SECONDS = 60.0
"""How long a platform may take to report how an enclave ended."""


def describe_end(status: int) -> str:
    """Describe how an enclave ended: its exit status, or a signal if that is negative, and its meaning."""
    how = f"signal {-status}" if status < 0 else f"status {status}"
    if status == sandbox.SCRATCH_CHANGED:
        how += ", as of one whose scratch was changed from outside"
    if status == sandbox.CODE_CHANGED:
        how += ", as of one whose code was changed from outside"
    if status == STREAM_BROKEN:
        how += ", as of one whose stream was cut, repeated, out of order or stalled"
    return how


def await_ready(process: Running, interface: bytes, timeout_seconds: float) -> None:
    """Wait for the runtime's first message.

    Args:
        process: the enclave's.
        interface: SHA-256 of the interface document that the host uses, 32 bytes.
        timeout_seconds: for importing the application.

    Raises:
        RemoteError: the application cannot be started; with the reason.
        EnclaveDied: it ended first.
        CallTimeout: no message in time.
        AuthenticityError: it has another interface.
        EnclaveError: it violated the protocol.
    """
    poll = select.poll()
    poll.register(process.control, select.POLLIN)
    if not poll.poll(timeout_seconds * 1000):
        raise CallTimeout(f"enclave: not ready in {timeout_seconds:g} s")
    try:
        parcel = frames.receive_parcel(process.control, MAX_BYTES)
    except (FormatError, OSError) as error:
        raise EnclaveError(f"the enclave broke the protocol: {error}", code="protocol") from None
    if parcel is None:
        end = process.wait(ENDING_SECONDS * process.slowness)
        words = f": {end[1] or describe_end(end[0])}" if end else ""
        raise EnclaveDied(f"the enclave ended before it was ready{words}", hint="kluis doctor")
    parcel.close()
    try:
        first = _first(parcel.frame)
    except UNREADABLE as error:
        raise EnclaveError(f"the enclave broke the protocol: {error}", code="protocol") from None
    if isinstance(first, frames.Failed):
        raise RemoteError(first.type, first.message, first.traceback, hint=first.hint)
    if first.interface != interface:
        raise AuthenticityError(
            f"enclave interface: want {interface.hex()}, got {first.interface.hex()}", code="interface"
        )


_first = msgspec.msgpack.Decoder(frames.Ready | frames.Failed).decode
