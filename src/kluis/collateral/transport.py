"""HTTPS requests to one origin, bounded in size, time, redirects and retries.

An origin is a vendor's, or one that the caller named; no address is ever taken from evidence. Needs the extra
``collateral``.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self

import httpx

from kluis.errors import FormatError, KluisError, UnavailableError, UsageError
from kluis.frozen import frozen

REDIRECTS: Final = 2
_ORIGIN: Final = re.compile(r"https://(?:[A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(?::[0-9]{1,5})?/?")


@frozen(kw_only=True)
class Limits:
    """Limits on the memory and time of one response.

    Attributes:
        size_bytes: of a body.
        step_seconds: to connect, or between two reads.
        total_seconds: for one answer, redirects included.
        wait_seconds: the total of all waits that a service requests.
    """

    size_bytes: int = 1 << 20
    step_seconds: float = 10.0
    total_seconds: float = 30.0
    wait_seconds: float = 10.0


@frozen
class Answer:
    """A body of status 200, byte for byte, and its headers."""

    body: bytes
    headers: Mapping[str, str]


class Origin:
    """An https origin; use it as a context manager.

    Args:
        url: ``https://host[:port]`` without a path.
        trust: the certificate authorities for its TLS; None for the system's.
        limits: on each answer.
        sleep: waits for some seconds.

    Raises:
        UsageError: ``url`` is not such an origin.
    """

    def __init__(
        self,
        url: str,
        *,
        trust: ssl.SSLContext | None = None,
        limits: Limits | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._origin = _origin(url)
        self._limits = limits or Limits()
        self._sleep = sleep
        # Ignore the environment: its proxies and its .netrc must not affect requests to the vendors'
        # services.
        self._client = httpx.Client(
            verify=trust or ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=self._limits.step_seconds,
            headers={"Accept-Encoding": "identity", "User-Agent": "kluis"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def name(self) -> str:
        """For messages: ``https://host:port``."""
        return str(self._origin)

    def get(self, path: str, query: Mapping[str, str], what: str, *, hint: str | None = None) -> Answer:
        """Fetch one document.

        Args:
            path: begins with a slash.
            query: in this order.
            what: for messages.
            hint: what to do if the service has no such document.

        Raises:
            UnavailableError: no such document (``collateral_missing``), a retired number
                (``collateral_retired``), too many requests (``service_busy``), no or a bad
                answer (``service_unreachable``, ``service_slow``, ``service_refused``).
            FormatError: more than the limit, or an encoding that was not requested.
        """
        url = self._origin.copy_with(path=path).copy_merge_params(dict(query))
        left = self._limits.wait_seconds
        while True:
            status, headers, body = self._once(url, what)
            if status == 200:
                return Answer(body, headers)
            wait = _retry_after(headers) if status in {429, 503} else None
            if wait is None or wait > left:
                raise _refusal(status, what, self.name, hint, wait)
            left -= wait
            self._sleep(wait)

    def post(self, path: str, body: bytes, what: str) -> tuple[int, bytes]:
        """Send a JSON document, once, and follow no redirect.

        Args:
            path: begins with a slash.
            body: JSON.
            what: for messages.

        Returns:
            The status, whatever it is, and the response's body.

        Raises:
            UnavailableError: no complete response (``service_unreachable``, ``service_slow``).
            FormatError: more than the limit, or an encoding that was not requested.
        """
        status, _, answer = self._once(self._origin.copy_with(path=path), what, body)
        return status, answer

    def _once(
        self, url: httpx.URL, what: str, sent: bytes | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        deadline = _Deadline(self._limits.total_seconds)
        headers = None if sent is None else {"Content-Type": "application/json"}
        method = "GET" if sent is None else "POST"
        with deadline, self._foreign(what, deadline):
            for _ in range(REDIRECTS + 1):
                with self._client.stream(
                    method, url, content=sent, headers=headers, extensions={"trace": deadline.watch}
                ) as response:
                    if sent is not None or not response.is_redirect:
                        return response.status_code, response.headers, self._body(response, what)
                    url = self._find_target(response, url, what)
            raise UnavailableError(
                f"{what}: {self.name} redirects more than {REDIRECTS} times", code="service_refused"
            )

    def _find_target(self, response: httpx.Response, url: httpx.URL, what: str) -> httpx.URL:
        target = url.join(response.headers["location"])
        if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
            raise UnavailableError(
                f"{what}: {self.name} redirects to another host, {target.scheme}://{target.host}",
                hint="name the service that has it; redirects are followed only on the same host",
                code="service_refused",
            )
        return target

    def _body(self, response: httpx.Response, what: str) -> bytes:
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise FormatError(f"{what}: want no content encoding, got {encoding[:32]!a}", code="bad_encoding")
        body = bytearray()
        for piece in response.iter_raw():
            body += piece
            if len(body) > self._limits.size_bytes:
                raise FormatError(f"{what}: is more than {self._limits.size_bytes} bytes", code="too_large")
        return bytes(body)

    @contextmanager
    def _foreign(self, what: str, deadline: _Deadline) -> Iterator[None]:
        try:
            yield
        except KluisError:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            if deadline.passed or isinstance(error, httpx.TimeoutException):
                raise UnavailableError(
                    f"{what}: {self.name} gave no whole answer in {self._limits.total_seconds:g} s",
                    hint="try again; --offline uses what is held",
                    code="service_slow",
                ) from None
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise UnavailableError(
                f"{what}: {self.name} is unreachable: {reason}",
                hint="check the network; --offline uses what is held",
                code="service_unreachable",
            ) from None


class _Deadline:
    """Cuts the connection when the time is up: a step's own limit restarts at every byte."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Record each connection, reported by httpx's trace extension."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            connection = info["return_value"].get_extra_info("socket")
            if isinstance(connection, socket.socket):
                self._sockets.append(connection)

    def _cut(self) -> None:
        self.passed = True
        for one in self._sockets:
            try:
                socket.socket.shutdown(
                    one, socket.SHUT_RDWR
                )  # below TLS, because the reader still holds the TLS object
            except OSError:
                continue


def _origin(url: str) -> httpx.URL:
    if _ORIGIN.fullmatch(url) is None:
        raise UsageError(f"service: want https://host[:port], got {url[:80]!a}")
    return httpx.URL(url)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read the requested wait of a service in seconds, at least 1; None if it states none."""
    delay = headers.get("retry-after", "").strip()
    if delay.isascii() and delay.isdigit() and len(delay) < 8:
        return max(float(delay), 1.0)
    try:
        when = parsedate_to_datetime(delay)
        return max((when - datetime.now(UTC)).total_seconds(), 1.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _refusal(status: int, what: str, name: str, hint: str | None, wait: float | None) -> UnavailableError:
    match status:
        case 404:
            return UnavailableError(f"{what}: {name} has none (404)", hint=hint, code="collateral_missing")
        case 410:
            return UnavailableError(
                f"{what}: {name} has retired that evaluation data number (410)",
                hint="name a newer number, or --update early",
                code="collateral_retired",
            )
        case 429 | 503:
            after = f"; it requests a wait of {wait:.0f} s" if wait is not None else ""
            return UnavailableError(
                f"{what}: {name} is busy ({status}){after}",
                hint="try again later; a caching service (--pccs) has a higher limit",
                code="service_busy",
            )
        case _:
            return UnavailableError(f"{what}: {name} answers {status}, want 200", code="service_refused")
