"""Ask an application for its interface, outside, with the image's own files and nothing else on its path."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kluis.errors import UsageError
from kluis.formats import jcs
from kluis.tee.image import archive
from kluis.tee.image.interpreter import Interpreter
from kluis.tee.image.sources import Source

TIMEOUT_SECONDS: Final = 300
_ASK: Final = """
import ctypes, importlib, json, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL: if the build is killed, so is this
module, attribute, out, *folders = sys.argv[1:]
sys.path.extend(folders)
try:
    app = getattr(importlib.import_module(module), attribute)
    answer = {"interface": app.interface(), "name": app.name, "product_id": app.product_id, "svn": app.svn}
except Exception as error:
    if type(error).__module__ != "kluis.errors":  # one of Kluis's own says what mends it
        raise
    answer = {"refused": str(error), "hint": error.hint}
with open(int(out), "w", encoding="utf-8") as f:
    json.dump(answer, f)
os._exit(0)
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What the application says of itself; ``interface`` is canonical JSON."""

    name: str
    product_id: int
    svn: int
    interface: bytes


def ask(
    entry: str, contents: Mapping[str, list[Source]], env: Mapping[str, str], python: Interpreter, work: Path
) -> Answer:
    """Import ``entry`` in a fresh interpreter and take its interface.

    The interpreter is isolated, sees the layers as the enclave will, and inherits no environment.

    Args:
        entry: ``module:attribute``.
        contents: files of each layer by layer name.
        env: the image's environment.
        python: the base layer's.
        work: a folder for the length of the build.

    Raises:
        KeyboardInterrupt: Ctrl-C ended the interpreter, whoever handles it here.
        UsageError: the application cannot be imported, or has no such interface; says why.
    """
    module, _, attribute = entry.partition(":")
    with tempfile.TemporaryDirectory(dir=work) as folder:
        stage = Path(folder)
        paths = []
        for name in ("kluis", "site", "app"):
            if name in contents:
                _lay(stage / name, contents[name])
                paths.append(str(stage / name))
        out = stage / "answer.json"
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            done = subprocess.run(
                python.command("-c", _ASK, module, attribute, str(descriptor), *paths),
                cwd=stage,
                env={"PATH": os.defpath, "LANG": "C.UTF-8", **env},
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UsageError(f"{entry}: want an import that ends, got none in {TIMEOUT_SECONDS} s") from error
        finally:
            os.close(descriptor)
        if done.returncode == -signal.SIGINT:  # Ctrl-C at a terminal is for the whole group
            raise KeyboardInterrupt
        if done.returncode:
            raise UsageError(
                f"{entry}: cannot be imported: {_last(done.stdout, stage)}", hint=_hint(entry, done.stdout)
            )
        return _answer(entry, out.read_bytes())


def _answer(entry: str, data: bytes) -> Answer:
    value = jcs.loads(data, f"{entry}.interface()", max_size=archive.MAX_INTERFACE_BYTES)
    match value:
        case {"interface": dict() as found, "name": str(name), "product_id": int(product), "svn": int(svn)}:
            return Answer(name, product, svn, jcs.dumps(found))
        case {"refused": str(message), "hint": str() | None as hint}:
            raise UsageError(f"{entry}: {message}", hint=hint)
        case _:
            raise UsageError(f"{entry}: want an Enclave with a name, product_id and svn, got something else")


def _lay(folder: Path, files: list[Source]) -> None:
    """Put the files of a layer where an interpreter can import them: by link, or by writing them.

    A top-level package whose files all come from one tree is linked whole: thousands of links cost seconds.
    """
    folder.mkdir()
    tops: dict[str, list[Source]] = {}
    for file in files:
        tops.setdefault(file.path.partition("/")[0], []).append(file)
    for top, members in tops.items():
        trees = {member.tree for member in members}
        if len(trees) == 1 and (tree := trees.pop()) is not None:
            (folder / top).symlink_to(tree.resolve() / top)
            continue
        for parent in {folder / member.path.rpartition("/")[0] for member in members}:
            parent.mkdir(parents=True, exist_ok=True)
        for member in members:
            path = folder / member.path
            if isinstance(member.origin, Path) and member.offset == 0:
                path.symlink_to(member.origin.resolve())
            else:
                path.write_bytes(member.read())


def _last(output: bytes, stage: Path) -> str:
    lines = output.decode("utf-8", "replace").replace(f"{stage}/", "/k/").strip().splitlines()
    return lines[-1].strip() if lines else "the interpreter said nothing"


def _hint(entry: str, output: bytes) -> str:
    module, _, attribute = entry.partition(":")
    if b"ModuleNotFoundError" in output:
        return "name what it imports under requirements in kluis.toml, and put its own modules in the folder"
    if f"module '{module}' has no attribute '{attribute}'".encode() in output:
        return f'call the Enclave {attribute}, or name it in kluis.toml: entry = "{module}:NAME"'
    return f"python -c 'import {module}' in the folder shows the whole error"
