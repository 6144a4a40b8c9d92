"""The doctor's self-test: build an enclave, start it, put a secret in it, and try to read it.

The secret is derived inside, from a nonce, so that no pipe and no frame ever contained it; this process
derives the same bytes to search for them.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kluis.errors import KluisError
from kluis.hashes import sha256
from kluis.host import EnclaveProxy, load
from kluis.tee.doctor import Finding, Part, State, attempts
from kluis.tee.doctor.attempts import Reading
from kluis.tee.image.build import builder
from kluis.tee.process import linux

COPIES: Final = 1000
APP: Final = '''"""Holds what the doctor looks for."""

import hashlib

from kluis.enclave import Enclave

app = Enclave("doctor", product_id=65535, svn=1)
held: list[bytes] = []


@app.ecall
def plant(nonce: bytes, copies: int) -> int:
    """Make the bytes here, many times over, and keep them."""
    for _ in range(copies):
        held.append(hashlib.sha256(b"kluis doctor" + nonce).digest())
    return len(held)
'''
HEAP_BYTES: Final = 64 << 20
SETTINGS: Final = f"heap = {HEAP_BYTES}\n"


def run() -> list[Finding]:
    """Build an enclave, start it, put a secret in it, try to read that; remove everything.

    Returns:
        One finding for the start, and one for each way of reading.
    """
    begun = time.monotonic()
    try:
        with _enclave() as enclave:
            seconds = time.monotonic() - begun
            nonce = os.urandom(32)
            enclave.plant(nonce, COPIES)
            started = f"built, started and called in {seconds:.1f} s; protection level {enclave.level}"
            if lacks := linux.missing(HEAP_BYTES):
                started += f", without {', '.join(sorted(lacks))}"
            return [_finding("an enclave", State.OK, started), *_readings(enclave.pid, nonce)]
    except KluisError as fault:
        return [_finding("an enclave", State.MISSING, fault.message, fault.hint)]


@contextlib.contextmanager
def _enclave() -> Iterator[EnclaveProxy]:
    with tempfile.TemporaryDirectory(prefix="kluis-doctor-") as folder:
        app = Path(folder) / "app"
        app.mkdir()
        (app / "app.py").write_text(APP, encoding="utf-8")
        (app / "kluis.toml").write_text(SETTINGS, encoding="utf-8")
        built = Path(folder) / "doctor.kluis"
        builder.build(app, built, Path(folder) / "author.pem")
        lacks = linux.missing(HEAP_BYTES)
        with load(built, insecure_allow_missing=lacks) as enclave:
            yield enclave


def _readings(pid: int, nonce: bytes) -> list[Finding]:
    planted = sha256(b"kluis doctor" + nonce)
    refusal = attempts.by_debugger(pid)
    debugger = (
        _finding("a debugger", State.OK, f"refused: {refusal}")
        if refusal
        else _finding("a debugger", State.MISSING, "was let in", "the guardian does not hold it: report this")
    )
    return [
        _reading("its memory file", attempts.by_memory_file(pid, planted)),
        _reading("memory calls", attempts.by_memory_call(pid, planted)),
        debugger,
    ]


def _reading(name: str, reading: Reading) -> Finding:
    refused = f"; refused: {reading.refused}" if reading.refused else ""
    seen = f"{reading.copies} of {COPIES} planted copies in {reading.read_bytes >> 10} KiB read{refused}"
    if reading.copies:
        return _finding(name, State.MISSING, seen, "see memfd_secret and RLIMIT_MEMLOCK above")
    return _finding(name, State.OK, seen)


def _finding(name: str, state: State, seen: str, fix: str | None = None) -> Finding:
    return Finding(part=Part.SELFTEST, name=name, state=state, seen=seen, fix=fix)
