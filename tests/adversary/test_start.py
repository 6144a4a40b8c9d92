"""Attacks in the moment of a start and of an end, while nothing is set up yet or some of it is gone."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis.errors import KluisError
from kluis.formats.kluis import channel
from kluis.host import load
from kluis.tee.doctor import attempts
from kluis.tee.image.build import interpreter
from kluis.tee.platform.client import Platform
from kluis.tee.process import native
from tests.adversary import attacks, kernel
from tests.adversary.victim_secret import secret_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the attacker is root")
HERE = Path(__file__).parent
PLATFORM_FD = 5
WALL = 0x40000000  # __WALL of waitpid(2)
STARTS, MANY = 100, 10_000
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="module")
def racer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The racing thief, compiled."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("gcc is not installed: apt-get install gcc libc6-dev")
    made = tmp_path_factory.mktemp("racer") / "steal_heap"
    subprocess.run([compiler, "-O2", "-o", str(made), str(HERE / "racers" / "steal_heap.c")], check=True)
    return made


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The launcher outside any sandbox: it takes its heap, and then has too few arguments to go on."""
    tree = tmp_path_factory.mktemp("base") / "python"
    interpreter.write(tree, interpreter.base())
    loader = str(tree / "lib" / "ld-linux-x86-64.so.2")
    return [loader, "--library-path", str(tree / "lib"), str(tree / "bin" / "kluis-launcher")]


def race(racer: Path, launcher: list[str], how: str, starts: int) -> tuple[int, int]:
    """Race so many starts: the heaps got in use, and those that their enclave had dropped.

    On a busy machine the thief may not run once while a launcher starts: then all start again.
    """
    started = [str(native.guardian()), "0", "0", str(768 << 20), "nothing", *launcher]
    while True:
        said = subprocess.run(
            [str(racer), how, str(starts), *started], capture_output=True, text=True, check=True
        )
        done, used, dropped, tries = (int(number) for number in said.stdout.split())
        assert done == starts
        if tries:
            return used, dropped


@pytest.mark.parametrize("how", ["7", "64", "blind", "stop"])
def test_heap_descriptor(racer: Path, launcher: list[str], how: str) -> None:
    """Root duplicates the heap's descriptor while a launcher starts: by number, blindly, by stopping it.

    A blind thief has a short moment, which the test of ten thousand starts measures.
    """
    assert race(racer, launcher, how, STARTS)[0] <= (how == "blind")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["7", "blind"])
def test_heap_descriptor_ten_thousand_times(racer: Path, launcher: list[str], how: str) -> None:
    """In 10,000 starts a blind thief gets at most a few: the moment is there, and it is short."""
    assert race(racer, launcher, how, MANY)[0] <= MANY // 1000


STEAL = """
import gdb, os, ctypes
libc = ctypes.CDLL(None, use_errno=True)
got = 0
gdb.execute("set confirm off")
gdb.execute("catch syscall ftruncate")
gdb.execute("run")
kept = []
while gdb.selected_inferior().pid:
    entering = int(gdb.parse_and_eval("$rax")) == -38
    if entering:
        pidfd = os.pidfd_open(gdb.selected_inferior().pid)
        number = int(gdb.parse_and_eval("$rdi"))
        stolen = libc.syscall(438, pidfd, number, 0)
        kept += [stolen]
    try:
        gdb.execute("continue")
    except gdb.error:
        break
used = 0
import mmap
for stolen in kept:
    with mmap.mmap(stolen, 4096) as page:
        used += page[:8] != bytes(8)
print("STOLEN", len(kept), "USED", used)
"""


def test_a_start_that_is_held_drops_its_heap(launcher: list[str], tmp_path: Path) -> None:
    """A debugger that holds a launcher in the very moment gets a heap each time, and never one in use."""
    (tmp_path / "steal.py").write_text(STEAL)
    line = ["gdb", "-batch", "-nx", "-iex", "set auto-load off", "-iex", "set disable-randomization on"]
    line += ["-ex", f"set environment KLUIS_REGION {768 << 20}", "-ex", "set startup-with-shell off"]
    line += ["-x", str(tmp_path / "steal.py"), "--args", *launcher]
    _, said = attacks.tool(*line)

    assert "STOLEN 64 USED 0" in said, said


# ---- every reading attack, in the midst of starts and ends


def by_memory_file(pid: int) -> bytes:
    """What /proc/PID/mem gives of the largest mappings."""
    got = b""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            low, high = (int(end, 16) for end in line.split()[0].split("-"))
            if "w" in line.split()[1]:
                with contextlib.suppress(OSError):
                    memory.seek(low)
                    got += memory.read(min(high - low, 8 << 20)) or b""
    return got


def by_descriptors(pid: int) -> bytes:
    """What each of its descriptors leads to."""
    got = b""
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError, ValueError):
                stolen = attacks.steal(pid, int(name))
                try:
                    if "secretmem" in os.readlink(f"/proc/self/fd/{stolen}"):
                        got += b"secretmem"
                finally:
                    os.close(stolen)
    return got


def by_debugger(pid: int) -> bytes:
    """Become its tracer."""
    if attacks.seize(pid, attacks.SUSPEND_SECCOMP) == 0:
        interrupt, detach = (ctypes.c_long(0x4207), ctypes.c_long(17))
        rest = (ctypes.c_long(pid), ctypes.c_long(0), ctypes.c_long(0))
        _libc.syscall(ctypes.c_long(101), interrupt, *rest)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, WALL)
        _libc.syscall(ctypes.c_long(101), detach, *rest)
    return b""


def by_stopping(pid: int) -> bytes:
    """Stop it and let it go on, again and again."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.005)
        os.kill(pid, signal.SIGCONT)
    return b""


def by_map_files(pid: int) -> bytes:
    """What the files that it has mapped give."""
    got = b""
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/map_files").iterdir():
            with contextlib.suppress(OSError):
                if "secretmem" in os.readlink(link):
                    got += link.read_bytes()
    return got


def by_memory_call(pid: int) -> bytes:
    """What process_vm_readv gives of all that it may read itself: the needle, if it was there."""
    needle = secret_of("at start")
    return needle if attempts.by_memory_call(pid, needle).copies else b""


def by_ring(pid: int) -> bytes:
    """What an io_uring reads of /proc/PID/mem: the needle, if it was there."""
    needle = secret_of("at start")
    return needle if kernel.by_ring(pid, needle)[1] else b""


def by_another_user(pid: int) -> bytes:
    """What another user reads of the files under /proc/PID."""
    code = "import sys\nfor name in ('mem', 'environ', 'maps', 'auxv'):\n"
    code += " try: print('secretmem' if open(f'/proc/{sys.argv[1]}/{name}', 'rb').read(9) else 'gone')\n"
    code += " except OSError as error: print(type(error).__name__)\n"
    return attacks.as_user(attacks.NOBODY, code, str(pid)).encode()


def by_gcore(pid: int) -> bytes:
    """The core that gcore writes."""
    with tempfile.TemporaryDirectory() as place:
        attacks.tool("gcore", "-o", f"{place}/core", str(pid))
        return b"".join(file.read_bytes() for file in Path(place).iterdir())


def by_strace(pid: int) -> bytes:
    """What strace sees of its calls within a moment."""
    return attacks.tool("timeout", "0.1", "strace", "-s", "200", "-f", "-p", str(pid))[1].encode()


def by_py_spy(pid: int) -> bytes:
    """The stacks and locals that py-spy shows."""
    spy = shutil.which("py-spy") or str(Path(sys.executable).parent / "py-spy")
    return attacks.tool(spy, "dump", "--locals", "--nonblocking", "--pid", str(pid))[1].encode()


def by_public_files(pid: int) -> bytes:
    """The kernel's information about it in other files."""
    names = ("environ", "cmdline", "smaps", "stack", "status", "syscall", "auxv")
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes().replace(b"secretmem", b"") for name in names)


def by_crash(pid: int) -> bytes:
    """What a crash leaves where cores go."""
    os.kill(pid, signal.SIGSEGV)
    attacks.gone_within(pid, attacks.SOON)
    return b"".join(file.read_bytes() for place in (Path("/"), Path()) for file in place.glob(f"core*{pid}*"))


def by_gdb(pid: int) -> bytes:
    """The stacks and locals that gdb shows."""
    return attacks.tool("gdb", "-batch", "-nx", "-p", str(pid), "-ex", "bt full")[1].encode()


READINGS = [
    by_memory_file,
    by_memory_call,
    by_ring,
    by_another_user,
    by_descriptors,
    by_map_files,
    by_debugger,
    by_stopping,
    by_crash,
]
TOOLS = [by_public_files, by_gdb, by_gcore, by_strace, by_py_spy]
"""Each try of these takes long, or slows the enclave down."""
DEBUGGERS = (by_debugger, by_gdb, by_gcore, by_strace, by_crash)
"""Where one comes before the guardian, there is no enclave; nor is there one that crashed."""


@pytest.fixture
def spawner(platform: Platform) -> int:
    """The tests' platform's, and nobody else's."""
    return attacks.spawner_of(int(platform.status()["pid"]))


@contextlib.contextmanager
def under(spawner: int, attack: Callable[[int], bytes]) -> Iterator[list[bytes]]:
    """Have every enclave attacked all the time, from its first moment to its last; what was got."""
    got: list[bytes] = []
    over = threading.Event()

    def attacker() -> None:
        while not over.wait(0.0005):
            for pid in attacks.launchers(spawner):
                with contextlib.suppress(OSError):  # it is gone meanwhile
                    got.append(attack(pid))

    thread = threading.Thread(target=attacker)
    thread.start()
    try:
        yield got
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("attack", "starts"),
    [
        *((each, 2) for each in READINGS),
        *(pytest.param(each, 5, marks=pytest.mark.slow) for each in (*READINGS, *TOOLS)),
    ],
)
def test_in_the_midst(victim_image: Path, spawner: int, attack: Callable[[int], bytes], starts: int) -> None:
    """Starts and ends under attack: nothing of the heap is got, and none runs without its guardian."""
    started = 0
    with under(spawner, attack) as got:
        for _ in range(starts):
            with contextlib.suppress(KluisError), load(victim_image) as enclave:
                assert enclave.alive() == "alive"
                assert attacks.guardian_of(enclave.pid) not in (0, os.getpid())
                started += 1

    assert len(got) > (
        min(2, starts - 1) if attack in (*TOOLS, by_crash) else starts
    )  # an enclave crashes once
    assert not [data for data in got if secret_of("at start") in data or b"secretmem" in data]
    assert started or attack in DEBUGGERS


def test_a_debugger_before_the_guardian(victim_image: Path, spawner: int) -> None:
    """Root traces whatever the spawner starts, from before the guardian can: there is no enclave then."""
    code = "import ctypes,sys,os,time\nlibc=ctypes.CDLL(None,use_errno=True)\n"
    code += "assert not libc.syscall(101,0x4206,int(sys.argv[1]),0,2|4|8),ctypes.get_errno()\n"
    code += "print('ready',flush=True)\n"
    code += "while True:\n try: pid,status=os.waitpid(-1,0x40000000)\n except ChildProcessError: break\n"
    code += " if os.WIFSTOPPED(status): libc.syscall(101,7,pid,0,0 if status>>16 else os.WSTOPSIG(status))\n"
    with subprocess.Popen([sys.executable, "-I", "-c", code, str(spawner)], stdout=subprocess.PIPE) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == b"ready\n"
        try:
            with pytest.raises(KluisError, match="guard"):
                load(victim_image)
        finally:
            tracer.kill()
    with load(victim_image) as enclave:
        assert enclave.alive() == "alive"


def test_the_guardian_is_traced_before_the_enclave_runs(victim_image: Path, spawner: int) -> None:
    """At no time is there an enclave whose guardian root could debug: one that ended has none."""
    seized: list[int] = []

    def attack(pid: int) -> bytes:
        with contextlib.suppress(OSError, ValueError):
            guardian = attacks.guardian_of(pid)
            if guardian and attacks.seize(guardian, 0) == 0:
                if not attacks.gone_within(pid, 0.2):
                    seized.append(guardian)
                elif attacks.gone_within(guardian, attacks.SOON):
                    os.waitpid(guardian, WALL)  # its parent sees its end after its tracer
        return b""

    with under(spawner, attack) as got:
        for _ in range(3):
            with load(victim_image) as enclave:
                assert attacks.seize(attacks.guardian_of(enclave.pid), 0) == errno.EPERM
    assert got
    assert not seized


def forged_handshake(pid: int) -> bytes:
    """Speak first on an enclave's channel to its platform, as a sender whose pid is the enclave's."""
    offer = channel.Offer()
    try:
        with socket.socket(fileno=attacks.steal(pid, PLATFORM_FD)) as end:
            end.settimeout(0.5)
            end.send(channel.READY)
            end.recv(channel.CHALLENGE_SIZE)
            credentials = struct.pack("iII", pid, 0, 0)
            end.sendmsg([offer.hello], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
            answer = end.recv(channel.MAX_FRAME)
            session = offer.accept(answer, answer[-32:])
            end.send(session.seal_request(channel.SealKey("measurement", 0, bytes(32), bytes(16))))
            return bytes(end.recv(channel.MAX_FRAME))
    except (OSError, KluisError):
        return b""


def test_a_first_handshake_with_forged_credentials(victim_image: Path, spawner: int) -> None:
    """Root may send as any process; the platform still gives it no session, and no key."""
    with under(spawner, forged_handshake) as got:
        for _ in range(3):
            with contextlib.suppress(KluisError), load(victim_image):
                pass

    assert got
    assert not any(got)
