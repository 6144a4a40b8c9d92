"""The example's workflow runs as it is, step by step, with a local cloud that its steps start and stop."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import clouds
from tests.meta import workflow
from tests.meta.tree import ROOT

EXAMPLE = ROOT / "examples" / "local_cloud"


def test_the_workflow_has_githubs_syntax() -> None:
    """Its schema is the one that GitHub's editor uses."""
    schema, path = "vendor.github-workflows", str(EXAMPLE / "workflow.yml")
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_workflow_runs(tmp_path: Path) -> None:
    """Every step succeeds, and nothing runs afterwards; with a test that fails, the log is shown."""
    state = tmp_path / "data" / "kluis" / "cloud"
    state.mkdir(mode=0o700, parents=True)
    clouds.prepare(state)
    shutil.copy(EXAMPLE / "test_keys.py", tmp_path)
    environment = {
        **workflow.usual(),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PATH": f"{Path(sys.executable).parent}:{workflow.usual()['PATH']}",
    }
    steps = workflow.run(EXAMPLE / "workflow.yml", "test", tmp_path, environment)
    assert [(step.name, step.code) for step in steps if step.code] == [], steps
    assert len(steps) == 5
    assert "1 passed" in steps[3].output
    assert steps[-1].output == "stopped\n"
    (tmp_path / "test_keys.py").write_text("def test_no():\n    assert False\n")
    steps = workflow.run(EXAMPLE / "workflow.yml", "test", tmp_path, environment)
    assert [step.code for step in steps] == [0, 0, 0, 1, 0, 0]
    assert "ready: keyvault" in steps[4].output
    assert clouds.Cloud(state).run("status").code == 7
