"""Answer a guest's requests to the emulated processor, on the machine's port ``kluis.psp``."""

from __future__ import annotations

import contextlib
import socket
from datetime import UTC, datetime

from kluis.authority.amd import Launch, Processor
from kluis.formats.kluis.processor_port import CERTIFICATES, KEY, REPORT, SIZE_BYTES, SIZES


def answer(end: socket.socket, processor: Processor, launch: Launch | None) -> None:
    """Answer until the other end closes, or sends something that is not a request.

    Args:
        end: the host's end of the port, a stream; closed at the end.
        processor: that signs.
        launch: of this guest, as it was measured before it started. None for a guest under a paravisor: its
            measurement is only the firmware's, so it gets certificates, but no report and no key.
    """
    with end, contextlib.suppress(OSError):
        while kind := _read(end, 1):
            if launch is None and kind != CERTIFICATES:
                return
            if kind not in SIZES or (request := _read(end, SIZES[kind])) is None:
                return
            end.sendall(_answer(kind, request, processor, launch))


def _answer(kind: bytes, request: bytes, processor: Processor, launch: Launch | None) -> bytes:
    if launch is not None and kind == REPORT:
        return processor.answer_report(launch, request)
    if launch is not None and kind == KEY:
        return processor.answer_key(launch, request)
    parts = processor.certificates(), processor.crl(datetime.now(UTC))
    return b"".join(len(part).to_bytes(SIZE_BYTES, "little") + part for part in parts)


def _read(end: socket.socket, size: int) -> bytes | None:
    """Exactly ``size`` bytes; None if the stream ends before."""
    data = b""
    while len(data) < size:
        if not (more := end.recv(size - len(data))):
            return None
        data += more
    return data
