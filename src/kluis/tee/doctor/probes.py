"""Locate a function in an ELF file, and observe it in running processes with a uprobe.

Shared by the demo and the tests of this level's limits. Spec: Linux, "Uprobe-tracer: Uprobe-based Event
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
    """The offset of a function in an ELF file, in bytes.

    Raises:
        LookupError: it does not exist, or readelf is not installed.
    """
    symbols = _readelf("--dyn-syms", file)
    line = rf"^\s*\d+: ([0-9a-f]+)\s+\d+ I?FUNC\s.*\s{function}(?:@.*)?$"
    match = re.search(line, symbols, re.MULTILINE)
    if match is None:
        raise LookupError(function)
    address = int(match[1], 16)
    for at, virtual, size in re.findall(r"LOAD\s+0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", _readelf("-l", file)):
        if int(virtual, 16) <= address < int(virtual, 16) + int(size, 16):
            return address - int(virtual, 16) + int(at, 16)
    raise LookupError(function)


@contextlib.contextmanager
def uprobe(event: str, file: str, function: str, fetch: str, condition: str = "") -> Iterator[Path]:
    """Set a probe at the start of a function; yields the kernel's trace, to be read before this ends.

    Args:
        event: a unique name, ``group/name``.
        file: path as this process sees it.
        function: in it.
        fetch: what the kernel records at each hit, in its notation.
        condition: filters hits; empty: all.

    Raises:
        OSError, subprocess.CalledProcessError: the kernel refuses.
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
    """Append to a kernel file that cannot seek, which Python's append mode does."""
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
