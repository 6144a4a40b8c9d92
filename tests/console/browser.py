"""Debian's Chromium, driven by Playwright, and a console that really listens."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from uvicorn import Config, Server

from kluis.console.access import HOST, Access
from kluis.console.app import build
from kluis.console.state import Console
from tests.cleanroom import samples

CHROMIUM = shutil.which("chromium")
TIMEOUT_MS = 60_000


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """The browser; the test is skipped where it, or what drives it, is missing."""
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def served(*rooms: Path, parties: Path, examine: Any = None) -> Iterator[Console]:
    """A console on a free port, in a thread."""
    with socket.create_server((HOST, 0)) as listener:
        console = Console(Access(listener.getsockname()[1]), rooms, parties, now=lambda: samples.NOW)
        if examine is not None:
            console.examination = examine
        config = Config(build(console), log_config=None, access_log=False, lifespan="off", ws="none")
        config.timeout_graceful_shutdown = 10
        server = Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        try:
            yield console
        finally:
            console.ending = True
            server.should_exit = True
            thread.join(60)


def opened(browser: Any, console: Console, **options: Any) -> Any:
    """A page of a new session that opened the console; what its scripts and its policy report is kept.

    Returns:
        The page, with ``complaints``: what its console printed as an error.
    """
    context = browser.new_context(**options)
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(console.access.url)
    page.wait_for_url(f"{console.access.origin}/")
    return page
