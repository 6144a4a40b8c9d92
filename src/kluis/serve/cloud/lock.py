"""The lock of a local cloud's folder: the kernel releases it when its process ends, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from typing import Final

from kluis.errors import KluisError, UnavailableError
from kluis.serve.cloud import processes, record
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.processes import Process

# A look at the lock holds it for microseconds, and a process that is killed for as long as it takes to end.
WAIT_SECONDS: Final = 5.0
_STEP_SECONDS: Final = 0.01
_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def occupy(folder: Folder) -> Iterator[None]:
    """Be the only process that runs the services of this folder, while the ``with`` lasts.

    Raises:
        UnavailableError: another process runs them.
    """
    descriptor = os.open(folder.path / "lock", _FLAGS | os.O_CREAT, 0o600)
    try:
        end = time.monotonic() + WAIT_SECONDS
        while not _lock(descriptor, fcntl.LOCK_EX):
            if (process := holder(folder)) is not None or time.monotonic() > end:
                raise refusal(folder, process)
            time.sleep(_STEP_SECONDS)
        yield
    finally:
        os.close(descriptor)


def is_occupied(folder: Folder) -> bool:
    """Whether a process runs the services of this folder."""
    try:
        descriptor = os.open(folder.path / "lock", _FLAGS)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def holder(folder: Folder) -> Process | None:
    """The process that the record names, if it runs; None without a readable record."""
    try:
        run = record.read(folder)
    except KluisError:
        return None
    return run.process if run is not None and processes.runs(run.process) else None


def refusal(folder: Folder, process: Process | None) -> UnavailableError:
    """The error for services that run already."""
    named = "" if process is None else f", as process {process.pid}"
    return UnavailableError(
        f"{folder.path}: its services run already{named}",
        hint="kluis status shows them; kluis down stops them",
        code="cloud_runs",
    )


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
