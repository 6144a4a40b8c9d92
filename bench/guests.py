"""Guests that machines are measured against: an empty first program, and plain Pythons on the ports."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kluis.formats.eventlog import pe
from kluis.tee.backend import Backend
from kluis.tee.image import layers, sources
from kluis.tee.inside import boot
from kluis.tee.vm.guest import Guest, archives, building
from kluis.tee.vm.machine import kept, ondemand, tpm
from kluis.tee.vm.machine.kept import Settings
from kluis.tee.vm.machine.machine import Machine

MEMORY_MB: Final = 2048
CPUS: Final = 2
SECONDS: Final = 3600.0
SETTLED_SECONDS: Final = 5.0
SETTLED_STATES: Final = 10
CALLS: Final = 200
EMPTY: Final = "console=ttyS0 quiet panic=-1 rdinit=/init"
INIT: Final = """
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

int main(void) {
    char memory[4096];
    mount("dev", "/dev", "devtmpfs", 0, 0);
    int port = open("/dev/vport0p1", O_RDWR);
    if (write(port, "!", 1) != 1) return 1;
    mount("proc", "/proc", "proc", 0, 0);
    ssize_t size = read(open("/proc/meminfo", O_RDONLY), memory, sizeof memory);
    if (size <= 0 || write(port, memory, size) != size) return 1;
    for (;;) pause();
}
"""
"""The empty first program: it sends one byte, then what the kernel states about its memory, and waits."""
PLAIN: Final = b"""
import fcntl, json, os, subprocess, sys, threading, time

from kluis.tee.inside import ports

SIZE, BLOCK, SEGMENT = 16 << 20, 64 << 10, 4096


def read(port, into):
    while not (size := os.readv(port, [into])):  # the host has not opened its end yet
        time.sleep(0.01)
    return size


def echo(port):
    frame = memoryview(bytearray(4096))
    while True:
        os.write(port, frame[: read(port, frame)])


def sink(port):
    data = memoryview(bytearray(SIZE))
    while True:
        view = data
        while view:
            view = view[read(port, view) :]
        os.write(port, b"x")
        seal(port)
        os.write(port, b"x")


def seal(port):
    file, block, done = os.memfd_create("bulk", os.MFD_ALLOW_SEALING), memoryview(bytearray(BLOCK)), 0
    segments = [block[at : at + SEGMENT] for at in range(0, BLOCK, SEGMENT)]
    while done < SIZE:
        done += os.pwrite(file, block[: os.readv(port, segments)], done)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    os.pread(file, SIZE, 0)
    os.close(file)


def main():
    first, second, third = (os.open(each, os.O_RDWR) for each in ports.find()[:3])
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
        seconds.append(time.perf_counter() - start)
    threading.Thread(target=echo, args=(second,)).start()
    os.write(first, json.dumps(seconds).encode() + b"\\n")
    sink(third)


if __name__ == "__main__":
    main()
"""
"""The guest's program, in place of the platform: it times Python's start, and then serves two ports."""
ANSWERING: Final = b"""
import json, os, socket, subprocess, sys, threading

from kluis.tee.inside import ports

BWRAP = ["/usr/bin/bwrap", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
PROGRAM, MEMFD_SECRET, PAGE = "kluis.tee.inside.boot", 447, 4096


def platform(descriptor):
    import ctypes, mmap
    from datetime import datetime, timedelta

    import msgspec
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    begin = datetime(2026, 1, 1)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(days=1))
    chain = made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    with open("/proc/self/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    secret = ctypes.CDLL(None).syscall(MEMFD_SECRET, 0)
    os.ftruncate(secret, (resident - shared) * PAGE)
    memory = mmap.mmap(secret, 0)
    for at in range(0, len(memory), PAGE):
        memory[at] = 1
    os.write(descriptor, msgspec.msgpack.encode(chain))
    threading.Event().wait()


def main():
    ours, theirs = socket.socketpair()
    line = [*BWRAP, "--dev-bind", "/", "/", sys.executable, "-I", "-m", PROGRAM, str(theirs.fileno())]
    subprocess.Popen(line, pass_fds=[theirs.fileno()])
    chain = ours.recv(PAGE)
    os.write(os.open(ports.find()[0], os.O_RDWR), json.dumps({"chain": chain.hex()}).encode())
    threading.Event().wait()


if __name__ == "__main__":
    main() if len(sys.argv) == 1 else platform(int(sys.argv[1]))
"""
"""The least that a guest's programs do: one Python makes a key and a certificate, in secret memory and behind
bubblewrap's walls, and another one answers on a port.

The first touches as much secret memory as it has other memory that no file backs.
"""
PRINTER: Final = b"""
def _print_memory() -> None:
    import threading, time

    def repeat() -> None:
        while True:
            sys.stdout.write(Path("/proc/meminfo").read_text()[:300] + "printed\\n")
            sys.stdout.flush()
            time.sleep(0.5)

    threading.Thread(target=repeat, daemon=True).start()
"""
"""What is added to the guest's program to have it print the state of its memory."""
PRINTING, END = "bench-memory", "printed\n"
SYSTEMD_MEASURE: Final = shutil.which("systemd-measure", path=f"/usr/lib/systemd:{os.environ['PATH']}")


@dataclass(frozen=True)
class Empty:
    """A guest of the same kernel whose first program does nothing; as ``kluis.tee.vm.machine.Guest``."""

    kernel: Path
    initrd: Path
    unified: Path
    command_line: str = EMPTY
    root: None = None
    digests: dict[str, bytes] = field(default_factory=dict)


def empty(folder: Path, guest: Guest) -> Empty:
    """Write the guest with an empty first program."""
    folder.mkdir()
    (folder / "init.c").write_text(INIT)
    subprocess.run(["gcc", "-O2", "-static", "-o", folder / "init", folder / "init.c"], check=True)
    program = sources.of_file("init", folder / "init", layers.PROGRAM_MODE)
    (folder / "initrd").write_bytes(
        archives.cpio([program, sources.of_bytes("dev/empty", b""), sources.of_bytes("proc/empty", b"")])
    )
    made = Empty(guest.kernel, folder / "initrd", folder / "unified")
    paths = {"kernel": made.kernel, "initrd": made.initrd, "unified": made.unified}
    building.unify(paths, EMPTY, guest.description.kernel, "0", folder)
    return made


def answering(folder: Path) -> Guest:
    """Build a guest with the least program that answers in place of the platform."""
    return building.build(folder, extra=[sources.of_bytes("kluis/tee/inside/boot.py", ANSWERING)])


def seconds_to_first_byte(guest: Empty | Guest, boot: str, state: Path) -> float:
    """Seconds from QEMU's start to the first byte of the guest's program."""
    own = tpm.Tpm.start(state, bytes(tpm.KEY_BYTES)) if boot == "uefi" else None
    with Machine.start(guest, boot=boot, memory_mb=MEMORY_MB, cpus=CPUS, tpm=own) as machine:
        machine.await_first(0, SECONDS)
        return seconds_since_start(machine.pid)


def seconds_since_start(pid: int) -> float:
    """Seconds since a process was started, to a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def used_mib(guest: Empty) -> float:
    """MiB that a guest with the empty first program has in use."""
    with Machine.start(guest, memory_mb=MEMORY_MB, cpus=CPUS) as machine:
        said = b""
        while b"Buffers:" not in said:
            machine.await_first(0, SECONDS)
            said += machine.port(0).recv(4096)
    return _used_mib(said.decode())


def _used_mib(meminfo: str) -> float:
    """What /proc/meminfo has in use: all but what is available without swapping."""
    total, available = (
        int(re.findall(rf"{name}: +(\d+) kB", meminfo)[-1]) for name in ("MemTotal", "MemAvailable")
    )
    return (total - available) / 1024


@dataclass(frozen=True)
class Printing:
    """A machine whose program prints the state of its memory on its console, twice a second.

    Attributes:
        platform: of the machine.
    """

    platform: Backend

    def used_mib(self) -> float:
        """MiB in use, once ten states in a row differ by less than one: an image's transfer leaves some."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            time.sleep(SETTLED_SECONDS)
            states = kept.console(PRINTING).split(END)[:-1]
            used = [_used_mib(state) for state in states[-SETTLED_STATES:]]
            if len(used) == SETTLED_STATES and max(used) - min(used) < 1:
                return used[-1]
        raise RuntimeError(f"{PRINTING}: its memory in use did not settle")


def printing_program() -> bytes:
    """The guest's program, which also prints the memory's state once the platform runs."""
    program = Path(boot.__file__).read_bytes()
    for before, added in (
        (b"    runpy.run_module", b"    _print_memory()\n"),
        (b"def main()", PRINTER + b"\n\n"),
    ):
        if program.count(before) != 1:
            raise RuntimeError(f"{boot.__file__}: want {before!r} once, got {program.count(before)} times")
        program = program.replace(before, added + before)
    return program


@contextlib.contextmanager
def debugged(folder: Path) -> Iterator[Printing]:
    """Build and start a guest that prints its memory's state."""
    building.build(folder, extra=[sources.of_bytes("kluis/tee/inside/boot.py", printing_program())])
    kept.start(Settings(PRINTING, str(folder), memory_mb=MEMORY_MB, cpus=CPUS, debug=True))
    try:
        yield Printing(ondemand.await_platform(PRINTING))
    finally:
        kept.stop(PRINTING)


@dataclass(frozen=True)
class Plain:
    """Seconds of plain Pythons in a guest: a start, an echo of 64 bytes, and 16 MiB received.

    Attributes:
        sealed: 16 MiB received into a sealed memory file, and read from it.
    """

    start: float
    echo: float
    bulk: float
    sealed: float


def plain(folder: Path) -> Plain:
    """Boot a guest with plain Pythons in place of the platform, and measure them."""
    guest = building.build(folder, extra=[sources.of_bytes("kluis/tee/inside/boot.py", PLAIN)])
    with Machine.start(guest, memory_mb=MEMORY_MB, cpus=CPUS, ports=3) as machine:
        machine.await_first(0, SECONDS)
        line = b""
        while not line.endswith(b"\n"):
            line += machine.port(0).recv(4096)
        echoes, frame = [], bytes(64)
        for _ in range(CALLS):
            start = time.perf_counter()
            machine.port(1).sendall(frame)
            got = 0
            while got < len(frame):
                got += len(machine.port(1).recv(4096))
            echoes.append(time.perf_counter() - start)
        bulk, data = list[float](), bytes(16 << 20)
        for _ in range(6):  # the program seals every second one
            start = time.perf_counter()
            machine.port(2).sendall(data)
            machine.port(2).recv(1)
            bulk.append(time.perf_counter() - start)
    return Plain(*map(statistics.median, (json.loads(line), echoes, bulk[::2], bulk[1::2])))


def systemd_measure(folder: Path, guest: Guest) -> list[str]:
    """Write the sections of a guest's unified image, and return systemd-measure's command line for them."""
    program = pe.parse(guest.unified.read_bytes(), "unified")
    line = [SYSTEMD_MEASURE or "systemd-measure", "calculate", "--phase=:", "--json=short", "--bank=sha256"]
    for name in ("linux", "osrel", "cmdline", "initrd", "uname", "sbat"):
        (folder / name).write_bytes(program.content(f".{name}") or b"")
        line.append(f"--{name}={folder / name}")
    return line
