"""Which files of the ``kluis`` layer an image carries: those that its application reaches.

Reached is what the launcher's entry point and the application's import, and so on, wherever in a module
the import is. What a name that is made at run time loads is declared: in Kluis next to its loader
(``_LATE``), by an application in ``kluis.toml`` (``modules``). Kluis goes in by module. A library of the
runtime's goes in whole: its compiled code may load any part of it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from kluis.errors import UsageError
from kluis.missing import SPARED
from kluis.tee.image.build import bytecode, config, imports
from kluis.tee.image.build.interpreter import Interpreter
from kluis.tee.image.sources import Source

ENTRY: Final = "kluis.entry"
"""What the launcher imports in every enclave."""
_MOST: Final = bytecode.MAX_SOURCE_BYTES
"""Bytes of a requirement's file that are looked at: no larger module is compiled."""
_MENTIONED: Final = re.compile("|".join(("kluis", *SPARED)).encode())
_REQUIRES: Final = re.compile(r"^Requires-Dist: ?([A-Za-z0-9._-]{1,64})", re.MULTILINE)


class Imports(msgspec.Struct, frozen=True):
    """What one module imports, as :func:`kluis.tee.image.build.imports.imports_of` writes it.

    Attributes:
        late: what ``_LATE`` declares: modules; or of each name that the module gives, the module that it is
            loaded from, and maybe what it is called there.
    """

    modules: list[str] = []
    attributes: frozenset[str] = frozenset()
    late: list[str] | dict[str, str | list[str]] | None = None

    def always(self) -> list[str]:
        """The declared modules that any import of this one may load."""
        return self.late if isinstance(self.late, list) else []

    def by_name(self, names: frozenset[str]) -> Iterator[str]:
        """The declared modules that these names are loaded from; all of them for ``*``."""
        for name, home in self.late.items() if isinstance(self.late, dict) else ():
            if name in names or "*" in names:
                yield home if isinstance(home, str) else home[0]


class Graph:
    """Modules and what they import.

    Args:
        trusted: modules of Kluis and the runtime, by dotted name; read here when they are reached.
        read: of all other modules.
    """

    def __init__(self, trusted: Mapping[str, Source], read: Mapping[str, Imports]) -> None:
        self._trusted = trusted
        self._read = dict(read)

    def __contains__(self, name: object) -> bool:
        return name in self._read or name in self._trusted

    def reach(self, roots: Iterable[str]) -> set[str]:
        """Every module that is imported when these are, they and their packages too."""
        seen: set[str] = set()
        waiting = list(roots)
        while waiting:
            parts = waiting.pop().split(".")
            for name in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
                if name in self and name not in seen:
                    seen.add(name)
                    waiting += self._list_imported(self._imports(name))
        return seen

    def _imports(self, name: str) -> Imports:
        if name not in self._read:
            source = self._trusted[name]
            self._read[name] = _imports_of(source.read(), source.path)
        return self._read[name]

    def _list_imported(self, imported: Imports) -> Iterator[str]:
        yield from imported.always()
        for module in imported.modules:
            yield module
            parts = module.split(".")
            for end in range(1, len(parts) + 1):
                if (home := ".".join(parts[:end])) in self:
                    taken = frozenset(parts[end : end + 1]) if end < len(parts) else imported.attributes
                    yield from self._imports(home).by_name(taken)


def choose(
    own: list[Source],
    site: list[Source],
    app: list[Source],
    roots: Iterable[str],
    python: Interpreter,
    work: Path,
) -> list[Source]:
    """Choose the files of the ``kluis`` layer that an image carries, of all that it may have.

    Args:
        own: all files of the layer.
        site: the application's requirements.
        app: the application.
        roots: dotted names that are reached besides the launcher's entry point: the application's, and the
            ``modules`` of ``kluis.toml``.
        python: reads the sources of ``site`` and ``app``, which may be hostile.
        work: a folder for the length of the build.

    Raises:
        FormatError: a source takes more time or memory to read than any needs: code ``compile_limit``.
        UsageError: there is no module of a root's name.
    """
    trusted = {
        _name(file.path): file for file in own if _is_module(file) and _top(file) in ("kluis", *SPARED)
    }
    speaking = [file for file in site if _is_module(file) and _MENTIONED.search(file.head(_MOST))]
    other = {_name(file.path): file for file in (*app, *speaking) if _is_module(file)}
    graph = Graph(trusted, _read(other, python, work))
    for root in roots:
        if root not in graph:
            raise UsageError(
                f"{config.NAME}: modules: want modules of Kluis or of this folder, got {root!r}",
                hint="spell it as an import does: kluis.evidence.intel.tdx",
            )
    # Whatever a requirement imports is reached: what it loads by a name made at run time is not known here.
    reached = graph.reach([ENTRY, *roots, *(_name(file.path) for file in speaking), *_list_required(site)])
    folders = {file.path.rpartition("/")[0] for name, file in trusted.items() if name in reached}
    packages = {file.path.rpartition("/")[0] for file in trusted.values()}
    return [file for file in own if _is_wanted(file, reached, folders, packages)]


def _is_wanted(file: Source, reached: set[str], folders: set[str], packages: set[str]) -> bool:
    top = _top(file)
    if top != "kluis":
        return top not in SPARED or top in reached
    if _is_module(file):
        return _name(file.path) in reached
    folder = file.path.rpartition("/")[0]
    while folder not in packages:  # data goes with the package that it is in
        folder = folder.rpartition("/")[0]
    return folder in folders


def _read(modules: Mapping[str, Source], python: Interpreter, work: Path) -> dict[str, Imports]:
    small = {name: file for name, file in modules.items() if file.size <= bytecode.MAX_SOURCE_BYTES}
    sources = ((file.path, file.read()) for file in small.values())
    compiled = bytecode.compile_all(sources, python, work, imports.__file__)
    return {name: _parse(data) for name, data in zip(small, compiled, strict=True)}


@functools.lru_cache(maxsize=1024)
def _imports_of(data: bytes, path: str) -> Imports:
    """A module of Kluis: a process that builds several images parses it once."""
    return _parse(imports.imports_of(data, path))


def _parse(data: bytes) -> Imports:
    try:
        return msgspec.json.decode(data, type=Imports) if data else Imports()
    except msgspec.ValidationError:  # a declaration of another shape, which declares nothing
        return Imports(modules=msgspec.json.decode(data)["modules"])


def _list_required(site: list[Source]) -> list[str]:
    """The spared libraries that a requirement's own record names: its compiled code may load them."""
    records = (file for file in site if file.path.endswith(".dist-info/METADATA"))
    named = (
        name.lower()
        for file in records
        for name in _REQUIRES.findall(file.head(_MOST).decode("utf-8", "replace"))
    )
    return [name for name in named if name in SPARED]


def _is_module(file: Source) -> bool:
    return file.path.endswith(".py")


def _top(file: Source) -> str:
    """The package at the top; of a distribution's records, the distribution's name."""
    top = file.path.partition("/")[0]
    return top.partition("-")[0] if top.endswith(".dist-info") else top


def _name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
