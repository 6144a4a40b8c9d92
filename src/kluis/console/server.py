"""Serve the console on loopback until a signal ends it, and open it in the user's browser."""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
import signal
import socket
import tempfile
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from uvicorn import Config, Server

from kluis.console.access import HOST
from kluis.console.app import build
from kluis.console.state import Console
from kluis.errors import UnavailableError

# A stream looks once a second whether the console ends.
DRAIN_SECONDS: Final = 5
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """Listen on 127.0.0.1.

    Args:
        port: 0: a free one.

    Raises:
        UnavailableError: the port is in use, or this user may not use it.
    """
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        raise UnavailableError(
            f"console: cannot listen on {HOST}:{port}: {os.strerror(error.errno or 0)}",
            hint="kluis console --port 0 takes a free port",
            code="console_port",
        ) from None
    with listener:
        yield listener


class _Server(Server):
    """A server that ends at a signal, and then lets its caller finish."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.end)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def end(self) -> None:
        """End: streams first, since they would last as long as their pages are open."""
        self.console.ending = True
        self.force_exit = self.should_exit
        self.should_exit = True

    def __init__(self, config: Config, console: Console) -> None:
        super().__init__(config)
        self.console = console


def serve(console: Console, listener: socket.socket) -> None:
    """Serve a console until SIGINT or SIGTERM; the main thread's."""
    config = Config(
        build(console),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=DRAIN_SECONDS,
        h11_max_incomplete_event_size=64 << 10,
        limit_concurrency=256,
    )
    asyncio.run(_Server(config, console).serve(sockets=[listener]))


@contextlib.contextmanager
def open_browser(url: str) -> Iterator[bool]:
    """Open an address with a token in the user's browser; whether there is one.

    The browser gets a file that only this user can read: its arguments are visible to every user.

    Args:
        url: a secret.
    """
    with tempfile.TemporaryDirectory(prefix="kluis-console-") as folder:  # mode 0700
        page = Path(folder) / "open.html"
        page.write_text(
            f'<!doctype html><meta charset="utf-8"><title>Kluis console</title>'
            f'<meta http-equiv="refresh" content="0;url={html.escape(url)}">',
            encoding="utf-8",
        )
        yield _browse(page.as_uri())


def _browse(address: str) -> bool:
    try:
        return webbrowser.open(address)
    except (webbrowser.Error, OSError):
        return False
