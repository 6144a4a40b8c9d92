"""On Debian 13's own kernel, which holds root to the limit on locked memory, an enclave runs all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.meta import guest, installed
from tests.meta.test_installed import APP, COMMANDS
from tests.tee.vm.machine.guest import only_one

SECONDS = 2 * 60 * 60  # ends a hang: an emulated processor shares the machine's
# That the kernel does what this test is about: it maps 16 MiB, and ends the process that touches them.
TOUCH = "from kluis.tee.process import touch; touch.touch(16 << 20)"


def _script() -> str:
    lines = [
        f'/opt/kluis/bin/python -c "{TOUCH}"',
        "kluis doctor",
        "kluis build cohort -o cohort.kluis --key author.pem",
        "kluis run cohort.kluis mean_age '[61, 58, 70, 66, 49]'",
        *(f"kluis {line}" for line in COMMANDS),
        "kluis platform stop",
    ]
    said = [f"echo '## {number}'; {line} 2>&1; echo \"=> $?\"" for number, line in enumerate(lines)]
    # The firmware leaves the console's cursor in the midst of a line.
    return "\n".join(["export PATH=/opt/kluis/bin:$PATH", "useradd --system kluis", "echo", *said, ""])


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap wants root")
def test_the_readmes_commands_on_debians_kernel() -> None:
    """Build, run, attest, verify and appraise, in a guest, within what an emulated processor can do."""
    if lacking := [tool for tool in guest.TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"apt-get install debootstrap qemu-system-x86 cpio: {', '.join(lacking)} is not here")
    python = installed.interpreter("3.13")
    if python is None:
        pytest.skip("no python3.13 with venv on this machine")
    with tempfile.TemporaryDirectory(prefix="kluis-guest-") as path:
        folder = Path(path)
        folder.chmod(0o755)
        made = guest.root(folder, installed.environment(folder, python, "kluis[enclave]"))
        (made / "root/cohort").mkdir()
        (made / "root/cohort/app.py").write_text(APP)
        try:
            with only_one():
                said = guest.run(made, guest.kernel(folder), _script(), SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"no end in {SECONDS} s: {made.with_suffix('.console').read_text(errors='replace')}")
    answers = [part.rpartition("=> ")[::2] for part in said.split("\n## ")[1:]]
    statuses = [status.strip()[:3] for _, status in answers]
    assert statuses[0] in ("135", "1"), said  # 135: SIGBUS; a kernel that refuses the mapping is as good
    assert all(status.split()[0] == "0" for status in statuses[1:]), said
    assert "60.8" in answers[3][0]
    assert "unlimited" in answers[1][0]
