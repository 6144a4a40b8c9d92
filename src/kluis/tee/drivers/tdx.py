"""TDX by ``/dev/tdx_guest``, for kernels without configfs-tsm: a TDREPORT, which the host's service quotes.

Spec: Linux, ``include/uapi/linux/tdx-guest.h``; Intel, "TDX DCAP Quote Generation Service", its messages over
vsock: a size (u32, big-endian), then a header of 16 bytes and the message, little-endian.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from kluis.errors import FormatError, UnavailableError
from kluis.formats.encoding.layout import U16, U32, Struct, at, layout
from kluis.formats.encoding.reader import Reader
from kluis.formats.tdx import tdreport
from kluis.tee.driver import answers, check_equal, check_report_data
from kluis.tee.drivers import ioctl, reports

DEVICE: Final = Path("/dev/tdx_guest")
GET_REPORT: Final = 0xC4405401
HOST: Final = 2
PORT: Final = 4050
SECONDS: Final = 60.0
"""For the whole answer of the host's service."""
_REPORT_DATA: Final = 64
_MAJOR: Final = 1
_GET_QUOTE: Final = 0
_QUOTE: Final = 1
_FRAME: Final = 4
_MAX_MESSAGE: Final = reports.MAX_QUOTE + 1024


@layout("quoting service header", 16)
class _Header(Struct):
    major: int = at(0, U16)
    minor: int = at(2, U16)
    kind: int = at(4, U32)
    size: int = at(8, U32)
    error: int = at(12, U32)


def connect_host() -> socket.socket:
    """Connect to the quoting service of this machine's host.

    Raises:
        OSError: there is no vsock, or no service.
    """
    connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        connection.settimeout(SECONDS)
        connection.connect((HOST, PORT))
    except BaseException:
        connection.close()
        raise
    return connection


class Tdx:
    """The driver over ``/dev/tdx_guest``.

    Args:
        device: of the kernel.
        connect: returns a connection to the host's quoting service.
        seconds: to wait for the whole answer.
    """

    name = "tdx"

    def __init__(
        self,
        device: Path = DEVICE,
        connect: Callable[[], socket.socket] = connect_host,
        seconds: float = SECONDS,
    ) -> None:
        self._device = device
        self._connect = connect
        self._seconds = seconds

    def available(self) -> str | None:
        """Why it cannot be used; None if it can."""
        return ioctl.missing(self.name, self._device)

    def kind(self) -> str:
        """``tdx``."""
        return "tdx"

    def endorse(self, report_data: bytes) -> Mapping[str, bytes]:
        """Get a TDREPORT, and the host's quote of it."""
        check_report_data(report_data)
        quote = self._quote(self._tdreport(report_data))
        reports.check_quote(self.name, quote, report_data)
        return {"quote": quote}

    def seal_secret(self) -> None:
        """None: TDX derives no keys."""
        return

    def _tdreport(self, report_data: bytes) -> bytes:
        structure = bytearray(report_data + bytes(tdreport.SIZE))
        with ioctl.device(self.name, self._device) as descriptor:
            ioctl.send(self.name, descriptor, GET_REPORT, structure)
        report = bytes(structure[_REPORT_DATA:])
        with answers(self.name):
            mac = tdreport.ReportMac.parse(report[: tdreport.MAC_SIZE])
        check_equal(self.name, "TDREPORT type", tdreport.TYPE_TDX, mac.type)
        check_equal(self.name, "report data", report_data, mac.report_data)
        return report

    def _quote(self, report: bytes) -> bytes:
        body = len(report).to_bytes(4, "little") + bytes(4) + report
        size = _Header.SIZE + len(body)
        message = _Header(major=_MAJOR, minor=0, kind=_GET_QUOTE, size=size, error=0).encode() + body
        with _faults(), self._connect() as connection:
            until = time.monotonic() + self._seconds
            connection.sendall(len(message).to_bytes(_FRAME, "big") + message)
            size = int.from_bytes(_take(connection, _FRAME, until), "big")
            with answers(self.name):
                if not _Header.SIZE < size <= _MAX_MESSAGE:
                    raise FormatError(f"quoting service: a message of {size} bytes")
            answer = _take(connection, size, until)
        with answers(self.name):
            return parse_answer(answer)


def parse_answer(data: bytes) -> bytes:
    """Parse the service's answer and return the quote, at most 64 KiB.

    Raises:
        FormatError: malformed, or an error of the service.
    """
    r = Reader(data, "quoting service")
    head = _Header.parse(r.take(_Header.SIZE, "header"))
    if (head.major, head.kind, head.size) != (_MAJOR, _QUOTE, len(data)):
        raise FormatError(
            f"quoting service: want version {_MAJOR}, type {_QUOTE}, {len(data)} bytes, "
            f"got {head.major}, {head.kind}, {head.size}"
        )
    if head.error:
        raise FormatError(f"quoting service: error {head.error:#x}")
    chosen, quote = r.u32("id_size"), r.u32("quote_size")
    r.take(chosen, "id")
    signed = r.take(quote, "quote")
    r.end()
    return signed


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"tdx: the host's quoting service: {error.strerror or error}",
            hint=f"the host runs Intel's qgsd with vsock port {PORT}",
            code="driver_refused",
        ) from None


def _take(connection: socket.socket, size: int, until: float) -> bytes:
    data = b""
    while len(data) < size:
        connection.settimeout(max(until - time.monotonic(), 0.001))
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError("it hung up")
        data += part
    return data
