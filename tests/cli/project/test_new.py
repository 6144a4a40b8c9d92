"""``kluis new``: the commands that it prints."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from kluis import installing
from kluis.cli import main
from kluis.cli.project import new


def test_a_shell_takes_every_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line that installs an extra from an unknown folder states what DIR means as a comment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(installing, "_record", lambda name: None)
    monkeypatch.setattr(new, "missing_extras", lambda extras: ("rooms",))
    assert main.run(["new", "shop", "--template", "ecall", "--json"]) == 0
    install, *_ = json.loads(capsys.readouterr().out)["next"]
    words = shlex.split(install, comments=True)
    assert words[-2:] == ["DIR", "kluis[rooms]"]
    assert "# DIR has Kluis's wheels" in install


def test_a_word_that_is_like_no_template_gets_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Half of a word's letters suggest nothing."""
    assert main.run(["new", "shop", "--template", "nope"]) == 2
    said = capsys.readouterr().err
    assert "want one of api, ecall, job, mcp, openai, room, got 'nope'" in said
    assert "did you mean" not in said
    assert main.run(["new", "shop", "--template", "opnai"]) == 2
    assert "did you mean openai?" in capsys.readouterr().err
