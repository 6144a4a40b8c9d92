"""The machine that commands use when none is named: found if it runs, else its guest is built and it starts.

It ends when no host has had one of its ports for a while, as a platform ends without enclaves.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from typing import Final

from kluis.errors import FormatError, UnavailableError
from kluis.tee.process import linux
from kluis.tee.remote import RemotePlatform
from kluis.tee.vm.guest import building
from kluis.tee.vm.machine import kept
from kluis.tee.vm.machine.kept import Settings

IDLE_SECONDS: Final = 900
MEMORY_MB: Final = 1536
START_SECONDS: Final = 60.0
"""How long a machine may start before its platform answers."""
PAUSE_SECONDS: Final = 0.5


def name_of(boot: str) -> str:
    """The name of the machine for a boot: ``direct`` or ``uefi``."""
    return f"on-demand-{boot}"


def obtain(boot: str = "direct", *, say: Callable[[str], None] = lambda line: None) -> RemotePlatform:
    """The platform of the machine for a boot, which runs now.

    Args:
        boot: ``direct`` or ``uefi``.
        say: called with one line before each step that may take more than a second.

    Raises:
        UsageError: there is no such boot.
        UnavailableError: a package is missing, with the command that installs it; or the machine ended, or
            did not answer in time.
    """
    name = name_of(boot)
    if not _runs(name):
        with _alone(say):
            if not _runs(name):
                guest = kept.lasting() / "guest"
                building.build(guest, say=say)
                say(f"starting machine {name}; it ends when it is idle for {IDLE_SECONDS // 60} minutes")
                kept.start(
                    Settings(
                        name=name,
                        guest=str(guest),
                        boot=boot,
                        memory_mb=MEMORY_MB,
                        idle_seconds=IDLE_SECONDS,
                    )
                )
    return await_platform(name)


def _runs(name: str) -> bool:
    try:
        kept.show(name)
    except UnavailableError:
        return False
    return True


@contextlib.contextmanager
def _alone(say: Callable[[str], None]) -> Iterator[None]:
    """Be the only command that builds the guest and starts its machine; the others wait."""
    with (kept.lasting() / "on-demand.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command builds the guest or starts its machine; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def await_platform(name: str, seconds: float | None = None) -> RemotePlatform:
    """The platform of a machine, once it answers.

    Args:
        name: of the machine.
        seconds: how long to wait; None: ``START_SECONDS``, and longer on an emulated processor.

    Raises:
        UnavailableError: the machine ended, with the reason; or it did not answer in time, with its log.
    """
    remote = platform(name)
    limit = START_SECONDS * remote.slowness if seconds is None else seconds
    until = time.monotonic() + limit
    while (left := until - time.monotonic()) > 0:
        try:
            remote.await_answer(left)
        except (FormatError, UnavailableError):
            kept.show(name)  # states the reason if it ended
        else:
            return remote
        time.sleep(min(PAUSE_SECONDS, left))
    about = kept.show(name)
    kind, log = f"{about['accelerator']} and {about['boot']} boot", f"kluis vm console {name}"
    raise UnavailableError(
        f"machine {name}: platform: no answer in {limit:g} s, with {kind}",
        hint=f"{log} prints its log"
        if about["debug"]
        else f"{kept.debug_line(name, about['guest'])}; then {log}-debug prints its log",
        code="machine_silent",
    )


def platform(name: str) -> RemotePlatform:
    """The platform of a machine that runs on this host.

    Raises:
        UnavailableError: none of this name runs.
    """
    slowness = linux.EMULATED if kept.show(name)["accelerator"] == "tcg" else 1.0
    return RemotePlatform(lambda: kept.connect(name), slowness=slowness, ports=True)
