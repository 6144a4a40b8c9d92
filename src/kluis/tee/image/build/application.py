"""Collect the ``app`` layer: the author's folder, checked so that no other layer hides one of its modules."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from kluis.errors import UsageError
from kluis.tee.image import sources
from kluis.tee.image.build import config
from kluis.tee.image.build.packages import lock
from kluis.tee.image.sources import Source

KEYS: Final = ("*.pem", "*.key", "*.sig")
# Never packed: keys and images, files of editors and version control, and build settings.
LEFT_OUT: Final = (".*", "__pycache__", "*.kluis", *KEYS, config.NAME, lock.PATTERN)


def layer(directory: Path, settings: config.Config, apart: Collection[Path] = ()) -> list[Source]:
    """The folder's files, without those that are never packed and those excluded.

    Args:
        directory: the application's.
        settings: has the entry point, and what to exclude.
        apart: files to leave out wherever they are: the key, the image.

    Raises:
        UsageError: nothing to run, or a file that an interpreter would run automatically.
    """
    patterns = (*LEFT_OUT, *settings.exclude)
    listed = settings.requirements if isinstance(settings.requirements, str) else None
    never = {path.resolve() for path in apart}

    def keep(path: str, folder: bool) -> bool:
        if folder and settings.wheels and (directory / path).resolve() == settings.wheels:
            return False
        return path != listed and not _matches(path, patterns)

    files = []
    for path, origin in sources.walk(directory, keep):
        if origin.resolve() not in never:
            sources.refuse_hooks(path, str(directory))
            files.append(sources.of_file(path, origin))
    module = settings.entry.partition(":")[0].replace(".", "/")
    if not {f"{module}.py", f"{module}/__init__.py"} & {file.path for file in files}:
        raise UsageError(
            f"{directory}: want {module}.py, found none", hint=_entry_hint(directory, files, module)
        )
    return files


def _entry_hint(directory: Path, files: list[Source], module: str) -> str:
    """The hint if the entry point's file does not exist."""
    below = sorted(path.parent.name for path in directory.glob(f"*/{module}.py"))
    if below:
        return f"{module}.py is in a folder below: kluis build {directory / below[0]} ..."
    others = sorted(file.path for file in files if file.path.endswith(".py") and "/" not in file.path)
    if others:
        name = others[0].removesuffix(".py")
        return f'call it {module}.py, or name it in {directory / config.NAME}: entry = "{name}:app"'
    return f"give the folder that has {module}.py, as in: kluis build cohort, where cohort/{module}.py is"


def named_as_keys(directory: Path, settings: config.Config, apart: Collection[Path] = ()) -> list[str]:
    """Files that :func:`layer` leaves out only because their names are those of keys: a certificate may be
    wanted in the image.
    """
    others = (*(pattern for pattern in LEFT_OUT if pattern not in KEYS), *settings.exclude)
    never = {path.resolve() for path in apart}

    def keep(path: str, folder: bool) -> bool:
        if folder:
            return not _matches(path, (*LEFT_OUT, *settings.exclude))
        return _matches(path, KEYS) and not _matches(path, others)

    return [path for path, origin in sources.walk(directory, keep) if origin.resolve() not in never]


def _matches(path: str, patterns: Iterable[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(
        fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(name, pattern) for pattern in patterns
    )


def refuse_shadows(own: list[Source], site: list[Source], app: list[Source]) -> None:
    """Refuse a module that can never be imported, since an earlier layer has one with its name.

    The import order is the standard library, Kluis, the requirements, the application.

    Raises:
        UsageError: a module that an earlier layer hides.
    """
    taken = dict.fromkeys(sys.stdlib_module_names, "the standard library")
    taken |= dict.fromkeys(_modules(own), "Kluis's own part of the image")
    for name in sorted(_modules(site) & taken.keys()):
        raise UsageError(f"requirements: {name}: is hidden by {taken[name]}", hint="leave it out")
    taken |= dict.fromkeys(_modules(site), "a requirement")
    for name in sorted(_modules(app) & taken.keys()):
        raise UsageError(f"{name}: is hidden by {taken[name]}", hint="give the module another name")


def _modules(files: list[Source]) -> set[str]:
    names = set()
    for file in files:
        top, slash, rest = file.path.partition("/")
        if rest == "__init__.py" or (not slash and top.endswith((".py", ".so"))):
            names.add(top.split(".", 1)[0])
    return names
