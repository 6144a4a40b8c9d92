"""What a shell offers where an option or an argument takes one of a few words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import typer.main
from typer._completion_classes import BashComplete

from kluis.cleanroom.agreement.agreement import Role
from kluis.cli import codes as catalogue
from kluis.cli import main
from kluis.evidence import ProtectionLevel
from kluis.formats.kluis.runtime_data import Purpose
from kluis.serve.images import SERVICES, STORE_KEYS
from kluis.tee.process import linux

LEVELS = {str(level) for level in ProtectionLevel} - {"none"}
FEW = (
    "--protection",
    "--root-level",
    "--purpose",
    "--missing",
    "--insecure-allow-missing",
    "--role",
    "--ear",
)


def offered(*words: str, incomplete: str = "") -> set[str]:
    """What completion offers after ``kluis WORDS``."""
    shell = BashComplete(typer.main.get_command(main.app), {}, "kluis", "_KLUIS_COMPLETE")
    return {item.value for item in shell.get_completions(list(words), incomplete)}


@pytest.mark.parametrize(
    ("words", "want"),
    [
        (["policy", "init", "--protection"], LEVELS),
        (["policy", "init", "--purpose"], {str(each) for each in Purpose}),
        (["policy", "init", "--missing"], set(linux.FIXES)),
        (["run", "a.kluis", "--insecure-allow-missing"], set(linux.FIXES)),
        (["room", "init", "room", "--role"], set(get_args(Role))),
        (["appraise", "e", "--ear"], {"jwt", "cwt"}),
        (["serve"], {*SERVICES, "all"}),
        (["serve", "all", "--store-key"], set(STORE_KEYS)),
        (["collateral", "fetch", "e", "--update"], {"early", "standard"}),
        (["measure", "--snp", "--vmm"], {"qemu", "ec2", "gce"}),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_choices(words: list[str], want: set[str]) -> None:
    """The words that a parameter's check accepts are the ones that are offered."""
    assert offered(*words) == want
    first = min(want)
    assert offered(*words, incomplete=first) == {each for each in want if each.startswith(first)}


def test_codes() -> None:
    """Every code and word that can be explained is offered, and each of them can be."""
    codes = offered("explain")
    assert codes >= {code for code in catalogue.entries() if "*" not in code}
    assert codes >= {each.word for each in catalogue.words().values()}
    for code in codes:
        assert code.lower() in catalogue.words() or catalogue.find(code).cause
    assert "ak_binding" in offered("explain", incomplete="ak_")
    assert all(code.startswith("ak_") for code in offered("explain", incomplete="ak_"))


def test_commands() -> None:
    """Commands, those of a group, and options are offered."""
    assert offered() == set(main.COMMANDS)
    assert {"init", "lint"} <= offered("policy")
    assert "--root-level" in offered("verify", incomplete="--root")


def _parameters(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for parameter in command.params:
        yield name, parameter
    for below, each in getattr(command, "commands", {}).items():
        yield from _parameters(f"{name} {below}", each)


def test_no_option_of_a_few_words_is_left_out() -> None:
    """Each option that takes one of a few words offers some, in every command that has it."""
    seen = set()
    for name in main.COMMANDS:
        for where, parameter in _parameters(name, main.load(name)):
            free = parameter.metavar == "TEXT"  # a room's purpose is free text
            option = next((opt for opt in parameter.opts if opt in FEW and not free), None)
            if option is None and "|" not in (parameter.metavar or ""):
                continue
            seen.add(option)
            assert offered(*where.split(), parameter.opts[-1]), f"{where} {parameter.opts}"
    assert seen >= set(FEW)


def test_the_program_answers_a_shell() -> None:
    """What bash runs at a tab prints the words, one a line."""
    done = subprocess.run(
        [sys.executable, "-c", "from kluis.cli.main import main; main()"],
        env={
            **os.environ,
            "_KLUIS_COMPLETE": "complete_bash",
            "COMP_WORDS": "kluis explain ak_",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert "ak_binding" in done.stdout.split()
