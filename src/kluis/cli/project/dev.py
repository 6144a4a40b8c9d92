"""``kluis dev``: run a project as a rehearsal, and restart it on each change."""

from __future__ import annotations

import contextlib
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from kluis.cli import render
from kluis.cli.image import arguments
from kluis.cli.parameters import argument, option
from kluis.cli.signals import listening as signals
from kluis.errors import KluisError, unknown
from kluis.host.proxy import EnclaveProxy
from kluis.serve.addresses import Address
from kluis.serve.application import listening
from kluis.testing.development import Development, changes, serves
from kluis.testing.rehearsal import RehearsalPlatform


def dev(
    folder: Annotated[Path, argument("A project with a kluis.toml.", "DIR")],
    ecall: Annotated[str | None, argument("The ecall to call after each start.", "ECALL")] = None,
    args: Annotated[list[str] | None, argument("As for kluis run.", "ARGS")] = None,
    listen: Annotated[str, option("Where an ASGI application listens.", "ADDRESS:PORT")] = "127.0.0.1:8443",
) -> None:
    """Run a project as a rehearsal, and restart it on each change. A rehearsal protects nothing.

    An ASGI application is served; of any other, one ecall is called, or all are listed. Until Ctrl-C.

    For example: kluis dev cohort mean_age '[61, 58, 70, 66, 49]'
    """
    with contextlib.ExitStack() as stack:
        stop_request = stack.enter_context(signals())
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kluis-dev-")))
        platform = RehearsalPlatform(state / "platform", datetime.now(UTC))
        running = stack.enter_context(
            Development(folder, platform, lambda: stack.enter_context(listening(listen)))
        )
        stop_request.ready = True
        wanted = True  # the first start follows the watch: a change during it is seen
        for changed in changes(folder, lambda: stop_request.stop):
            if fault := running.fault():
                render.error(fault)
            if wanted or changed or stop_request.replace:
                wanted = stop_request.replace = False
                _restart(running, ecall, args or [])


def _restart(running: Development, ecall: str | None, args: list[str]) -> None:
    """Restart, and show what runs; an error of the project's code is shown, and waits for its fix."""
    try:
        enclave = running.restart()
        render.note(f"rehearsal {enclave.image_id.hex()[:16]} runs, level none: it protects nothing")
        _show(enclave, running, ecall, args)
    except KluisError as error:
        if error.code == "port":
            raise
        render.error(error)


def _show(enclave: EnclaveProxy, running: Development, ecall: str | None, args: list[str]) -> None:
    declared = {one.name: one for one in enclave.interface.ecalls}
    if ecall is not None:
        if ecall not in declared:
            raise unknown("ecall", ecall, declared)
        result = enclave.call(ecall, *arguments.parse(declared[ecall], args))
        render.out(*arguments.present_result(result, None))
    elif running.listener is not None and serves(enclave.interface.ecalls):
        url = f"https://{Address(*running.listener.getsockname()[:2])}"
        render.out_row(
            {"url": url, "level": "none"}, f"{url}  (curl -k; attested clients refuse a rehearsal)"
        )
    else:
        lines = [(arguments.signature_line(one), one.doc) for one in declared.values()]
        render.out([{"ecall": line, "doc": doc} for line, doc in lines], render.table(lines))
