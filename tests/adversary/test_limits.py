"""What this level does not keep out: an active root, seen to succeed; a kernel that closes one fails here."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from pathlib import Path

import pytest

from kluis.host.proxy import EnclaveProxy
from kluis.tee.process import native
from tests.adversary import attacks, limits
from tests.adversary.victim_secret import secret_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the attacker is root")
HEAP = 512 << 20  # the victim's, bytes
RETURN_42 = bytes.fromhex("b82a000000c3")  # mov eax, 42; ret


def test_perf_dumps_stacks(victim: EnclaveProxy) -> None:
    """Perf copies user stacks from inside the kernel, secret pages or not."""
    if shutil.which("perf") is None:
        pytest.skip("perf is not installed: apt-get install linux-perf")
    seed = secrets.token_hex(8)
    victim.submit("spin", seed, 120.0)
    found = limits.perf_stacks(victim.pid, secret_of(seed))

    assert found > 0, (
        "this kernel no longer lets root's perf read the stacks: threats.md says more than is true"
    )


def test_uprobe_reads_arguments(victim: EnclaveProxy) -> None:
    """A uprobe on a C function reads what is passed to it."""
    seed = secrets.token_hex(8)
    victim.submit("spin", seed, 120.0)
    said = limits.uprobe(victim.pid, "usleep", secret_of(seed).decode())

    assert secret_of(seed).decode() in said, (
        "this kernel no longer lets root's uprobes read: say so in threats.md"
    )


def test_patched_code_page(victim: EnclaveProxy) -> None:
    """Root overwrites a function of the running enclave through /proc/PID/mem."""
    assert victim.absolute(-5) == 5
    limits.patched_page(victim.pid, "labs", RETURN_42)

    assert victim.absolute(-5) == 42, "this kernel no longer lets root patch code: say so in threats.md"


def test_a_file_mounted_over_data(victim: EnclaveProxy, tmp_path: Path) -> None:
    """A data file that an application opens itself is not measured as it is opened."""
    path = f"{native.INSIDE}/python{sys.version_info[0]}.{sys.version_info[1]}/LICENSE.txt"
    (tmp_path / "own").write_text("text of root")
    attacks.mount_over(victim.pid, tmp_path / "own", path)

    assert victim.text_of(path) == "text of root", "data is measured as it is opened: say so in threats.md"


def test_code_that_measured_code_writes(victim: EnclaveProxy) -> None:
    """A memory file is written, and mapped to be run by a system call of the enclave's own."""
    assert victim.call_written_code() == 42, "no code but the measured runs: say so in threats.md"


def test_memory_beside_the_heap(victim: EnclaveProxy) -> None:
    """A memory file is the machine's memory: no heap bounds it."""
    more = (HEAP >> 20) + 8

    assert victim.fill_memory_file(more) == more << 20, "heap bounds memory files too: say so in threats.md"
