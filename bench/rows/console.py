"""The console's page of 1,000 events until it answers a person, compared with an empty page of its server."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.harness import Harness, Row
from tests.cleanroom import logs
from tests.console.browser import chromium, opened, served
from tests.console.site import Case

EVENTS = 1000
# Reported, not limited: the limit only ends a page that no person would wait for.
HOLD = 50.0
# The main thread has painted and runs scripts again: what a person presses now is answered.
READY = (
    "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame("
    "() => done(performance.now()))))"
)


def rows(take: Harness) -> list[Row]:
    """One row: both pages in one session of Debian's Chromium."""
    with tempfile.TemporaryDirectory(prefix="kluis-bench-") as folder, chromium() as browser:
        case = Case(Path(folder))
        for number in range(EVENTS - len(logs.lines(case.room))):
            logs.say(case.room, case.homes["clinic"], "result.opened", f"by-sex.{number:016x}")
        with served(case.room.path, parties=Path(folder) / "homes") as console:
            page = opened(browser, console)
            full = f"{console.access.origin}/rooms/{case.room.file.room}/events"
            empty = f"{console.access.origin}/nope"
            page.goto(full)
            assert page.locator("tbody tr").count() == EVENTS
            sizes: list[float] = []

            def ours() -> float:
                seconds = _seconds(page, full)
                sizes.append(seconds)
                return seconds

            row = take.compare(
                "console page with 1,000 events, time to interactive",
                "an empty page of the same server in the same browser",
                HOLD,
                ours=ours,
                theirs=lambda: _seconds(page, empty),
                also=lambda: {"slowest of the page with events": f"{max(sizes):.2f} s"},
            )
            return [row]


def _seconds(page: Any, address: str) -> float:
    page.goto(address, wait_until="load")
    return float(page.evaluate(READY)) / 1000
