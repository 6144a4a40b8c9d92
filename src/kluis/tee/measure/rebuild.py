"""Rebuild an image from its source and compare: does this code have that image id?

The author's key is not needed, because a signature is not measured. The source may be hostile: its
application is imported in a sandbox (:mod:`kluis.tee.image.build.walls`).
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import kluis
from kluis.errors import UsageError
from kluis.tee.image.build import builder, changes, config, interpreter
from kluis.tee.image.build.changes import Change
from kluis.tee.image.build.packages import lock
from kluis.tee.measure import image as measure

UNMEASURED: Final = ("signature", "uncompared", "native", "in_place")


def rebuild(image: Path, directory: Path, say: Callable[[str], None]) -> tuple[bytes, list[Change]]:
    """Rebuild ``directory`` and compare it with ``image``, whose every byte is checked first.

    Returns:
        The image id of the directory, 32 bytes, and the differences that change it; empty if the ids are
        equal.

    Raises:
        AuthenticityError: the image's bytes do not match its manifest.
        UnavailableError: bubblewrap, in which the application is imported, is missing or refused.
        UsageError: another Kluis built it, the directory has no lock of its requirements, or a link leads out
            of it.
    """
    original = measure.measure(image).image
    if original.manifest.kluis != kluis.__version__:
        raise UsageError(
            f"{image}: kluis: want {kluis.__version__}, which this is, got {original.manifest.kluis}",
            hint="python3 -m venv other && other/bin/pip install --find-links DIR"
            f" 'kluis[enclave]=={original.manifest.kluis}', where DIR has that version's wheels",
        )
    if original.manifest.python != interpreter.version():
        raise UsageError(
            f"{image}: python: want {interpreter.version()}, as here, got {original.manifest.python}",
            hint="use the Python that the author used: the runtime has one release for each",
        )
    _check_links(directory)
    _check_lock(directory)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rebuilt.kluis"
        built = builder.build(directory, out, None, say=say)
        differences = [change for change in changes.diff(image, out) if change.kind not in UNMEASURED]
    return built.image_id, differences


def _check_links(directory: Path) -> None:
    """A link out of an untrusted folder would put a file of this machine into the image."""
    root = directory.resolve()
    for folder, folders, names in os.walk(root):
        for path in (Path(folder, name) for name in (*folders, *names)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise UsageError(
                    f"{path}: want a link that stays in the folder, got one out of it",
                    hint=f"rm {shlex.quote(str(path))}",
                )


def _check_lock(directory: Path) -> None:
    """A build without a lock would choose other versions, and write them into the directory."""
    if not directory.is_dir():
        return  # which the build refuses
    wanted = config.load(directory).requirements
    if isinstance(wanted, str) or not wanted or lock.has_hashes(wanted):
        return
    if not (directory / lock.name()).exists():
        raise UsageError(
            f"{directory}: want {lock.name()}, which the author's build wrote, got none",
            hint="the author publishes it with the source",
        )
