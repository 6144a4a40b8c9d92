"""The pages about this machine: what runs on it, and what it protects."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kluis.console.state import Console, platform
from kluis.errors import KluisError
from kluis.evidence.levels import MEANINGS, Meaning, ProtectionLevel
from kluis.formats.sgx import tcb_info
from kluis.formats.sgx.collateral import Collateral
from kluis.frozen import frozen
from kluis.serve.cloud import lock, record
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.record import Service
from kluis.tee.doctor import Part, State
from kluis.tee.vm.machine import kept


@frozen
class Here:
    """What runs on this machine.

    Attributes:
        platform: its status; None if none runs.
        endorsed: when the collateral of its evidence was issued, and until when it is valid.
        enclaves: as :meth:`~kluis.tee.platform.client.Platform.enclaves`, with aware times.
        services: of the local cloud that runs; its processes are among the enclaves.
        machines: as :func:`~kluis.tee.vm.machine.kept.list_machines`.
        problems: what could not be found out.
    """

    platform: dict[str, Any] | None
    endorsed: tuple[datetime.datetime, datetime.datetime] | None
    enclaves: list[dict[str, Any]]
    services: tuple[Service, ...]
    machines: list[dict[str, Any]]
    problems: list[KluisError]

    @property
    def started(self) -> datetime.datetime | None:
        """When the platform was started; None if none runs."""
        return None if self.platform is None else datetime.datetime.fromisoformat(self.platform["started"])

    def meaning(self, level: str) -> Meaning | None:
        """What a level means; None for an unknown one."""
        return MEANINGS.get(ProtectionLevel(level)) if level in set(ProtectionLevel) else None


def look(cloud: Path | None = None) -> Here:
    """Find out what runs on this machine; nothing is started.

    Args:
        cloud: the folder of the local cloud; None: there is none.
    """
    status, endorsed, enclaves, machines = None, None, [], []
    problems = []
    own = platform()
    try:
        if own is not None:
            status = own.status()
            enclaves = [
                {**each, "started": datetime.datetime.fromisoformat(each["started"])}
                for each in own.enclaves()
            ]
            info = tcb_info.parse_tcb_info(Collateral.from_json(own.collateral()).tcb_info)
            endorsed = (info.issued, info.next_update)
    except KluisError as error:
        problems.append(error)
    services: tuple[Service, ...] = ()
    try:
        services = _services(cloud)
    except KluisError as error:
        problems.append(error)
    try:
        machines = kept.list_machines()
    except KluisError as error:
        problems.append(error)
    return Here(status, endorsed, enclaves, services, machines, problems)


def _services(cloud: Path | None) -> tuple[Service, ...]:
    """The services of the local cloud in a folder; none if it does not run."""
    if cloud is None or not cloud.exists():
        return ()
    folder = Folder.open(cloud)
    run = record.read(folder)
    return run.services if run is not None and lock.is_occupied(folder) else ()


async def running(console: Console, request: Request) -> Response:
    """What runs here."""
    here = await run_in_threadpool(look, console.cloud)
    return console.pages.page(request, "running.html", here=here, now=console.now())


async def protections(console: Console, request: Request) -> Response:
    """What this machine protects, and how to improve it."""
    examination = console.examination
    if examination.found is None and examination.fault is None:
        examination.start()
    time, findings = examination.found or (None, ())
    parts = [(part, [each for each in findings if each.part is part]) for part in Part]
    return console.pages.page(
        request,
        "machine.html",
        busy=examination.running,
        time=time,
        fault=examination.fault,
        parts=[(part, rows) for part, rows in parts if rows],
        missing=[each.name for each in findings if each.state is State.MISSING],
        now=console.now(),
    )


async def examine_again(console: Console, request: Request, form: FormData) -> Response:
    """Begin another examination."""
    console.examination.start()
    return RedirectResponse("/machine", 303)
