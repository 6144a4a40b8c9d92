"""After real work, with every library's threads: no writable anonymous memory that is not secret."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.tee.image.build.builder import build
from kluis.tee.platform.client import Platform
from tests.adversary import attacks

HERE = Path(__file__).parent
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for secret memory without a limit")

ALLOWED = re.compile(r"\[stack\]|\[heap\]|\[vvar\w*\]")
"""By name: the initial stack (arguments and environment) and what the loader took before main."""
LOADER_BYTES = 1 << 20
"""The loader maps .bss, and its own records, next to each library: at most this much in one piece."""


def outside_the_list(enclave: EnclaveProxy) -> list[str]:
    """Writable anonymous mappings that neither a name nor a neighbouring library explains."""
    lines = Path(f"/proc/{enclave.pid}/maps").read_text().splitlines()
    suspect, before = [], ""
    for line in lines:
        if line in attacks.writable_anonymous(enclave.pid) and not ALLOWED.search(line):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            bss = before.split()[0].endswith(line.split("-")[0]) and (
                ".so" in before or "kluis-launcher" in before
            )
            if not bss and end - start > LOADER_BYTES:
                suspect.append(line)
        before = line
    return suspect


@root
def test_small_enclave(victim: EnclaveProxy) -> None:
    """Planting and threads leave nothing writable and anonymous outside the region."""
    victim.plant("somewhere", 100_000)

    assert outside_the_list(victim) == []
    assert "secretmem" in Path(f"/proc/{victim.pid}/maps").read_text()


@root
@pytest.mark.slow
def test_numerical_libraries(platform: Platform, tmp_path: Path) -> None:
    """numpy, polars, DuckDB and OpenMP threads: the same."""
    shutil.copytree(HERE / "numbers", tmp_path / "numbers")
    image = build(tmp_path / "numbers", tmp_path / "numbers.kluis", tmp_path / "author.pem", debug=False).path
    with load(image) as enclave:
        assert enclave.compute() == ["700", "50", "428572", "20"]
        assert outside_the_list(enclave) == []
