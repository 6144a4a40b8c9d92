"""Write a project from a template: all of it, or nothing."""

from __future__ import annotations

import keyword
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Final

from kluis import appraisal
from kluis.errors import UnavailableError, UsageError, foreign
from kluis.evidence import ProtectionLevel
from kluis.formats.kluis.launch import UNWITNESSED
from kluis.formats.kluis.runtime_data import Purpose
from kluis.frozen import frozen
from kluis.projects.catalogue import PLACEHOLDER, ProjectTemplate
from kluis.tee import author_keys
from kluis.tee.image import signing

KEY: Final = "author.pem"
POLICY: Final = "policy.toml"
IGNORED: Final = "*.pem\n*.kluis\n__pycache__/\n"
"""Content of ``.gitignore``: keys are secret, and images can be built again."""
PRODUCT_ID: Final = 1
MIN_SVN: Final = 1
"""Of every template's Enclave, as in its ``app.py``."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


@frozen
class Written:
    """A project that was written.

    Attributes:
        folder: of the project.
        files: their paths in it, sorted.
        next: the commands that follow.
    """

    folder: Path
    files: tuple[str, ...]
    next: tuple[str, ...]


def write(name: str, template: ProjectTemplate, parent: Path) -> Written:
    """Write a project into a new folder, with a new author's key and a policy that accepts its images.

    Args:
        name: of the project and its folder: a lower-case letter, then at most 39 of a-z, 0-9 and _.
        template: the files.
        parent: the folder in which the project's folder is created.

    Raises:
        UsageError: the name cannot be used, or exists already.
        UnavailableError: the folder cannot be written; nothing of it is left.
    """
    _check(name)
    folder = parent / name
    if os.path.lexists(folder):
        raise UsageError(
            f"{folder}: want a name that is free, got one that exists",
            hint=f"kluis new OTHER_NAME --template {template.name}",
        )
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=parent) as work:
            made = Path(work) / name
            made.mkdir()
            for path, text in template.files.items():
                _put(made / path.replace(PLACEHOLDER, name), text.replace(PLACEHOLDER, name))
            _put(made / ".gitignore", IGNORED)
            signing.ensure_key(made / KEY)
            if template.purpose is not None:
                _put(made / POLICY, _policy(template.purpose, made / KEY))
            files = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
            made.rename(folder)  # also refuses a folder that appeared meanwhile, unless it is empty
    except OSError as error:
        raise UnavailableError(
            f"{folder}: cannot be written: {error.strerror}", hint="change to a folder that you may write"
        ) from None
    return Written(folder, tuple(files), tuple(line.replace(PLACEHOLDER, name) for line in template.next))


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"name: want a lower-case letter, then at most 39 of a-z, 0-9 and _, got {foreign(name, 60)!a}",
            hint=f"kluis new {_near(name)} ...",
        )
    if keyword.iskeyword(name) or name in sys.stdlib_module_names or name in _TAKEN:
        raise UsageError(
            f"name: {name}: is a word of Python's or of Kluis's", hint=f"kluis new my_{name} ..."
        )


def _near(name: str) -> str:
    """The nearest name that can be used."""
    made = re.sub(r"[^a-z0-9]+", "_", name[:60].lower()).strip("_")[:37]
    return made if _NAME.fullmatch(made) else "my_project"


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _policy(purpose: Purpose, key: Path) -> str:
    """A policy for every image of this project that this key signs, separated by this machine's Linux."""
    signer = author_keys.signer_of(signing.author_key(key).public_key())
    return appraisal.dumps(
        appraisal.strict(
            appraisal.BySigner(signers=frozenset({signer}), product_id=PRODUCT_ID, min_svn=MIN_SVN),
            protection=frozenset({ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER}),
            purpose=purpose,
            counters=frozenset({UNWITNESSED}),
            missing=frozenset(),
        )
    )


_TAKEN: Final = frozenset({"kluis", "app", "tests", "host", "client"})
