"""A cloud's metadata service: bounded HTTP to one address of the machine's own link, without redirects.

Spec: Azure "Instance Metadata Service"; "THIM" for certificates; RFC 9112 for the framing of answers.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final

from kluis.errors import FormatError, UnavailableError

HOST: Final = "169.254.169.254"
PORT: Final = 80
SECONDS: Final = 30.0
MAX_ANSWER: Final = 256 * 1024
MAX_HEADER: Final = 16 * 1024
MAX_CHUNK_LINE: Final = 1024
_OK: Final = 200
_REDIRECTS: Final = range(300, 400)
_HINT: Final = "the machine must reach 169.254.169.254 without a proxy"


class Imds:
    """A client of the service.

    Args:
        host: its address.
        port: its port.
        seconds: limit for one whole exchange.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        host: str = HOST,
        port: int = PORT,
        *,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = host, port
        self._seconds = seconds
        self._clock = clock

    def get(self, path: str) -> bytes:
        """Get ``path``; the answer has at most 256 KiB.

        Raises:
            UnavailableError: the service does not answer in time, or refuses; code ``imds``.
        """
        return self._exchange(path, "GET", b"")

    def post(self, path: str, body: bytes) -> bytes:
        """Post JSON to ``path``; the answer has at most 256 KiB.

        Raises:
            UnavailableError: as for :meth:`get`.
        """
        return self._exchange(path, "POST", body)

    def _exchange(self, path: str, method: str, body: bytes) -> bytes:
        host, port = self._address
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {host}" if port == PORT else f"Host: {host}:{port}",
            "Metadata: true",
            "Accept: application/json",
            "Connection: close",
        ]
        if method == "POST":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        request = "\r\n".join([*lines, "", ""]).encode() + body
        until = self._clock() + self._seconds
        with self._faults(path), socket.create_connection(self._address, self._seconds) as connection:
            connection.sendall(request)
            data = self._read(connection, until)
        try:
            status, answer = parse_answer(data)
        except FormatError as error:
            raise UnavailableError(f"IMDS: {path}: {error.message}", hint=_HINT, code="imds") from None
        if status in _REDIRECTS:
            raise UnavailableError(
                f"IMDS: {path}: is redirected (status {status}), which is not followed",
                hint=_HINT,
                code="imds",
            )
        if status != _OK:
            raise UnavailableError(f"IMDS: {path}: want status 200, got {status}", code="imds")
        return answer

    def _read(self, connection: socket.socket, until: float) -> bytes:
        data = bytearray()
        while True:
            left = until - self._clock()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            part = connection.recv(65536)
            if not part:
                return bytes(data)
            data += part
            if len(data) > MAX_HEADER + 2 * MAX_ANSWER:
                raise UnavailableError("IMDS: the answer is too large", hint=_HINT, code="imds")

    @contextlib.contextmanager
    def _faults(self, path: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise UnavailableError(
                f"IMDS: {path}: no answer in {self._seconds:g} s", hint=_HINT, code="imds"
            ) from None
        except OSError as error:
            raise UnavailableError(f"IMDS: {path}: {error.strerror}", hint=_HINT, code="imds") from None


def parse_answer(data: bytes) -> tuple[int, bytes]:
    """Parse one whole HTTP answer: its status, and its body of at most 256 KiB.

    Raises:
        FormatError: malformed, cut short, or too large.
    """
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator or len(head) > MAX_HEADER:
        raise FormatError("want an HTTP answer, got none that is complete")
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, words = first.partition(" ")
    number = words[:3]
    if version not in ("HTTP/1.0", "HTTP/1.1") or not (
        number.isascii() and number.isdigit() and len(number) == 3
    ):
        raise FormatError(f"want an HTTP answer, got {first[:32]!a}")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or (key in ("content-length", "transfer-encoding") and key in fields):
            raise FormatError(f"HTTP header: {line[:32]!a}")
        fields[key] = value.strip()
    return int(number), _body(fields, rest)


def _body(fields: dict[str, str], rest: bytes) -> bytes:
    coding, length = fields.get("transfer-encoding"), fields.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise FormatError(f"HTTP transfer-encoding: want chunked, got {coding[:32]!a}")
        rest = _join_chunks(rest)
    elif length is not None and (
        not length.isascii() or not length.isdigit() or int(length[:9]) != len(rest)
    ):
        raise FormatError(f"HTTP body: want {length[:16]!a} bytes, got {len(rest)}")
    if len(rest) > MAX_ANSWER:
        raise FormatError(f"HTTP body: want at most {MAX_ANSWER} bytes, got {len(rest)}")
    return rest


def _join_chunks(rest: bytes) -> bytes:
    body, at = bytearray(), 0
    while True:
        end = rest.find(b"\r\n", at, at + MAX_CHUNK_LINE)
        line = rest[at : end if end >= 0 else at + 16]
        digits = line.split(b";", 1)[0].strip()
        if end < 0 or not 0 < len(digits) <= 8 or digits.strip(b"0123456789abcdefABCDEF"):
            raise FormatError(f"HTTP chunk: {line[:16]!a}")
        size, start = int(digits, 16), end + 2
        if not size:
            return bytes(body)
        at = start + size + 2
        if rest[start + size : at] != b"\r\n":
            raise FormatError("HTTP chunk: is cut short")
        body += rest[start : start + size]
