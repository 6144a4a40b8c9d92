"""Run ``kluis serve`` until it is stopped: start, keep running, restart, drain."""

from __future__ import annotations

import collections
import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from kluis.cli import render
from kluis.cli.service.serve_text import lines_of, value_of
from kluis.cli.signals import Asked, listening
from kluis.errors import KluisError
from kluis.serve.fleet import Fleet
from kluis.serve.observing import observing
from kluis.serve.plan import Plan
from kluis.serve.start import Serving, serving
from kluis.services.clock import SystemClock

LOOK_SECONDS: Final = 1.0
# Interval at which services do their due tasks: each decides itself what is due.
TEND_SECONDS: Final = 10.0
# This number of turns with ended enclaves, in this time, is not accidental.
MOST_FAULTS: Final = 5
FAULT_SECONDS: Final = 300.0
# Certificates are valid for 90 days.
RENEW_SECONDS: Final = 30 * 24 * 3600.0


def run(plan: Plan) -> None:
    """Start the plan, print how clients reach it, and keep it running until a signal stops it."""
    keep(plan, ready=lambda running: render.out(value_of(plan, running), lines_of(plan, running)))


def keep(
    plan: Plan,
    *,
    ready: Callable[[Serving], None],
    bound: Callable[[Mapping[str, str]], None] = lambda addresses: None,
    turn: Callable[[Serving], None] = lambda running: None,
) -> None:
    """Start the plan, and keep it running until a signal stops it.

    Args:
        plan: of the services.
        ready: called once all serve.
        bound: called with the addresses once their ports are this process's.
        turn: called about every second while they serve.

    Raises:
        KluisError: it did not start, or its enclaves ended repeatedly.
    """
    with (
        listening() as requests,
        observing.logging(plan.otlp) as log,
        _metrics(plan) as fleets,
        serving(plan, SystemClock(), render.report, log, bound=bound) as running,
    ):
        fleets.extend(running.fleets)
        requests.ready = True
        ready(running)
        _watch(running, requests, turn)
        render.report("kluis: draining")


@contextlib.contextmanager
def _metrics(plan: Plan) -> Iterator[list[Fleet]]:
    """Serve the plan's metrics, if it has an address for them; yields the list of measured fleets."""
    fleets: list[Fleet] = []
    if plan.metrics is None:
        yield fleets
        return
    with observing.metrics(plan.metrics, lambda: fleets) as url:
        render.report(f"kluis: metrics at {url}")
        yield fleets


def _watch(running: Serving, requests: Asked, turn: Callable[[Serving], None] = lambda running: None) -> None:
    """Keep the instances running until a stop is requested.

    If a database or a platform is temporarily unavailable, this is reported; it ends no instance that still
    serves, and other tasks go on.

    Raises:
        KluisError: they end repeatedly; states why the last one did.
    """
    # Turns in which some ended: if the platform ends, all end at once, and that counts as one.
    recent: collections.deque[float] = collections.deque(maxlen=MOST_FAULTS)
    renewed, tended = time.monotonic(), float("-inf")
    reported: frozenset[str] = frozenset()
    waits: list[str] = []
    while not requests.stop:
        requests.wake.wait(LOOK_SECONDS)
        requests.wake.clear()
        if requests.replace:
            requests.replace = False
            _replace(running)
        faults: list[KluisError] = []
        failed = [_attempt(functools.partial(_repair, running, faults)), _attempt(running.hand_over)]
        if time.monotonic() - renewed > RENEW_SECONDS:
            failed.append(_attempt(running.rename))
            if failed[-1] is None:
                renewed = time.monotonic()
        if time.monotonic() - tended > TEND_SECONDS:
            tended, waits = time.monotonic(), _tend(running, waits)
        failed.append(_attempt(functools.partial(turn, running)))
        reported = _tell(failed, reported)
        if faults:
            recent.append(time.monotonic())
            if len(recent) == MOST_FAULTS and recent[-1] - recent[0] < FAULT_SECONDS:
                raise faults[-1]


def _attempt(step: Callable[[], None]) -> KluisError | None:
    """Run a step; return its error, if it failed."""
    try:
        step()
    except KluisError as error:
        return error
    return None


def _repair(running: Serving, faults: list[KluisError]) -> None:
    for service, fault in running.repair():
        faults.append(fault)
        render.report(f"kluis: {service}: an enclave ended and was restarted: {fault.message}")


def _tell(failed: list[KluisError | None], before: frozenset[str]) -> frozenset[str]:
    """Report what failed, except what the last turn already reported; return what is not to be repeated."""
    now = {error.message: error for error in failed if error is not None}
    for message, error in now.items():
        if message not in before:
            render.report_error(error)
    return frozenset(now)


def _tend(running: Serving, before: list[str]) -> list[str]:
    """Let the services do what is due; report repeated failures once."""
    waits = [f"kluis: {service}: what is due waits: {fault.message}" for service, fault in running.tend()]
    for line in dict.fromkeys(waits):
        if line not in before:
            render.report(line)
    return waits


def _replace(running: Serving) -> None:
    try:
        running.replace()
    except KluisError as error:
        render.report("kluis: not every enclave was restarted: those that were not go on")
        render.report_error(error)
        return
    pids = " ".join(str(one.enclave.pid) for fleet in running.fleets for one in fleet.instances)
    render.report(f"kluis: every enclave was restarted; enclaves now: {pids}")
