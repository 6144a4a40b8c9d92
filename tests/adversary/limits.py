"""What an active root can still do to a process enclave, done: perf, a uprobe, a patched code page.

Each function tries for real and returns what it got; the demo shows them as the limits of this level.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from pathlib import Path

from kluis.tee.doctor import probes
from kluis.tee.process import native


def perf_stacks(pid: int, needle: bytes) -> int:
    """Sample the enclave's stacks with perf: copies of the needle in what it wrote, after a while or more."""
    found = 0
    for seconds in (0.5, 4.0, 30.0):
        with tempfile.TemporaryDirectory() as directory:
            out = Path(directory) / "perf.data"
            line = ["perf", "record", "-q", "-o", str(out), "-e", "cpu-clock", "-F", "999"]
            line += ["--call-graph", "dwarf,16384", "-p", str(pid), "--", "sleep", str(seconds)]
            subprocess.run(line, capture_output=True, timeout=300, check=False)
            found = out.read_bytes().count(needle) if out.exists() else 0
        if found:
            break
    return found


def uprobe(pid: int, function: str, needle: str) -> str:
    """Put a probe on a C function of the enclave's C library: what it copied off the stack, as text.

    The text is given once the needle is in it, and after two minutes whatever it is.
    """
    end = time.monotonic() + 120
    with probes.uprobe(f"kluis{pid}/at", _library(pid), function, "text=+8(%sp):string") as trace:
        while True:
            said = trace.read_text(errors="replace")
            if needle in said or time.monotonic() > end:
                return said
            time.sleep(0.05)


def patched_page(pid: int, function: str, code: bytes) -> None:
    """Overwrite a C function of the running enclave, in the file that its pages come from."""
    library = _library(pid)
    with open(_writable_twin(library), "r+b") as file:
        file.seek(probes.offset(library, function))
        file.write(code)


def _library(pid: int) -> str:
    """The enclave's C library, as root sees it."""
    return f"/proc/{pid}/root{native.INSIDE}/libc.so.6"


def _writable_twin(library: str) -> Path:
    """The same file through the spawner's own mount of the layers, which is not read-only."""
    wanted = os.stat(library)
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or b"kluis.tee.platform.spawner" not in _line(process):
            continue
        with contextlib.suppress(OSError):  # another platform's, which ends meanwhile
            for layers in (process / "root" / "run").glob("kluis*/**/layers"):
                for candidate in layers.glob("*/lib/libc.so.6"):
                    found = candidate.stat()
                    if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                        return candidate
    raise LookupError("the spawner's layers")


def _line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
