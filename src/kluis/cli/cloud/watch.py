"""``kluis wait``, ``status``, ``logs``, ``down``: the local cloud that runs in the background."""

from __future__ import annotations

import signal
import time
from typing import Annotated, Any

from kluis.cli import render
from kluis.cli.cloud import health, places
from kluis.cli.cloud.places import State
from kluis.cli.parameters import flag, option
from kluis.errors import UnavailableError
from kluis.serve.cloud import lock, processes, record
from kluis.serve.cloud.folder import Folder

LOOK_SECONDS = 0.02
# The services finish requests for at most 30 seconds.
STOP_SECONDS = 120.0


def wait(
    timeout: Annotated[float, option("The longest time to wait.", "SECONDS")] = 600.0, state: State = None
) -> None:
    """Wait until every service of the local cloud serves.

    If the start fails, this command fails with the same error.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            _, run = places.running(state)
        except UnavailableError as error:
            if error.code != "cloud_starting":
                raise
        else:
            if run.phase == "ready":
                render.out({"ready": True, "services": run.services}, "ready")
                return
        if time.monotonic() > end:
            raise UnavailableError(
                f"wait: want the services within {timeout:g} seconds, got none yet",
                hint="kluis logs; kluis wait --timeout SECONDS",
                code="cloud_slow",
            )
        time.sleep(LOOK_SECONDS)


def status(state: State = None) -> None:
    """List the services of the local cloud: address, protection level, enclaves, and whether each is ready.

    The age of evidence is the time since a service's oldest enclave was started and measured.
    """
    folder, run = places.running(state)
    ready = health.ready(folder, run)
    shown = [
        {
            "service": each.name,
            "url": each.url,
            "level": each.level,
            "instances": each.instances,
            "wanted": each.wanted,
            "ready": ready[each.name],
            "pids": each.pids,
            "evidence_age_seconds": max(0, int(time.time()) - each.since) if each.since else None,
        }
        for each in run.services
    ]
    head = ("service", "url", "level", "enclaves", "ready", "evidence age")
    rows = [_row(each) for each in shown]
    value = {"state": str(folder.path), "pid": run.process.pid, "phase": run.phase, "services": shown}
    render.out(value, render.fit_table(rows, head))


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    age = each["evidence_age_seconds"]
    return (
        each["service"],
        each["url"] or "-",
        each["level"] or "-",
        f"{each['instances']}/{each['wanted']}",
        "yes" if each["ready"] else "no",
        "-" if age is None else f"{age} s",
    )


def logs(
    follow: Annotated[bool, flag("Print new lines until the services stop.", "-f", "--follow")] = False,
    lines: Annotated[int, option("Number of last lines.", "N", "-n", "--lines")] = 100,
    state: State = None,
) -> None:
    """Print the log of the local cloud: its start, and a line for each request."""
    from kluis.cli.cloud import following  # no other command reads the log

    folder = Folder.open(places.path_of(state))
    tail = following.last(folder.log, lines)
    for line in tail.lines:
        render.out_row({"line": line}, line)
    if follow:
        for line in following.new(folder.log, tail, lambda: lock.is_occupied(folder)):
            render.out_row({"line": line}, line)


def down(state: State = None) -> None:
    """Stop the local cloud; its keys and data stay.

    Each service finishes the requests that it has, for at most 30 seconds.
    """
    folder = Folder.open(places.path_of(state))
    run = record.read(folder)
    process = lock.holder(folder)
    if process is None and lock.is_occupied(folder):
        raise places.beginning(folder)
    if process is None:
        if run is None:
            raise places.stopped_error(folder)
        folder.record.unlink(missing_ok=True)  # of a start that failed, or of a process that was killed
        render.out({"stopped": False}, "the services had ended by themselves")
        return
    processes.send(process, signal.SIGTERM)
    if not processes.await_end(process, STOP_SECONDS):
        render.note(
            f"kluis: process {process.pid} did not stop within {STOP_SECONDS:g} seconds: it is killed"
        )
        processes.send(process, signal.SIGKILL)
        processes.await_end(process, STOP_SECONDS)
    folder.record.unlink(missing_ok=True)
    render.out({"stopped": True}, "stopped")
