"""The notebooks of the examples are run, and show what they state."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.images import ALLOWED, built

__all__ = ["built"]

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(ALLOWED), reason="the examples allow no protection to be missing"),
]


@pytest.fixture
def folder(built: Callable[..., Path], tmp_path: Path) -> Path:
    """The notebooks, next to the image that they load."""
    shutil.copy(built(FOLDER / "frames"), tmp_path / "frames.kluis")
    for name in ("frames.ipynb", "frames_marimo.py"):
        shutil.copy(FOLDER / name, tmp_path / name)
    return tmp_path


def test_jupyter(folder: Path) -> None:
    """Every cell runs, and the enclave, the verdict and the frame are shown as tables."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(folder / "frames.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "a notebook is kept without its outputs"
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    shown = [_shown(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert "<strong>enclave frames</strong>" in shown[0]["text/html"]
    assert "<strong>affirming (" in shown[1]["text/html"]
    assert "<td>49.0</td>" in shown[2]["text/html"]
    assert shown[3]["text/plain"] == "[8, 8]"
    assert shown[4]["text/plain"] == "(21, [8, 8, 5])"


def _shown(cell: Any) -> dict[str, str]:
    """The result of a cell, by its media type; empty if it has none."""
    return next((each["data"] for each in cell.outputs if each["output_type"] == "execute_result"), {})


def test_marimo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs in the order of its needs, and the notebook meets marimo's own check."""
    pytest.importorskip("marimo")
    checked = subprocess.run(
        [sys.executable, "-m", "marimo", "check", "--strict", "frames_marimo.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    monkeypatch.chdir(folder)
    outputs, names = runpy.run_path("frames_marimo.py")["app"].run()
    assert names["total"] == (20, 21)
    assert names["parts"] == [8, 8, 5]
    html = [each._repr_html_() for each in outputs if hasattr(each, "_repr_html_")]
    assert any("<strong>enclave frames</strong>" in each for each in html)
    assert any("<strong>affirming (" in each for each in html)
