"""What `make test` does with a test that fails: the run fails, unless the test passes by itself."""

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
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts/test.sh")
    (tmp_path / "test_some.py").write_text(tests)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {"PATH": os.environ["PATH"], "PY": sys.executable, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # both runs read the same second's file
    ran = subprocess.run(
        ["bash", tmp_path / "scripts/test.sh"], cwd="/", env=environment, capture_output=True, text=True
    )
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert said in ran.stdout
