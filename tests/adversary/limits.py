"""What an active root can still do to a process enclave, done: perf, a uprobe, a patched code page.

Each function tries for real and returns what it got; the demo shows them as the limits of this level.
"""

from __future__ import annotations

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
    """Overwrite a C function of the running enclave through /proc/PID/mem, read-only as its page is."""
    offset = probes.offset(_library(pid), function)
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, access, start, *_, name = line.split()
        low, high = (int(end, 16) for end in span.split("-"))
        if "x" in access and name.endswith("/libc.so.6") and 0 <= offset - int(start, 16) < high - low:
            with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
                memory.seek(low + offset - int(start, 16))
                memory.write(code)


def _library(pid: int) -> str:
    """The enclave's C library, as root sees it."""
    return f"/proc/{pid}/root{native.INSIDE}/libc.so.6"
