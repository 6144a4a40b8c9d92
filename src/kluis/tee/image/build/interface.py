"""Get an application's interface by importing it in a sandbox that contains only the image's files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kluis.errors import UsageError, foreign
from kluis.formats.encoding import jcs
from kluis.frozen import frozen
from kluis.tee.image import archive, layers, manifest
from kluis.tee.image.build import asked, interpreter, walls
from kluis.tee.image.build.interpreter import Interpreter
from kluis.tee.image.sources import Source

TIMEOUT_SECONDS: Final = 300
_ASKED: Final = ("kluis", "site", "app")
"""Layers on the interpreter's path, in order."""
MOST_BINDS: Final = 500
"""Packages that are mounted where they are; bubblewrap accepts a few thousand. More are copied."""
_SHOWN: Final = 64 << 10


@frozen
class Answer:
    """The application's answer; ``interface`` is canonical JSON."""

    name: str
    product_id: int
    svn: int
    interface: bytes


def ask(
    entry: str, contents: Mapping[str, list[Source]], env: Mapping[str, str], python: Interpreter, work: Path
) -> Answer:
    """Import ``entry`` in a fresh interpreter, in a sandbox, and return its interface.

    The interpreter sees the layers at their paths in the enclave, read-only, and nothing else of this
    machine.

    Args:
        entry: ``module:attribute``.
        contents: files of each layer by layer name.
        env: the image's environment.
        python: the base layer's.
        work: a folder that exists for this build.

    Raises:
        KeyboardInterrupt: Ctrl-C ended the interpreter, even if no handler runs here.
        UnavailableError: bubblewrap is not installed (code ``no_bwrap``) or may not create namespaces
            (``no_walls``).
        UsageError: the application cannot be imported, or has no such interface; states why.
    """
    module, _, attribute = entry.partition(":")
    own_id = walls.own_id()
    with tempfile.TemporaryDirectory(dir=work) as folder, tempfile.TemporaryFile(dir=work) as printed:
        stage = Path(folder)
        mounts: list[tuple[Path, str]] = []
        for name in _ASKED:
            if name in contents:
                mounts += _lay(stage / name, manifest.MOUNTS[name], contents[name], MOST_BINDS - len(mounts))
        program = stage / "asked.py"
        program.write_bytes(Path(asked.__file__).read_bytes())
        program.chmod(layers.FILE_MODE)
        if own_id:
            walls.open_to_all([python.tree, *(outside for outside, _ in mounts)])
        with tempfile.TemporaryFile(dir=work) as out:
            settings = {
                "module": module,
                "attribute": attribute,
                "out": out.fileno(),
                "paths": [manifest.MOUNTS[name] for name in _ASKED if name in contents],
                "env": dict(env),
                "limits": walls.limits(TIMEOUT_SECONDS),
                "own_id": own_id,
            }
            try:
                done = subprocess.run(
                    walls.command(mounts, python, program, json.dumps(settings), own_id),
                    cwd="/",
                    env={},
                    pass_fds=[out.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    timeout=TIMEOUT_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise UsageError(
                    f"{entry}: want an import that ends, got none in {TIMEOUT_SECONDS} s"
                ) from error
            out.seek(0)
            started, answer = out.read(1), out.read(archive.MAX_INTERFACE_BYTES + 1)
        printed.seek(max(0, printed.seek(0, os.SEEK_END) - _SHOWN))
        words = printed.read(_SHOWN)
    # Ctrl-C at a terminal signals the whole group; bubblewrap reports the signal that ended its child.
    if done.returncode in (-signal.SIGINT, 128 + signal.SIGINT):
        raise KeyboardInterrupt
    if not started:
        raise walls.refusal(_last(words))
    if done.returncode:
        raise UsageError(f"{entry}: cannot be imported: {_last(words)}", hint=_hint(entry, words))
    return _answer(entry, answer)


def _answer(entry: str, data: bytes) -> Answer:
    value = jcs.loads(data, f"{entry}.interface()", max_size=archive.MAX_INTERFACE_BYTES)
    match value:
        case {
            "interface": dict() as interface,
            "name": str(name),
            "product_id": int(product),
            "svn": int(svn),
        }:
            return Answer(name, product, svn, jcs.dumps(interface))
        case {"refused": str(message), "hint": str() | None as hint}:
            raise UsageError(f"{entry}: {message}", hint=hint)
        case _:
            raise UsageError(f"{entry}: want an Enclave with a name, product_id and svn, got something else")


def _lay(folder: Path, mount: str, files: list[Source], most: int) -> list[tuple[Path, str]]:
    """Prepare a layer's files for mounting: copy each with a check, or mount whole packages where they are.

    A top-level package whose files all come from one tree is mounted from there: thousands of copies take
    seconds.

    Args:
        folder: is created.
        mount: the layer's mount point.
        files: the layer's.
        most: maximum number of mounts.

    Returns:
        Folders outside and mount points inside; the layer's own first.
    """
    folder.mkdir()
    mounts = [(folder, mount)]
    tops: dict[str, list[Source]] = {}
    for file in files:
        tops.setdefault(file.path.partition("/")[0], []).append(file)
    for top, members in tops.items():
        trees = {member.tree for member in members}
        tree = trees.pop() if len(trees) == 1 else None
        if tree is not None and (tree / top).is_dir() and len(mounts) < most:
            (folder / top).mkdir()
            mounts.append((tree.resolve() / top, f"{mount}/{top}"))
        else:
            interpreter.write(folder, members)
    return mounts


def _last(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return foreign(lines[-1].strip()) if lines else "the interpreter said nothing"


def _hint(entry: str, output: bytes) -> str:
    module, _, attribute = entry.partition(":")
    if b"ModuleNotFoundError" in output:
        return "name what it imports under requirements in kluis.toml, and put its own modules in the folder"
    if f"module '{module}' has no attribute '{attribute}'".encode() in output:
        return f'call the Enclave {attribute}, or name it in kluis.toml: entry = "{module}:NAME"'
    return f"python -c 'import {module}' in the folder shows the whole error"
