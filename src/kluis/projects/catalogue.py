"""The templates: each is a folder with a ``template.toml`` and the files of a project.

::

    title = "Functions that a host calls"
    extras = ["enclave"]             # of Kluis, which the commands below need
    packages = ["fastapi>=0.115"]    # which the project's test or its client needs on this machine
    purpose = "cli"                  # of the evidence that policy.toml accepts; without it there is no policy
    next = ["kluis build project_name -o project_name.kluis --key project_name/author.pem"]

In every file, in the names of files and in ``next``, the word ``project_name`` becomes the project's name.
So a template is a project that runs as it is.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from kluis.errors import InternalError, unknown
from kluis.formats.kluis.runtime_data import Purpose
from kluis.frozen import frozen

SETTINGS: Final = "template.toml"
PLACEHOLDER: Final = "project_name"
_FOLDER: Final = Path(__file__).with_name("templates")


class _File(msgspec.Struct, forbid_unknown_fields=True):
    title: str
    next: list[str]
    extras: list[str] = []
    packages: list[str] = []
    purpose: Purpose | None = None


@frozen
class ProjectTemplate:
    """A template.

    Attributes:
        name: of its folder.
        title: one line for people, without a period.
        extras: extras of Kluis that its commands need.
        packages: requirements of its test or client, outside the enclave.
        purpose: of the evidence that its policy accepts; None: it has no policy.
        next: the commands that follow ``kluis new``, with the placeholder.
        files: their contents by their paths, with the placeholder.
    """

    name: str
    title: str
    extras: tuple[str, ...]
    packages: tuple[str, ...]
    purpose: Purpose | None
    next: tuple[str, ...]
    files: dict[str, str] = dataclasses.field(repr=False)


def templates() -> tuple[str, ...]:
    """The names of all templates, sorted."""
    return tuple(sorted(path.parent.name for path in _FOLDER.glob(f"*/{SETTINGS}")))


@functools.cache
def template(name: str) -> ProjectTemplate:
    """Read one template.

    Raises:
        UsageError: there is no such template; names those that exist.
    """
    if name not in templates():
        raise unknown("--template", name, templates())
    folder = _FOLDER / name
    try:
        read = msgspec.convert(tomllib.loads((folder / SETTINGS).read_text("utf-8")), _File)
        files = {
            path.relative_to(folder).as_posix(): path.read_text("utf-8")
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != SETTINGS and "__pycache__" not in path.parts
        }
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise InternalError(f"template {name}: {error}") from None
    return ProjectTemplate(
        name=name,
        title=read.title,
        extras=tuple(read.extras),
        packages=tuple(read.packages),
        purpose=read.purpose,
        next=tuple(read.next),
        files=files,
    )
