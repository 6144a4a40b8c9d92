"""A folder in which another user left a module, and in which somebody runs ``kluis``, as root perhaps."""

from __future__ import annotations

from pathlib import Path

import polars
import pytest

from kluis.cli.demo.stage import Stage, plain_process


def test_the_demo_runs_no_module_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ordinary process imports the package of this environment."""
    planted, ran = tmp_path / "planted", tmp_path / "ran"
    planted.mkdir()
    (planted / "polars.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    monkeypatch.chdir(planted)
    stage = Stage.__new__(Stage)
    stage.folder, stage.tables = tmp_path, {"people": polars.DataFrame({"age": [61, 58]})}
    assert plain_process(stage, lambda pid: pid) > 0
    assert not ran.exists()
