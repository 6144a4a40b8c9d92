"""What `make test` and `make test-slow` do with a failure: it is one, unless the test passes by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/test.sh"
FLAKY = """
from pathlib import Path
def test_once():
    seen = Path("seen")
    first = not seen.exists()
    seen.touch()
    assert not first
"""


SLOW = "import pytest\n" + FLAKY.replace("def", "@pytest.mark.slow\ndef") + "def test_quick(): assert 0"


@pytest.mark.parametrize(
    ("tests", "status", "said"),
    [
        ("def test_good(): pass", 0, ""),
        (FLAKY, 0, "1 failed next to others, and run once more by themselves:\ntest_some.py::test_once"),
        (FLAKY + "def test_bad(): assert 0", 1, "2 failed next to others"),
        ("def test_bad(): assert 0", 1, "1 failed next to others"),
        ("\n".join(f"def test_{n}(): assert 0" for n in range(11)), 1, "11 failed"),
        ("import nothing_of_that_name", 2, ""),
        ("raise SystemError", 2, ""),
        ("", 5, "no tests ran"),
    ],
    ids=["good", "flaky", "flaky-and-bad", "bad", "many", "cannot-be-collected", "raises", "none"],
)
def test_a_failure_fails(tmp_path: Path, tests: str, status: int, said: str) -> None:
    """Only a test that passes alone is forgiven, and it is named; all else fails with pytest's own status."""
    ran = run(tmp_path, tests)
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert said in ran.stdout


def test_marked_tests_are_chosen_both_times(tmp_path: Path) -> None:
    """With MARKS, the second run chooses as the first one; without, neither chooses a slow test."""
    assert run(tmp_path / "usual", SLOW).returncode == 1
    ran = run(tmp_path / "slow", SLOW, MARKS="slow")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 failed next to others, and run once more by themselves:\ntest_some.py::test_once" in ran.stdout


def run(folder: Path, tests: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder with one file of tests."""
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / "scripts/test.sh")
    (folder / "test_some.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -m 'not slow'\nmarkers = slow\n")
    environment = {
        "PATH": os.environ["PATH"],
        "PY": sys.executable,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        **more,
    }
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # both runs read the same second's file
    return subprocess.run(
        ["bash", folder / "scripts/test.sh"], cwd="/", env=environment, capture_output=True, text=True
    )
