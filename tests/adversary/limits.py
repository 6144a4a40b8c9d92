"""What an active root can still do to a process enclave, done: perf, a uprobe, a patched code page.

Each function tries for real and returns what it got; the demo shows them as the limits of this level.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

TRACEFS = Path("/sys/kernel/tracing")


def perf_stacks(pid: int, needle: bytes, seconds: float = 2.0) -> int:
    """Sample the enclave's stacks with perf: copies of the needle in what it wrote."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "perf.data"
        line = ["perf", "record", "-q", "-o", str(out), "-e", "cpu-clock", "-F", "999"]
        line += ["--call-graph", "dwarf,16384", "-p", str(pid), "--", "sleep", str(seconds)]
        subprocess.run(line, capture_output=True, timeout=60, check=False)
        return out.read_bytes().count(needle) if out.exists() else 0


def uprobe(pid: int, function: str, seconds: float = 2.0) -> str:
    """Put a probe on a C function of the enclave's C library: what it copied off the stack, as text."""
    library, offset, _ = _symbol(pid, function)
    mounted = not (TRACEFS / "uprobe_events").exists()
    if mounted:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACEFS)], check=True)
    event = f"kluis{pid}"
    try:
        _event(f"p:{event}/at {library}:0x{offset:x} text=+8(%sp):string\n")
        enable = TRACEFS / "events" / event / "at" / "enable"
        enable.write_text("1")
        try:
            subprocess.run(["sleep", str(seconds)], check=True)
            return (TRACEFS / "trace").read_text(errors="replace")
        finally:
            enable.write_text("0")
            _event(f"-:{event}/at\n")
            (TRACEFS / "trace").write_text("")
    finally:
        if mounted:
            subprocess.run(["umount", str(TRACEFS)], check=False)


def _event(line: str) -> None:
    """Add or remove one event; the file takes whole lines and cannot seek."""
    events = os.open(TRACEFS / "uprobe_events", os.O_WRONLY | os.O_APPEND)
    try:
        os.write(events, line.encode())
    finally:
        os.close(events)


def patched_page(pid: int, function: str, code: bytes) -> None:
    """Overwrite a C function of the running enclave, in the file that its pages come from."""
    library, _, position = _symbol(pid, function)
    source = _writable_twin(library)
    with open(source, "r+b") as file:
        file.seek(position)
        file.write(code)


def _symbol(pid: int, function: str) -> tuple[str, int, int]:
    """The enclave's C library as root sees it, and where in its file the function lies."""
    library = f"/proc/{pid}/root/k/python/lib/libc.so.6"
    table = subprocess.run(
        ["readelf", "-W", "--dyn-syms", library], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(rf"^\s*\d+: ([0-9a-f]+)\s+\d+ (?:FUNC|IFUNC)\s.*\s{function}@@", table, re.MULTILINE)
    if found is None:
        raise LookupError(function)
    address = int(found[1], 16)
    headers = subprocess.run(["readelf", "-lW", library], capture_output=True, text=True, check=True).stdout
    for at, virtual, size in re.findall(r"LOAD\s+0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", headers):
        start = int(virtual, 16)
        if start <= address < start + int(size, 16):
            return library, address - start + int(at, 16), address - start + int(at, 16)
    raise LookupError(function)


def _writable_twin(library: str) -> Path:
    """The same file through the spawner's own mount of the layers, which is not read-only."""
    wanted = os.stat(library)
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or b"kluis.tee.platform.spawner" not in _line(process):
            continue
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
