"""The option of every command of the local cloud: where its state is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from kluis.cli.parameters import option
from kluis.errors import BY_NAME, InternalError, KluisError, UnavailableError
from kluis.serve.cloud import lock, record, variables
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.record import Fault, Run

State = Annotated[
    Path | None,
    option("The local cloud's folder. [default: KLUIS_CLOUD, or the user's data]", "DIR", "--state"),
]


def path_of(state: Path | None) -> Path:
    """The folder that an option, the environment or the user's data names; absolute."""
    if state is not None:
        return state.absolute()
    if named := os.environ.get(variables.FOLDER):
        return Path(named).absolute()
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base).absolute() / "kluis" / "cloud"


def running(state: Path | None) -> tuple[Folder, Run]:
    """The folder and the record of services that start or run.

    Raises:
        UnavailableError: none do; with the reason if they ended by themselves.
    """
    folder = Folder.open(path_of(state))
    run = record.read(folder)
    if lock.is_occupied(folder):
        # A process that has just begun has no record yet.
        if run is None or lock.holder(folder) is None:
            raise beginning(folder)
        return folder, run
    if run is not None and run.fault is not None:
        raise error_of(run.fault)
    if run is not None:
        raise UnavailableError(
            f"{folder.path}: its services ended without a word, as if by kill -9",
            hint=f"kluis up -d starts them again; {folder.log} has their last lines",
            code="cloud_ended",
        )
    raise stopped_error(folder)


def beginning(folder: Folder) -> UnavailableError:
    """The error for a process that has begun, and has written no record yet."""
    return UnavailableError(
        f"{folder.path}: its services begin to start", hint="kluis wait", code="cloud_starting"
    )


def stopped_error(folder: Folder) -> UnavailableError:
    """The error for services that do not run."""
    return UnavailableError(f"{folder.path}: no services run", hint="kluis up -d", code="cloud_stopped")


def error_of(fault: Fault) -> KluisError:
    """The error that another process recorded, of the same kind."""
    kinds: dict[str, type[KluisError]] = {**BY_NAME, InternalError.__name__: InternalError}
    return kinds.get(fault.kind, UnavailableError)(fault.message, hint=fault.hint, code=fault.code)
