"""Machines in QEMU against the same kernel with nothing, and calls into one against plain Pythons there.

One machine runs at a time, so the sides of most rows do not alternate. Without KVM, QEMU emulates the
processor.
Its factor is that of ``python -I -S -c pass``, in the guest over outside, in the same run.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import guests
from bench.guests import CPUS, MEMORY_MB, Empty, Plain
from bench.harness import Harness, Row, duration, timed
from bench.images import image
from kluis.errors import UnavailableError
from kluis.host import load
from kluis.tee.backend import Backend
from kluis.tee.platform.client import Platform
from kluis.tee.vm.guest import Guest, building
from kluis.tee.vm.machine import kept, ondemand, programs
from kluis.tee.vm.machine.kept import Settings

MOST_ROUNDS = 3
NAME = "bench"
CALLS = 200
BULK_BYTES = 16 << 20
PYTHON = [sys.executable, "-I", "-S", "-c", "pass"]
LEAST = """
import hashlib, sys
import typer
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        hashlib.file_digest(file, "sha256")
"""
"""What any command in Python does that measures files: it imports Typer, and hashes them."""


def rows(take: Harness) -> list[Row]:
    """The rows of the guest, then those of its boots, then those of one machine that runs."""
    with tempfile.TemporaryDirectory(prefix="kluis-bench-") as name:
        folder = Path(name)
        first = timed(lambda: building.build(folder / "guest"))
        guest = Guest.open(folder / "guest")
        found = [_built(take, folder, first), _measured(take, folder, guest)]
        nothing = guests.empty(folder / "empty", guest)
        found.append(_memory(take, folder, nothing))
        least = guests.answering(folder / "answering")
        found += [_boot(take, folder, nothing, least, boot) for boot in ("direct", "uefi")]
        plain = guests.plain(folder / "plain")
        found += _calls(take, folder, plain)
    return found


def _built(take: Harness, folder: Path, first: float) -> Row:
    return take.compare(
        "kluis vm guest build, the guest is there",
        "one second",
        2.0,
        ours=lambda: timed(lambda: building.build(folder / "guest")),
        theirs=lambda: 1.0,
        also=lambda: {"built first, of 60 s": duration(first)},
    )


def _measured(take: Harness, folder: Path, guest: Guest) -> Row:
    """PCRs and one launch digest of OVMF, whole processes; and the lower bound, in the same rounds."""
    bin_, firmware = Path(sys.executable).parent, str(programs.OVMF_CODE)
    ours = [bin_ / "kluis", "vm", "guest", "measure", folder / "guest"]
    ours += ["--firmware", firmware, "--boot", "uefi", "--vcpus", str(CPUS)]
    snp = [bin_ / "sev-snp-measure", "--mode", "snp", "--vcpus", str(CPUS), "--vcpu-type", "EPYC-v4"]
    theirs, against = [[*snp, "--ovmf", firmware]], "sev-snp-measure"
    if guests.SYSTEMD_MEASURE is not None:
        theirs.append(guests.systemd_measure(folder, guest))
        against += " and systemd-measure"
    least = [sys.executable, "-c", LEAST, guest.kernel, guest.initrd, guest.unified]
    bound, bounds = "a Python that imports Typer and hashes the files", list[float]()

    def others() -> float:
        other = timed(lambda: [_run(line) for line in theirs])
        bounds.append(timed(lambda: _run(least)) / other)
        return other

    return take.compare(
        "kluis vm guest measure, whole process",
        f"{against} on the same files",
        1.0,
        ours=lambda: timed(lambda: _run(ours)),
        theirs=others,
        also=lambda: {f"{bound}, against the same": f"{statistics.median(bounds):.2f}"},
    )


def _memory(take: Harness, folder: Path, nothing: Empty) -> Row:
    """Memory in use, as the guest's kernel states it, beyond that of the empty first program."""
    with (
        guests.debugged(folder / "printing") as seen,
        load(image("empty"), platform=seen.platform) as enclave,
    ):
        enclave.nothing()
        used = seen.used_mib()
    empty = guests.used_mib(nothing)
    return take.compare(
        "guest memory in use with an idle stdlib-only enclave, beyond the empty guest's",
        "256 MiB",
        1.0,
        ours=lambda: used - empty,
        theirs=lambda: 256.0,
        rounds=1,
        unit="MiB",
        also=lambda: {"in use": f"{used:.0f} MiB", "empty": f"{empty:.0f} MiB"},
    )


def _boot(take: Harness, folder: Path, nothing: Empty, least: Guest, boot: str) -> Row:
    """A boot; and the lower bound, in the same rounds."""
    with_tpm = ", swtpm" if boot == "uefi" else ""

    def answers() -> float:
        start = time.perf_counter()
        with machine(folder / "guest", boot):
            whole.append(time.perf_counter() - start)
            return guests.seconds_since_start(kept.show(NAME)["pid"])

    whole, bounds = list[float](), list[float]()

    def others() -> float:
        other = guests.seconds_to_first_byte(nothing, boot, folder / "state")
        bounds.append(guests.seconds_to_first_byte(least, boot, folder / "state") / other)
        return other

    return take.compare(
        f"machine by {boot}: QEMU to a platform that answers",
        f"the same kernel with an empty first program{with_tpm}",
        2.5 if boot == "direct" else 1.6,
        ours=answers,
        theirs=others,
        rounds=min(take.rounds, MOST_ROUNDS),
        also=lambda: {
            "two plain Pythons, one behind walls and in secret memory, against the same": (
                f"{statistics.median(bounds):.2f}"
            ),
            "from the command to the platform": duration(statistics.median(whole)),
        },
    )


def _calls(take: Harness, folder: Path, plain: Plain) -> list[Row]:
    """Starts and calls in one machine; what plain Pythons took there was measured before."""
    empty, bulk, hashing = image("empty"), image("bulk"), image("hashing")
    size, data = empty.stat().st_size, bytes(BULK_BYTES)
    python = statistics.median(timed(lambda: _run(PYTHON)) for _ in range(5))
    with Platform.connect().hold():
        load(empty).close()
        outside = statistics.median(_start(empty, None) for _ in range(5))
    factor = plain.start / python
    also = {"factor of an emulated processor": f"{factor:.1f}"}
    with machine(folder / "guest", "direct") as platform:
        first = _start(empty, platform)
        again = [_start(empty, platform) for _ in range(min(take.rounds, MOST_ROUNDS))]
        with load(hashing, platform=platform) as enclave:
            hashed = enclave.hashing(size >> 20)
        with load(empty, platform=platform) as enclave:
            enclave.nothing()
            nothing = statistics.median(timed(enclave.nothing) for _ in range(CALLS))
        with load(bulk, platform=platform) as enclave:
            enclave.size(data)
            argument = statistics.median(timed(lambda: enclave.size(data)) for _ in range(3))
    second = statistics.median(again)
    python_there = "the same bytes over the same port of a machine, by two plain Pythons"
    sealed = {
        "received into a sealed memory file, and read from it, against the same": (
            f"{plain.sealed / plain.bulk:.2f}"
        )
    }
    return [
        _row(take, "first start of an image in a machine, its transfer included",
             "SHA-256 of its bytes there, and a second start", 2.0, first, hashed + second),
        _row(take, "second start of an image in a machine, to its first call",
             "the same start outside, times the factor of the emulated processor", 1.5, second,
             outside * factor, also),
        _row(take, "empty ecall in a machine, median", python_there, 3.0, nothing, plain.echo),
        _row(take, "ecall with an argument of 16 MiB in a machine", python_there, 1.5, argument, plain.bulk,
             sealed),
    ]  # fmt: skip


def _row(
    take: Harness,
    name: str,
    against: str,
    hold: float,
    ours: float,
    theirs: float,
    also: dict[str, str] | None = None,
) -> Row:
    """A row of two figures that were measured already."""
    return take.compare(
        name, against, hold, ours=lambda: ours, theirs=lambda: theirs, rounds=1, also=lambda: also or {}
    )


def _start(path: Path, platform: Backend | None) -> float:
    """Seconds from the start of an image to the end of its first call."""
    start = time.perf_counter()
    with load(path, platform=platform) as enclave:
        enclave.nothing()
        return time.perf_counter() - start


def _run(line: list[str | Path]) -> None:
    if shutil.which(line[0]) is None:
        raise UnavailableError(f"{line[0]}: is not installed")
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def machine(guest: Path, boot: str) -> Iterator[Backend]:
    """A machine of a guest, once its platform answers."""
    kept.start(Settings(NAME, str(guest), boot=boot, memory_mb=MEMORY_MB, cpus=CPUS))
    try:
        yield ondemand.await_platform(NAME)
    finally:
        kept.stop(NAME)
