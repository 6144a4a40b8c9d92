"""Collect the files of a guest's root file system: interpreter, Kluis, bubblewrap and kernel modules.

There is no shell, no login, no package manager and no other service. Kluis goes in by module: those that the
platform, its spawner and the agent import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import kluis
from kluis.errors import FormatError, UnavailableError
from kluis.tee.image import layers, sources
from kluis.tee.image.build import bytecode, cache, closure, elf, interpreter
from kluis.tee.image.manifest import MOUNTS
from kluis.tee.image.sources import Source
from kluis.tee.process import native
from kluis.tee.vm.guest import modules
from kluis.tee.vm.guest.needs import Needs
from kluis.tee.vm.words import AGENT

ROOTS: Final = (
    "kluis.tee.inside.boot",
    "kluis.tee.platform.launching.main",
    "kluis.tee.platform.entry",
    "kluis.tee.process.touch",
    f"{AGENT}.__main__",
)
"""Modules that are started by name, and everything that they import."""
EMPTY: Final = ("dev", "proc", "sys", "run", "tmp", "var")
"""Folders on which the guest's first program mounts something."""
MODULES: Final = "usr/lib/kluis/modules"
OWN: Final = "k/guest"
"""The guest's own interpreter, which is not in the base layer."""
_PYTHON: Final = MOUNTS["python"].lstrip("/")
_KLUIS: Final = MOUNTS["kluis"].lstrip("/")
_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
_SEARCHED: Final = (Path("/usr/lib/x86_64-linux-gnu"), Path("/lib/x86_64-linux-gnu"), Path("/usr/lib"))
_LOADER: Final = "ld-linux-x86-64.so.2"
_PASSWD: Final = (
    b"root:x:0:0::/:/nonexistent\nkluis:x:999:999::/nonexistent:/nonexistent\n"
    b"nobody:x:65534:65534::/nonexistent:/nonexistent\n"
)
_GROUP: Final = b"root:x:0:\nkluis:x:999:\nnogroup:x:65534:\n"
_RUNTIME: Final = ("__init__.py", "runtime.json", "python.layer", "inside.layer")
"""The agent puts images together from layers of the runtime, which a host then does not send."""


def gather(
    needs: Needs, kernel_modules: modules.Modules, extra: Iterable[Source], say: Callable[[str], None]
) -> list[Source]:
    """Every file of the root file system, with paths from the root.

    Args:
        needs: what comes from this machine.
        kernel_modules: of the guest's kernel.
        extra: more modules of Kluis, with paths as ``kluis/...``; a file here replaces the installed one.
        say: called with one line before each step that may take more than a second.

    Raises:
        AuthenticityError: a file of the runtime does not have its hash.
        UnavailableError: something is missing.
        UsageError: Kluis does not have a module that a guest starts.
    """
    store = cache.of_user()
    with store.work() as work:
        python = interpreter.lay(store, work)
        own = {file.path: file for file in (*_list_installed(), *interpreter.inside())}
        own |= {file.path: file for file in extra}
        chosen = closure.choose(list(own.values()), [], [], ROOTS, python, work)
        compiled = bytecode.layer(chosen, MOUNTS["kluis"], store.bytecode, work, python, say)
        # The packs of bytecode and the files of this build may be removed by a later one.
        files = [
            sources.of_bytes(f"{_KLUIS}/{file.path}", file.read(), file.mode) for file in (*chosen, *compiled)
        ]
    files += _runtime()
    files += [
        sources.of_bytes(f"etc/{name}", data) for name, data in (("passwd", _PASSWD), ("group", _GROUP))
    ]
    files += _programs([needs.bubblewrap])
    files += modules.files(kernel_modules, MODULES, modules.LATE_ALWAYS, modules.LATE_BY_DEVICE)
    return files


def _list_installed() -> list[Source]:
    """Every module of the installed Kluis, and its data."""
    root = Path(kluis.__file__).resolve().parent

    def keep(path: str, folder: bool) -> bool:
        return "__pycache__" not in path.split("/") and not path.endswith((".pyc", ".pyo", ".pth"))

    return [sources.read(f"kluis/{path}", origin) for path, origin in sources.walk(root, keep)]


def _runtime() -> list[Source]:
    """The base layer as enclaves get it, the guest's interpreter apart from it, and the guardian."""
    files = [_move(file, f"{_PYTHON}/{file.path}") for file in interpreter.base()]
    files.append(sources.of_file(f"{OWN}/bin/python", native.program(), layers.PROGRAM_MODE))
    # The interpreter gets no environment, so files name the standard library and the folder of Kluis.
    files.append(sources.of_bytes(f"{OWN}/pyvenv.cfg", f"home = {native.PYTHON}/bin\n".encode()))
    version = ".".join(interpreter.version().split(".")[:2])
    path = f"{OWN}/lib/python{version}/site-packages/kluis.pth"
    files.append(sources.of_bytes(path, f"{MOUNTS['kluis']}\n".encode()))
    package = f"{_KLUIS}/kluis_runtime"
    files += [sources.of_file(f"{package}/{name}", native.folder() / name) for name in _RUNTIME]
    files.append(sources.of_file(f"{package}/kluis-guardian", native.guardian(), layers.PROGRAM_MODE))
    return files


def _move(file: Source, path: str) -> Source:
    return Source(path, file.mode, file.size, file.sha256, file.origin, file.offset)


def _programs(programs: Iterable[Path]) -> list[Source]:
    """Programs of this machine, and every library that they need."""
    paths = {f"usr/bin/{path.name}": path.resolve() for path in programs}
    waiting = list(paths.values())
    paths[f"lib64/{_LOADER}"] = _library(_LOADER)
    while waiting:
        path = waiting.pop()
        dynamic = elf.read(path)
        if dynamic is None:
            raise FormatError(f"{path}: want a program for x86-64, got something else")
        for name in dynamic.needed:
            if name != _LOADER and f"{_LIBRARIES}/{name}" not in paths:
                paths[f"{_LIBRARIES}/{name}"] = _library(name)
                waiting.append(paths[f"{_LIBRARIES}/{name}"])
    return [sources.of_file(path, origin, layers.PROGRAM_MODE) for path, origin in paths.items()]


def _library(name: str) -> Path:
    for folder in (*_SEARCHED, Path("/lib64")):
        if (folder / name).is_file():
            return (folder / name).resolve()
    raise UnavailableError(
        f"guest: want the library {name}, got none", hint="apt-get install bubblewrap", code="guest_packages"
    )
