"""A start and an end that root holds at one step, by SIGSTOP or the freezer, to read in its own time."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis.errors import EnclaveDied, KluisError
from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.tee.doctor import attempts
from kluis.tee.platform.client import Platform
from tests.adversary import attacks, kernel
from tests.adversary.victim_secret import secret_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the attacker is root")
NEEDLE = secret_of("at start")
LAUNCHER = "kluis-launcher"
SERVING = 4
"""Threads of an enclave whose application was imported, and so holds the needle."""

SEIZE, DETACH, GETREGS, PEEKDATA, TRACE_EXIT, EVENT_EXIT = 0x4206, 17, 12, 2, 1 << 6, 6
WALL = 0x40000000  # __WALL of waitpid(2)
_libc = ctypes.CDLL(None, use_errno=True)

Hold = Callable[[int, int], contextlib.AbstractContextManager[None]]


# ---- how it is held


@contextlib.contextmanager
def stopped(*pids: int, resumed: bool) -> Iterator[None]:
    """SIGSTOP, and SIGCONT afterwards. What no tracer resumes is ended: it would stay stopped.

    A guardian resumes its enclave, though not at once; nothing resumes a guardian.
    """
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                os.kill(pid, signal.SIGCONT)
                if not resumed and attacks.status(pid)["State"].startswith("t"):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """A group of the freezer."""
    with kernel.group("freezer") as place, kernel.frozen(place, *pids):
        yield


HOLDS: dict[str, Hold] = {
    "stop": lambda pid, _guardian: stopped(pid, resumed=True),
    "stop the guardian": lambda _pid, guardian: stopped(guardian, resumed=False),
    "freeze": lambda pid, _guardian: frozen(pid),
    "freeze the guardian": lambda _pid, guardian: frozen(guardian),
    "freeze both": lambda pid, guardian: frozen(pid, guardian),
}


# ---- where it is held


def maps(pid: int) -> str:
    """What it has mapped."""
    return Path(f"/proc/{pid}/maps").read_text()


LAST_LOOKS = 1000
STEPS: dict[str, Callable[[int], bool]] = {
    "there is a process": lambda _pid: True,
    "the launcher runs": lambda pid: os.readlink(f"/proc/{pid}/exe").endswith(LAUNCHER),
    "it has its heap": lambda pid: "secretmem" in maps(pid),
    "the runtime is loaded": lambda pid: "cryptography" in maps(pid),
    "the application is imported": lambda pid: "_ctypes." in maps(pid),
    "it serves": lambda pid: len(os.listdir(f"/proc/{pid}/task")) >= SERVING,
}


@pytest.fixture
def spawner(platform: Platform) -> int:
    """The tests' platform's."""
    return attacks.spawner_of(int(platform.status()["pid"]))


def reached(
    spawner: int,
    step: Callable[[int], bool],
    before: frozenset[int],
    starting: threading.Thread,
    ended: list[EnclaveProxy | KluisError],
) -> tuple[int, int]:
    """Wait for an enclave that is not one of ``before`` to come to a step, or for its start to end.

    No step is left again before the enclave ends: a late look finds it too. The kernel's list of a process's
    children may miss one while others come and go, so the last look is repeated.

    Returns:
        Its pid, and its guardian's.
    """
    looks = LAST_LOOKS
    while looks:
        looks = LAST_LOOKS if starting.is_alive() else looks - 1  # before the search, and not after it
        for pid in attacks.launchers(spawner):
            with contextlib.suppress(OSError):
                if pid not in before and step(pid):
                    return pid, int(attacks.status(pid)["PPid"])
        time.sleep(0.0005)  # the start needs the processor too
    raise LookupError(f"no enclave came to this step, and its start ended: {ended}")


def heap_bytes(pid: int) -> int:
    """Bytes that come of the heap itself, be there anything on it or not."""
    got = 0
    with contextlib.suppress(OSError), open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps(pid).splitlines():
            if "secretmem" in line:
                with contextlib.suppress(OSError):
                    memory.seek(int(line.split("-")[0], 16))
                    got += len(memory.read(4096) or b"")
    return got


def read(pid: int) -> None:
    """Read all that can be read, by file, by call and as a tracer: no secret, no page of the heap."""
    assert not attempts.by_memory_file(pid, NEEDLE).copies
    assert not attempts.by_memory_call(pid, NEEDLE).copies
    assert heap_bytes(pid) == 0
    tracer = threading.Thread(target=attacks.seize, args=(pid, attacks.SUSPEND_SECCOMP))
    tracer.start()
    tracer.join()  # with its end it traces nobody


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("hold", HOLDS)
def test_a_start(victim_image: Path, spawner: int, hold: str, step: str) -> None:
    """What is held at a step and read goes on afterwards, or ends; nothing of its heap is read."""
    ended: list[EnclaveProxy | KluisError] = []

    def start() -> None:
        try:
            ended.append(load(victim_image))
        except KluisError as error:
            ended.append(error)

    before = frozenset(attacks.launchers(spawner))  # one that an earlier test ended may still be there
    starting = threading.Thread(target=start)
    starting.start()
    try:
        pid, guardian = reached(spawner, STEPS[step], before, starting, ended)
        with HOLDS[hold](pid, guardian):
            read(pid)
    except BaseException:
        starting.join()
        for each in ended:  # its sockets would disturb other tests
            if isinstance(each, EnclaveProxy):
                each.close()
        raise
    starting.join()
    if isinstance(enclave := ended[0], EnclaveProxy):
        # One whose guardian was held may end with it; one that was held itself goes on.
        with enclave, contextlib.suppress(*([EnclaveDied] if hold not in ("stop", "freeze") else [])):
            assert enclave.alive() == "alive"
            assert attacks.guardian_of(enclave.pid) == guardian or attacks.gone_within(pid, attacks.SOON)


@pytest.mark.parametrize("end", ["its guardian is killed", "its host hangs up"])
@pytest.mark.parametrize("hold", HOLDS)
def test_an_end(victim_image: Path, spawner: int, hold: str, end: str) -> None:
    """What is held as it ends, and read, ends; nothing of its heap is read."""
    enclave = load(victim_image)
    pid, guardian = enclave.pid, attacks.guardian_of(enclave.pid)
    assert guardian  # 0 would be this test's own group
    closing = threading.Thread(target=enclave.close)
    with HOLDS[hold](pid, guardian):
        if end == "its guardian is killed":
            os.kill(guardian, signal.SIGKILL)
        closing.start()
        read(pid)
    closing.join()

    assert attacks.gone_within(pid, attacks.SOON)


# ---- a tracer of one that ends


def trace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    """One request of ptrace(2): 0 or more, or the negative errno."""
    arguments = [ctypes.c_long(each) for each in (101, request, pid, address, data)]
    got = int(_libc.syscall(*arguments))
    return got if got >= 0 else -ctypes.get_errno()


def at_exit(pid: int, thaw: Callable[[], None]) -> tuple[bool, int, int]:
    """Trace one that was killed and is frozen, and stop it in its exit.

    Returns:
        Whether it stopped; what PTRACE_GETREGS gave; what a peek at its heap gave.
    """
    heap = next(int(line.split("-")[0], 16) for line in maps(pid).splitlines() if "secretmem" in line)
    assert trace(SEIZE, pid, 0, TRACE_EXIT) == 0
    thaw()
    _, status = os.waitpid(pid, WALL)
    found = ctypes.create_string_buffer(512)
    stopped_so = status >> 8 == signal.SIGTRAP | EVENT_EXIT << 8
    registers = trace(GETREGS, pid, 0, ctypes.addressof(found))
    peeked = trace(PEEKDATA, pid, heap, ctypes.addressof(found))
    read(pid)
    trace(DETACH, pid)
    return stopped_so, registers, peeked


def test_a_tracer_of_one_that_ends(victim_image: Path, spawner: int) -> None:
    """Root freezes an enclave, kills its guardian, and traces it: it stops in its exit, and shows no heap."""
    enclave = load(victim_image)
    pid, guardian = enclave.pid, attacks.guardian_of(enclave.pid)
    assert guardian  # 0 would be this test's own group
    with kernel.group("freezer") as place, kernel.frozen(place, pid):
        os.kill(guardian, signal.SIGKILL)
        # The first process of a namespace is not gone before all others are, and this one is frozen.
        until = time.monotonic() + attacks.SOON
        while attacks.guardian_of(pid) and time.monotonic() < until:
            time.sleep(0.001)
        stopped_so, registers, peeked = at_exit(
            pid, lambda: (place / "freezer.state").write_text("THAWED") and None
        )
    enclave.close()

    assert attacks.gone_within(pid, attacks.SOON)
    assert (stopped_so, registers, peeked) == (True, 0, -errno.EIO)
