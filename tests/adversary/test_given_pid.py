"""Root ends an enclave that starts, and gives its pid to another process: that one gets no session."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.errors import KluisError
from kluis.host import load
from kluis.tee.platform.client import Platform
from tests.adversary import attacks

HERE = Path(__file__).parent
SECONDS = 300


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the attacker is root")
def test_another_process_with_the_enclaves_pid(platform: Platform, victim_image: Path) -> None:
    """A pid is no proof: the platform checks again that it is the guarded process's."""
    spawner = attacks.spawner_of(platform.status()["pid"])
    line = [sys.executable, "-m", "tests.adversary.given_pid", str(spawner)]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE.parents[1]
    ) as attacker:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == "ready\n"
        with contextlib.suppress(KluisError), load(victim_image):
            pass
        said, failed = attacker.communicate(timeout=SECONDS)
    if "Operation not permitted" in failed:
        pytest.skip("root may not choose a process's pid here")
    assert said.startswith("refused"), said + failed
    with load(victim_image) as enclave:
        assert enclave.alive() == "alive"
