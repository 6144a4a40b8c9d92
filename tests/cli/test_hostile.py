"""Hostile files for every option and argument: the command reports what is wrong, at once."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from kluis.appraisal import dumps
from kluis.cli import main
from kluis.evidence import Tee
from tests.appraisal.policy.test_reference import _wanting
from tests.appraisal.rules.test_appraise import _policy
from tests.cli.quotes import NOW, Kluis
from tests.formats.hostile import hostile
from tests.pace import within

LARGEST = 64 << 20
MOST_SECONDS = 1.5
MOST_SAID = 64 << 10
# The position of the swapped file, by the command that reads it.
COMMANDS: dict[str, tuple[str, ...]] = {
    "inspect": ("inspect", "X"),
    "evidence": ("verify", "X", "--now", NOW),
    "root": ("verify", "quote.bin", "--root", "X", "--now", NOW),
    "collateral": ("verify", "quote.bin", "--root", "root.pem", "--collateral", "X", "--now", NOW),
    "policy": ("appraise", "quote.bin", "--policy", "X", "--now", NOW),
    "reference": ("appraise", "quote.bin", "--policy", "reference.toml", "--reference", "X", "--now", NOW),
    "bundle": ("collateral", "show", "X", "--now", NOW),
    "rules": ("policy", "lint", "X"),
    "image": ("measure", "X"),
}
READS_ANYTHING = {"inspect"}


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command is built once for all that a test tries."""
    monkeypatch.setattr(main, "load", functools.cache(main.load))


def _all_refused(command: str, size: int, folder: Path, kluis: Kluis) -> None:
    path = folder / "hostile"
    wanting = _policy(identity=_wanting(Tee.SGX, "measurements"))
    (folder / "reference.toml").write_text(dumps(wanting), encoding="utf-8")
    words = [str(path) if word == "X" else word for word in COMMANDS[command]]
    words = [str(folder / word) if (folder / word).is_file() else word for word in words]
    for what, data in hostile(size):
        path.write_bytes(data)
        with within(MOST_SECONDS, what):
            said = kluis(*words)
        assert said.code in range(2, 8) or command in READS_ANYTHING, (what, said.code, said.err[-300:])
        assert "Traceback" not in said.err, what
        assert len(said.out + said.err) < MOST_SAID, what
        assert all(line.isprintable() for line in (said.out + said.err).replace("\t", " ").split("\n")), what


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("command", COMMANDS)
def test_files_that_are_read_in(command: str, folder: Path, kluis: Kluis) -> None:
    """For any content of a file, the command ends with an exit code of ours and printable text."""
    _all_refused(command, 100_000, folder, kluis)


@pytest.mark.slow
@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("command", COMMANDS)
def test_files_as_large_as_can_be(command: str, folder: Path, kluis: Kluis) -> None:
    """So does a file of 64 MiB, in little memory."""
    _all_refused(command, LARGEST, folder, kluis)
