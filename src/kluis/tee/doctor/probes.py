"""How root watches a function of a running process: where it lies in its file, and a uprobe on it.

What the demo and the tests of this level's limits share. Spec: Linux, "Uprobe-tracer: Uprobe-based Event
Tracing"; ELF-64, "Symbol Table", "Program Header".
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

TRACING = Path("/sys/kernel/tracing")


def offset(file: str, function: str) -> int:
    """Where a function begins in an ELF file, bytes from its start.

    Raises:
        LookupError: it is not there, or readelf is not installed.
    """
    symbols = _readelf("--dyn-syms", file)
    line = rf"^\s*\d+: ([0-9a-f]+)\s+\d+ I?FUNC\s.*\s{function}(?:@.*)?$"
    found = re.search(line, symbols, re.MULTILINE)
    if found is None:
        raise LookupError(function)
    address = int(found[1], 16)
    for at, virtual, size in re.findall(r"LOAD\s+0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", _readelf("-l", file)):
        if int(virtual, 16) <= address < int(virtual, 16) + int(size, 16):
            return address - int(virtual, 16) + int(at, 16)
    raise LookupError(function)


@contextlib.contextmanager
def uprobe(event: str, file: str, function: str, fetch: str, condition: str = "") -> Iterator[Path]:
    """Put a probe where a function begins; the kernel's trace, to be read before this ends.

    Args:
        event: a name of one's own, ``group/name``.
        file: as this process sees it.
        function: in it.
        fetch: what the kernel copies at each hit, in its own notation.
        condition: which hits count; empty: all.

    Raises:
        OSError, subprocess.CalledProcessError: the kernel does not let it.
        LookupError: no such function.
    """
    at = offset(file, function)
    mounted = not (TRACING / "uprobe_events").exists()
    if mounted:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACING)], check=True, capture_output=True)
    try:
        _tell(f"p:{event} {file}:0x{at:x} {fetch}")
        probe = TRACING / "events" / event
        try:
            (TRACING / "trace").write_text("")
            if condition:
                (probe / "filter").write_text(condition)
            (probe / "enable").write_text("1")
            yield TRACING / "trace"
        finally:
            (probe / "enable").write_text("0")
            _tell(f"-:{event}")
            (TRACING / "trace").write_text("")
    finally:
        if mounted:
            subprocess.run(["umount", str(TRACING)], check=False, capture_output=True)


def _tell(line: str) -> None:
    """Append to a file of the kernel's that cannot seek, which Python's own append mode does."""
    events = os.open(TRACING / "uprobe_events", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(events, line.encode() + b"\n")
    finally:
        os.close(events)


def _readelf(what: str, file: str) -> str:
    if shutil.which("readelf") is None:
        raise LookupError("readelf is not installed")
    done = subprocess.run(["readelf", "-W", what, file], capture_output=True, text=True, check=False)
    return done.stdout
