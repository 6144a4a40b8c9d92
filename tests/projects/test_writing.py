"""Projects: every template is written whole, its code is Python, and the tests of its rehearsals pass."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kluis import appraisal
from kluis.errors import UnavailableError, UsageError
from kluis.projects import template, templates, write
from kluis.projects.needs import missing_extras, missing_packages
from kluis.tee import author_keys
from kluis.tee.image.build import config
from tests.meta.tree import ROOT

NAME = "cohort"
QUICK = ("ecall", "api", "openai")


@pytest.mark.parametrize("name", templates())
def test_every_template_is_a_project(name: str, tmp_path: Path) -> None:
    """Its Python is Python, its settings are an image's, its policy accepts its own signer, and no
    placeholder is left.
    """
    chosen = template(name)
    written = write(NAME, chosen, tmp_path)

    assert set(written.files) >= {"README.md", "kluis.toml", "app.py", ".gitignore", "author.pem"}
    assert any(path.startswith("tests/test_") for path in written.files)
    for path in written.files:
        text = (written.folder / path).read_text()
        assert "project_name" not in path + text
        if path.endswith(".py"):
            ast.parse(text)
    config.load(written.folder)
    key = author_keys.load((written.folder / "author.pem").read_bytes())
    assert (written.folder / "author.pem").stat().st_mode & 0o777 == 0o600
    if chosen.purpose is not None:
        policy = appraisal.loads((written.folder / "policy.toml").read_bytes())
        assert isinstance(policy.identity, appraisal.BySigner)
        assert policy.identity.signers == {author_keys.signer_of(key.public_key())}
        assert policy.binding.purpose == chosen.purpose
    assert 1 <= len(written.next) <= 4, "with kluis new itself, at most five commands"
    readme = (written.folder / "README.md").read_text()
    assert [line for line in written.next if line not in readme] == []
    assert [path.name for path in tmp_path.iterdir()] == [NAME], "nothing else is left"


def test_every_file_of_a_template_is_in_the_wheel() -> None:
    """No template has a file whose kind the package leaves out."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["kluis"]
    kinds = {Path(each).suffix for each in data if each.startswith(("projects/templates/**/", "**/"))}
    paths = {path for name in templates() for path in template(name).files}
    assert {path for path in paths if Path(path).suffix not in kinds} == set()


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in templates()]
)
def test_the_tests_of_a_project_pass(name: str, tmp_path: Path) -> None:
    """A new project's own tests pass as they are written, in a rehearsal."""
    chosen = template(name)
    if lacking := (*missing_extras(chosen.extras), *missing_packages(chosen.packages)):
        pytest.skip(f"not installed here: {', '.join(lacking)}")
    write(NAME, chosen, tmp_path)
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", NAME]
    done = subprocess.run(
        line,
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (
            "My Cohort",
            "name: want a lower-case letter, then at most 39 of a-z, 0-9 and _, got 'My Cohort'",
            "kluis new my_cohort ...",
        ),
        (
            "../up",
            "name: want a lower-case letter, then at most 39 of a-z, 0-9 and _, got '../up'",
            "kluis new up ...",
        ),
        (
            "",
            "name: want a lower-case letter, then at most 39 of a-z, 0-9 and _, got ''",
            "kluis new my_project ...",
        ),
        ("class", "name: class: is a word of Python's or of Kluis's", "kluis new my_class ..."),
        ("json", "name: json: is a word of Python's or of Kluis's", "kluis new my_json ..."),
    ],
)
def test_a_name_that_cannot_be_used(name: str, message: str, hint: str, tmp_path: Path) -> None:
    """A name that is no identifier, or hides a module, is refused, with one that can be used."""
    with pytest.raises(UsageError) as refused:
        write(name, template("ecall"), tmp_path)
    assert (refused.value.message, refused.value.hint) == (message, hint)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_a_name_that_exists(kind: str, tmp_path: Path) -> None:
    """What exists already is neither overwritten nor followed."""
    place = tmp_path / NAME
    match kind:
        case "file":
            place.write_text("mine")
        case "folder":
            place.mkdir()
        case _:
            place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError) as refused:
        write(NAME, template("api"), tmp_path)
    assert refused.value.message == f"{place}: want a name that is free, got one that exists"
    assert refused.value.hint == "kluis new OTHER_NAME --template api"
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_an_unknown_template() -> None:
    """A template that does not exist is refused, with the nearest one."""
    with pytest.raises(UsageError) as refused:
        template("ecal")
    assert refused.value.message == f"--template: want one of {', '.join(templates())}, got 'ecal'"
    assert refused.value.hint == "did you mean ecall?"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Where nothing can be written, the error names the folder, and nothing is left."""
    with pytest.raises(UnavailableError) as refused:
        write(NAME, template("ecall"), tmp_path / "gone")
    assert (
        refused.value.message == f"{tmp_path / 'gone' / NAME}: cannot be written: No such file or directory"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_here() -> None:
    """Only requirements that no installed distribution meets are missing, also in an extra's extra."""
    assert missing_packages(["pytest>=1", "pytest>=9000", "no-such-package-of-kluis"]) == (
        "pytest>=9000",
        "no-such-package-of-kluis",
    )
    assert missing_extras(["enclave", "rooms"]) == ()


@pytest.mark.parametrize(
    ("name", "program", "usage"),
    [
        ("api", "client.py", "https://HOST:PORT"),
        ("mcp", "client.py", "https://HOST:PORT"),
        ("ecall", "host.py", "cohort.kluis"),
        ("job", "owner.py", "cohort.kluis"),
        ("room", "run.py", "cohort.kluis"),
    ],
)
def test_a_program_without_its_argument_prints_its_usage(
    name: str, program: str, usage: str, tmp_path: Path
) -> None:
    """One line, and no traceback."""
    done = _programs_output(name, program, tmp_path)
    assert done == f"usage: python {tmp_path}/{NAME}/{program} {usage}\n"


@pytest.mark.parametrize("name", ["api", "mcp", "openai"])
def test_a_client_names_the_server_that_it_cannot_reach(name: str, tmp_path: Path) -> None:
    """One line with the address, and no traceback."""
    done = _programs_output(name, "client.py", tmp_path, "https://127.0.0.1:1")
    assert done.startswith("https://127.0.0.1:1 cannot be reached: ")
    assert done.count("\n") == 1, done


def _programs_output(name: str, program: str, folder: Path, *words: str) -> str:
    """What a program of a new project prints to stderr; it fails."""
    written = write(NAME, template(name), folder)
    done = subprocess.run(
        [sys.executable, str(written.folder / program), *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    return done.stderr
