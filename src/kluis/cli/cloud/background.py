"""Run a function in a process that outlives this one, and report whether it began well."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from kluis.cli import main, render
from kluis.cli.cloud.places import error_of
from kluis.errors import InternalError, KluisError, UnavailableError
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.record import Fault

MOST_BYTES: Final = 1 << 20
_heard: list[int] = []


def start(folder: Folder, work: Callable[[], None]) -> int:
    """Run ``work`` in the background, with its output in the folder's log; return its pid.

    It begins well when it calls :func:`began`, and this function returns then.

    Raises:
        KluisError: as ``work`` raised it, if it did not begin.
    """
    log = _open_log(folder.log)
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _heard.append(writer)
        os._exit(_run(work, log))
    os.close(writer)
    os.close(log)
    try:
        answer = b""
        while part := os.read(reader, MOST_BYTES):
            answer += part
    except BaseException:  # Ctrl-C: what it does not wait for must not go on unseen
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        raise
    finally:
        os.close(reader)
    if answer == b"+":
        return pid
    os.waitpid(pid, 0)
    if not answer:
        raise UnavailableError(
            "the services' process ended before it began",
            hint=f"{folder.log} has its last lines",
            code="cloud_ended",
        )
    raise error_of(msgspec.json.decode(answer, type=Fault))


def began() -> None:
    """Report to the command that started this process that it may return; in the foreground, nothing."""
    _report(b"+")


def _report(answer: bytes) -> None:
    while _heard:
        writer = _heard.pop()
        with contextlib.suppress(BrokenPipeError):  # the command was killed; the services run all the same
            os.write(writer, answer)
        os.close(writer)


def _run(work: Callable[[], None], log: int) -> int:
    """Run it as the leader of a session, without a terminal; return its exit code."""
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, number)
        os.close(nothing)
        os.close(log)
        os.chdir("/")
        work()
    except KeyboardInterrupt:
        return 0
    except KluisError as error:
        return _fail(error)
    except BaseException as bug:  # noqa: BLE001 - the end of a process: all that is left is to say why
        if lack := main.lacking(["up"], bug):
            return _fail(lack)
        traceback.print_exc()
        return _fail(InternalError(f"{type(bug).__name__}: {bug}"))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _fail(error: KluisError) -> int:
    """Report the error to the command that started this process and to the log; return the exit code."""
    _report(msgspec.json.encode(Fault(error.message, error.hint, error.code, type(error).__name__)))
    return render.error(error)


def _open_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def turn_log(path: Path, most: int) -> None:
    """Begin a new log if this process's one has more than ``most`` bytes; the old one gets the ending .1."""
    if os.fstat(1).st_size <= most:
        return
    os.replace(path, path.with_suffix(".1"))
    fresh = _open_log(path)
    for number in (1, 2):
        os.dup2(fresh, number)
    os.close(fresh)
