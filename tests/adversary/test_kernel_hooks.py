"""Less usual ways into an enclave: hooks of the kernel and of the loader, control groups, checkpoints."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import secrets
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.errors import KluisError
from kluis.formats.kluis import channel
from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from tests.adversary import attacks, kernel
from tests.adversary.victim_secret import secret_of

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the attacker is root"),
    pytest.mark.slow,  # for a moment, some of these change what the whole machine does
]
HERE = Path(__file__).parent
COPIES = 2000
PLAIN = "import sys,hashlib;s=b'PLANTED-'+hashlib.sha256(sys.argv[1].encode()).hexdigest().encode();"
PLAIN += "h=[s+str(n).encode() for n in range(2000)];print('ready',flush=True);sys.stdin.read()"
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def plain(seed: str) -> Iterator[int]:
    """An ordinary process that holds a secret, on which each attack must succeed."""
    line = [sys.executable, "-I", "-c", PLAIN, seed]
    with subprocess.Popen(line, stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


# ---- a handler of core dumps


HANDLER = """#!/bin/sh
case " $2 $3 " in
*" $1 "*) cat > "$4/core.$1"; [ "$1" = "$3" ] && : > "$4/written";;
*) cat > /dev/null;; esac
"""
PATTERN = Path("/proc/sys/kernel/core_pattern")


def test_a_handler_of_core_dumps(victim_image: Path) -> None:
    """A handler that root registers gets the core of an ordinary process, and none of an enclave."""
    seed = secrets.token_hex(8)
    place = Path(tempfile.mkdtemp(prefix="kh", dir="/run"))  # a pattern has 127 characters
    (place / "h").write_text(HANDLER)
    (place / "h").chmod(0o755)
    try:
        with load(victim_image) as enclave, plain(seed) as other:
            pid = enclave.pid
            enclave.plant(seed, COPIES)
            before = PATTERN.read_text()
            try:
                PATTERN.write_text(f"|{place}/h %P {pid} {other} {place}")
                os.kill(other, signal.SIGSEGV)
                enclave.submit("crash")
                ended = attacks.gone_within(pid, 0.9)
            finally:
                PATTERN.write_text(before)
            if not ended:
                pytest.skip("the crash took longer than the machine's pattern may be changed")
            until = time.monotonic() + attacks.SOON
            core = place / f"core.{other}"
            while not (place / "written").exists() and time.monotonic() < until:
                time.sleep(0.01)
            assert core.read_bytes().count(secret_of(seed)) >= COPIES
            assert not (place / f"core.{pid}").exists()
    finally:
        shutil.rmtree(place)


# ---- the environment of who starts the platform


ENVIRONMENT = """
import json, sys
from pathlib import Path
from kluis.host import load
from kluis.tee.platform import start
from kluis.tee import places
from kluis.tee.platform.client import Platform
guard = lambda pid: int(Path(f"/proc/{pid}/status").read_text().partition("TracerPid:")[2].split()[0])
named = lambda pid: [part.split("=")[0] for part in Path(f"/proc/{pid}/environ").read_text().split("\\0")]
mapped = lambda pid: sys.argv[2] in Path(f"/proc/{pid}/maps").read_text()
try:
    running = Platform(start.start())
    daemon = int(running.status()["pid"])
    with load(sys.argv[1]) as enclave:
        inside = (enclave.pid, guard(enclave.pid), daemon, guard(daemon))
        names = sorted({*enclave.environment(), *named(daemon)})
        print(json.dumps([mapped("self"), [mapped(pid) for pid in inside], names]))
finally:
    start.stop(places.mine())
"""


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_AUDIT"])
def test_the_platforms_environment(victim_image: Path, tmp_path: Path, name: str) -> None:
    """A library that the host's environment names is in neither daemon, guardian nor enclave."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("gcc is not installed: apt-get install gcc libc6-dev")
    library = tmp_path / "injected.so"
    source = HERE / "racers" / "injected.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    home = Path(tempfile.mkdtemp(prefix="kluis-adversary-", dir="/run"))
    home.chmod(0o755)
    own = {"KLUIS_HOME": str(home), name: str(library), "GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", ENVIRONMENT, str(victim_image), library.name],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=False,
            cwd=HERE.parent.parent,
        )
    finally:
        shutil.rmtree(home, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    host, inside, environment = json.loads(done.stdout)

    assert host is True
    assert inside == [False] * 4
    assert "KLUIS_PLATFORM_SETTINGS" in environment  # the daemon's was read
    assert not {"LD_PRELOAD", "LD_AUDIT", "GLIBC_TUNABLES"} & set(environment)


# ---- checkpoints


def test_criu(victim: EnclaveProxy, tmp_path: Path) -> None:
    """CRIU dumps an ordinary process with its secret, and of an enclave nothing."""
    criu = shutil.which("criu")
    if criu is None:
        pytest.skip("criu is not installed: apt-get install criu")
    seed = secrets.token_hex(8)
    victim.plant(seed, COPIES)
    found = {}
    with plain(seed) as other:
        for pid in (other, victim.pid):
            images = tmp_path / str(pid)
            images.mkdir()
            line = [criu, "dump", "--tree", str(pid), "--images-dir", str(images), "--leave-running"]
            attacks.tool(*line, "--shell-job", "--file-locks", "--ext-unix-sk", "--tcp-established")
            found[pid] = sum(file.read_bytes().count(secret_of(seed)) for file in images.iterdir())
        if not found[other]:
            pytest.skip("criu does not dump an ordinary process on this machine")

        assert found[victim.pid] == 0
    assert victim.alive() == "alive"


# ---- control groups


def test_frozen(victim: EnclaveProxy) -> None:
    """Root freezes an enclave and takes its time to read it: nothing of its heap, and it lives on."""
    seed = secrets.token_hex(8)
    victim.plant(seed, COPIES)
    with kernel.group("freezer") as place, plain(seed) as other, kernel.frozen(place, victim.pid, other):
        assert attacks.copies(other, seed)[1] >= COPIES
        read, found = attacks.copies(victim.pid, seed)
        refused = attacks.seize(victim.pid, attacks.SUSPEND_SECCOMP)

    assert read > 1 << 20
    assert found == 0
    assert refused == errno.EPERM
    assert victim.alive() == "alive"


def test_no_memory_left(victim_image: Path, victim: EnclaveProxy) -> None:
    """An enclave whose group has no more memory ends, tells nothing of its heap, and ends no other."""
    seed = secrets.token_hex(8)
    with open("/dev/kmsg", "rb", buffering=0) as log, kernel.group("memory") as place:
        os.set_blocking(log.fileno(), False)
        os.lseek(log.fileno(), 0, os.SEEK_END)
        with load(victim_image) as enclave:
            pid = enclave.pid
            enclave.plant(seed, COPIES)
            (place / "cgroup.procs").write_text(str(pid))
            (place / "memory.limit_in_bytes").write_text(str(32 << 20))
            with pytest.raises(KluisError) as raised:
                enclave.exhaust()
            assert attacks.gone_within(pid, attacks.SOON)
        events = (place / "memory.oom_control").read_text()
        said = b""
        with contextlib.suppress(BlockingIOError):
            while record := log.read(8192):
                said += record

    assert "oom_kill 0" not in events.splitlines()
    assert str(pid).encode() in said
    assert secret_of(seed) not in said
    assert b"PLANTED" not in said
    assert "PLANTED" not in str(raised.value)
    assert victim.alive() == "alive"


# ---- userfaultfd


USERFAULTFD, UFFDIO_API, UFFDIO_REGISTER = 323, 0xC018AA3F, 0xC020AA00
UFFD_API, MISSING = 0xAA, 1


def faults(low: int, size: int) -> int:
    """Ask for the faults of a span; 0, or the errno of the refusal."""
    descriptor = _libc.syscall(USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        pytest.skip("no userfaultfd in this kernel")
    try:
        fcntl.ioctl(descriptor, UFFDIO_API, bytearray(struct.pack("QQQ", UFFD_API, 0, 0)))
        fcntl.ioctl(descriptor, UFFDIO_REGISTER, bytearray(struct.pack("QQQQ", low, size, MISSING, 0)))
    except OSError as error:
        return error.errno or -1
    finally:
        os.close(descriptor)
    return 0


def test_userfaultfd(victim: EnclaveProxy) -> None:
    """Root serves faults only of root's memory: it cannot serve the enclave's, and none are available
    inside.
    """
    page = mmap.mmap(-1, 1 << 16)
    view = (ctypes.c_char * (1 << 16)).from_buffer(page)
    assert faults(ctypes.addressof(view), 1 << 16) == 0
    lines = Path(f"/proc/{victim.pid}/maps").read_text().splitlines()
    heap = [line for line in lines if "secretmem" in line]
    assert heap
    for line in heap:
        low, high = (int(end, 16) for end in line.split()[0].split("-"))
        assert faults(low, high - low) in (errno.EINVAL, errno.ENOMEM)
    assert victim.escape("userfaultfd").startswith(("PermissionError", "OSError"))
    assert victim.alive() == "alive"


# ---- io_uring


def test_io_uring(victim: EnclaveProxy) -> None:
    """An io_uring reads for root what root reads itself: not the heap. Inside there is none."""
    seed = secrets.token_hex(8)
    victim.plant(seed, COPIES)
    with plain(seed) as other:
        assert kernel.by_ring(other, secret_of(seed))[1] >= COPIES
    read, found = kernel.by_ring(victim.pid, secret_of(seed))

    assert read > 1 << 20
    assert found == 0
    assert victim.escape("io_uring").startswith(("PermissionError", "OSError"))


# ---- interpreters of binaries


def interpreted(image: Path, place: Path, program: str, macros: dict[str, str], how: str = "") -> str:
    """Have an interpreter run in a program's place, and launch: what was said.

    All of it is in a user namespace of the test's own, whose entries are no other process's.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("gcc is not installed: apt-get install gcc libc6-dev")
    defined = [f'-D{name}="{value}"' for name, value in macros.items()]
    source = HERE / "racers" / "interpreter.c"
    subprocess.run([compiler, "-static", *defined, "-o", str(place / "own"), str(source)], check=True)
    (place / "place").mkdir()
    home = Path(tempfile.mkdtemp(prefix="kluis-adversary-", dir="/run"))
    home.chmod(0o755)
    apart = ["unshare", "--user", "--map-users=0,0,4294967295", "--map-groups=0,0,4294967295", "--mount"]
    apart += ["--setuid", "0", "--setgid", "0", sys.executable, str(HERE / "interpreting.py")]
    own, entries = place / "own", place / "place"
    try:
        code, said = attacks.tool(
            "env", f"KLUIS_HOME={home}", *apart, str(image), str(own), str(entries), program, how
        )
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if "unshare:" in said or "mount:" in said:
        pytest.skip("binfmt_misc cannot be mounted in a user namespace: Linux before 6.7")
    assert code == 0, said
    return said


def test_an_interpreter_of_the_launcher(victim_image: Path, tmp_path: Path) -> None:
    """Root registers an interpreter for the launcher's first bytes: it runs, and gets no session."""
    said = interpreted(victim_image, tmp_path, "launcher", {"READY": channel.READY.hex()})

    assert "code that was not measured" in said
    assert "another program was executed in the launcher's place" in said
    assert "it was answered" not in said


def test_an_interpreter_that_executes_the_launcher(victim_image: Path, tmp_path: Path) -> None:
    """It could leave other descriptors and arguments to that launcher: the guardian ends both."""
    said = interpreted(victim_image, tmp_path, "launcher", {"LATER": ""}, "continue")

    assert "code that was not measured" in said
    assert "launched" not in said


def test_an_interpreter_that_prepared_a_message(victim_image: Path, tmp_path: Path) -> None:
    """It listens for a message of root's, and executes the launcher while the guardian is stopped."""
    hello = channel.Offer().hello
    name = channel.proof_name(hello, b"").hex()
    said = interpreted(victim_image, tmp_path, "launcher", {"LATER": "", "NAME": name}, hello.hex())

    assert "code that was not measured" in said
    assert "it was challenged" in said
    assert "it was answered" not in said


@pytest.mark.parametrize("program", ["guardian", "bwrap"])
def test_an_interpreter_of_the_platforms_own(victim_image: Path, tmp_path: Path, program: str) -> None:
    """Root registers an interpreter for what starts the launcher: it runs in its place, unmeasured."""
    said = interpreted(victim_image, tmp_path, program, {})

    assert "code that was not measured" in said, f"{program} is kept in its place: say so in threats.md"
    assert "launcher's place" not in said
