"""What the documents say is what the program does."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from kluis.cli import main as cli
from scripts import reference
from tests.meta.tree import DOCS, ROOT, SRC, TESTS, modules

PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "SECURITY.md"])


def test_the_commands_page_is_what_help_prints() -> None:
    """docs/reference/cli.md is every command's --help, to the letter."""
    assert (reference.REFERENCE / "cli.md").read_text() == reference.command_line()


def test_the_public_names_are_the_ones_in_the_reference() -> None:
    """docs/reference/python.md has every public name with its first sentence, and no other."""
    assert (reference.REFERENCE / "python.md").read_text() == reference.python()


def test_the_policy_page_is_what_the_tables_say() -> None:
    """docs/reference/policy.md has every key of every TEE's table, with its rule."""
    assert (reference.REFERENCE / "policy.md").read_text() == reference.policy()


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_line_in_the_table_is_the_commands_own(name: str) -> None:
    """The line that `kluis --help` shows without loading a room begins the room's own first sentence."""
    first = (cli.load(name).help or "").strip().split("\n\n")[0].replace("\n", " ")
    assert first.startswith(cli.COMMANDS[name].help.rstrip("."))
    assert len(cli.COMMANDS[name].help) < 68


def test_the_table_has_every_command_of_every_module() -> None:
    """No module has a function with options or arguments that is not a command which `kluis --help` shows."""
    shown = {name.replace("-", "_") for name in cli.COMMANDS}
    for name in {entry.module for entry in cli.COMMANDS.values()}:
        module = importlib.import_module(f"kluis.cli.{name}")
        for each in filter(inspect.isfunction, vars(module).values()):
            if each.__module__ == module.__name__ and "Annotated[" in str(each.__annotations__):
                assert each in getattr(module, "COMMANDS", ()) or each.__name__.rstrip("_") in shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: object) -> None:
    """A link inside the project leads to a file that exists."""
    assert hasattr(page, "read_text")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_that_the_source_names_exists() -> None:
    """A module that sends its reader to a page names one that is there, by its path in the project."""
    named = {
        (str(module), name)
        for module in modules()
        for name in re.findall(r"[\w./-]+\.md\b|docs/decisions/[\w.-]+\b", (SRC / module).read_text())
    }
    assert named
    assert sorted(pair for pair in named if not (ROOT / pair[1]).is_file()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_row_of_a_table_has_its_cells(page: Path) -> None:
    """A row ends where its table does, and has as many cells as the head: else lines have become one."""
    head = 0
    for number, line in enumerate(page.read_text().splitlines(), 1):
        bars = len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line))) if line.startswith("|") else 0
        assert not bars or line.endswith("|"), f"{page.name}:{number}: want a row, got more after it"
        assert bars in {0, head} or not head, f"{page.name}:{number}: want {head - 1} cells, got {bars - 1}"
        head = bars


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_is_named_exists(page: object) -> None:
    """A document that names a test as proof of a statement names an existing one."""
    assert hasattr(page, "read_text")
    for path, name in re.findall(r"`tests/([\w/]+\.py)(?:::(\w+))?`", page.read_text()):
        assert (TESTS / path).exists(), path
        if name:
            assert f"def {name}(" in (TESTS / path).read_text(), f"{path}::{name}"


def test_the_architecture_names_every_folder() -> None:
    """A row of the tree that names folders within its folder names all of them."""
    text = (DOCS / "architecture.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)/` \| (.*) \|$", text, re.MULTILINE))
    within = {name: {path.parent.name for path in (SRC / name).glob("*/__init__.py")} for name in rows}
    named = {name: folders & set(re.findall(r"`(\w+)`", rows[name])) for name, folders in within.items()}
    assert set(rows) == {path.parent.name for path in SRC.glob("*/__init__.py")}
    assert {name: within[name] - named[name] for name in rows if named[name]} == {
        name: set() for name in rows if named[name]
    }


@pytest.mark.parametrize(
    "page", [DOCS / "architecture.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_every_file_that_the_architecture_names_exists(page: Path) -> None:
    """A file or folder in the architecture, or in what contributors read, is there under that path."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    there = {f"/{path}" for path in listed.splitlines()} | {f"/{path}/" for path in _folders(listed)}
    named = set(re.findall(r"`((?:[\w-]+/)*[\w-]+(?:/|\.(?:py|c|md|toml|lock)))`", page.read_text()))
    assert sorted(name for name in named if not any(path.endswith(f"/{name}") for path in there)) == []


def _folders(listed: str) -> set[Path]:
    return {folder for path in listed.splitlines() for folder in Path(path).parents}


def test_every_page_is_in_the_navigation_once() -> None:
    """Every page is in the menu, except for the decisions, which their own page lists."""
    listed = re.findall(r"- ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    decisions = {str(path.relative_to(DOCS)) for path in (DOCS / "decisions").glob("0*.md")}
    assert sorted(listed) == sorted({str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - decisions)
    rows = re.findall(r"^\| \[\d{4}\]\((.*?)\) \|", (DOCS / "decisions/README.md").read_text(), re.MULTILINE)
    assert sorted(f"decisions/{name}" for name in rows) == sorted(decisions)


def test_the_front_page_and_the_readme_name_every_guide() -> None:
    """A newcomer finds every guide from the first page that they read."""
    guides = {path.name for path in (DOCS / "guides").glob("*.md")}
    for page in (DOCS / "index.md", ROOT / "README.md"):
        assert guides <= set(re.findall(r"guides/([\w-]+\.md)", page.read_text())), page


def test_every_pitfall_names_a_test() -> None:
    """No row of the page on other verifiers' mistakes is without a test."""
    lines = (DOCS / "quality" / "pitfalls.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| what goes wrong")]
    assert len(rows) == 62
    assert [row for row in rows if not re.search(r"\| `tests/\w[^|]*::\w+` \|$", row)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_in_a_page_is_one(page: object) -> None:
    """A `kluis ...` line in a console block names a command, and options that the command has."""
    assert hasattr(page, "read_text")
    for block in re.findall(r"```(?:console|sh|bash)[^\n]*\n(.*?)```", page.read_text(), re.DOTALL):
        for line in re.findall(r"^\$ (kluis .*)$", block, re.MULTILINE):
            _known(shlex.split(re.sub(r"\$\(.*?\)", "WORD", line), comments=True)[1:])


def _known(words: list[str]) -> None:
    if words[0].startswith("-"):
        return
    command = cli.load(words[0])
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        command, rest = command.commands[rest[0]], rest[1:]
    options = {opt for param in command.params for opt in [*param.opts, *param.secondary_opts]} | {"--help"}
    for word in rest:
        if word.startswith("-") and word != "-":
            assert word.partition("=")[0] in options, f"{command.name}: no option {word}"


def test_the_two_commands_of_the_readme_are_targets() -> None:
    """The README has `make demo` and `make test`, and the Makefile has both."""
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in readme
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_changelog_has_verdicts() -> None:
    """The newest entry of the changelog lists inputs that are judged differently now."""
    newest = (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1]
    assert "### Verdicts" in newest


def test_the_layers_in_the_pages_are_the_ones_that_are_held() -> None:
    """How it fits lists the layers of the import contract, from below, as far as they exist."""
    text = (DOCS / "architecture.md").read_text()
    listed = re.search(r"a test holds that: `([^`]*)`", text)
    assert listed is not None
    said = [set(layer.split()) for layer in listed[1].split("|")]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    held = [set(re.findall(r"[a-z]+", layer)) for layer in contracts[0]["layers"]]
    rooms = {path.stem for path in SRC.iterdir()}
    assert said == [layer & rooms for layer in reversed(held) if layer & rooms]


def test_help_speaks_no_python() -> None:
    """What an option takes is named as a person would, and no sentence of a group's help is cut off."""
    page = (reference.REFERENCE / "cli.md").read_text()
    assert not re.findall(r"^  -.*<(?:list|str|int|path|float).*$", page, re.MULTILINE)
    assert not re.findall(r"^  \w+ .*\.\.\.$", page, re.MULTILINE)
