"""Holds each module against the measured index of its layer, as it is imported inside an enclave.

The kernel reads a layer's files where root can write, and root can mount another file over one of them. So
the bytes of a module are read once, measured, and only then compiled or run; a file that is not what its
layer's index states ends the enclave. A shared library is measured, with those that it needs, and loaded
by its path. Libraries of the interpreter and of Kluis that the runtime loads before it can hash quickly are
measured by the spawner at each launch.

Imports nothing but what the interpreter has built in: what runs before :func:`arm` is not measured here.
"""

import posix
import sys

import _frozen_importlib_external as _importing

try:
    from _sha2 import sha256 as _sha256
except ImportError:  # before CPython 3.12
    from _sha256 import sha256 as _sha256

ROOT = "/k/"
CHANGED = 66
"""The status of an enclave that found a file which is not the measured one."""
_MODE, _PATH, _DIGEST = '{"mode":', '"path":"', '","sha256":"'
_PROGRAM_DYNAMIC, _NEEDED, _STRINGS, _PROGRAM_LOAD = 2, 1, 5, 1

_files: dict[str, str] = {}
_layers: dict[str, str] = {}
_checked: set[str] = set()
_hash = [lambda data: _sha256(data).hexdigest()]


def arm(descriptor: int) -> None:
    """Read the layers' indexes from a memory file, close it, and check every import from now on.

    Args:
        descriptor: a line ``mount size mount size ...``, then the indexes, each of its size in bytes.
    """
    head, _, rest = _read(descriptor).partition(b"\n")
    words = head.decode().split()
    for mount, size in zip(words[::2], words[1::2], strict=True):
        index, rest = rest[: int(size)], rest[int(size) :]
        _layers[mount] = _hash[0](index)
        for entry in index.decode().split(_MODE)[1:]:
            path, _, after = entry.partition(_PATH)[2].partition(_DIGEST)
            _files[f"{mount}/{_unescaped(path)}"] = after[:64]
    # A module in an archive would be read from it by other code.
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if getattr(hook, "__name__", "") != "zipimporter"]
    get_data, create_module = _importing.FileLoader.get_data, _importing.ExtensionFileLoader.create_module

    def measured_data(self: object, path: str) -> bytes:
        data: bytes = get_data(self, path)
        _check(path, data)
        return data

    def measured_module(self: object, spec: object) -> object:
        path = str(spec.origin)  # type: ignore[attr-defined]
        if _checked or not path.startswith(("/k/python/", "/k/kluis/")):
            check_library(path)
        module = create_module(self, spec)
        if spec.name == "_ctypes":  # type: ignore[attr-defined]
            module.dlopen = _measured_dlopen(module.dlopen)
        return module

    _importing.FileLoader.get_data = measured_data  # type: ignore[method-assign, assignment]
    _importing.ExtensionFileLoader.create_module = measured_module  # type: ignore[method-assign, assignment]


def layers() -> dict[str, str]:
    """SHA-256, hex, of the index of each layer, by its mount point."""
    return dict(_layers)


def hash_with(digest: object) -> None:
    """Use a faster SHA-256 from now on, and measure the interpreter's and Kluis's own libraries, too.

    Args:
        digest: from bytes to 64 hex digits.
    """
    _hash[0] = digest  # type: ignore[assignment]
    _checked.add("")


def check_library(path: str) -> None:
    """Measure a shared library, and those that it needs, unless it was measured before."""
    path = _plain(path)
    if path in _checked or not path.startswith(ROOT):
        return
    _checked.add(path)
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return  # The loader finds none there either.
    data = _read(descriptor)
    _check(path, data)
    for name in _needed(data):
        _check_named(name)


def _check_named(name: str) -> None:
    for path in [path for path in _files if path.endswith(f"/{name}")]:
        check_library(path)


def _measured_dlopen(dlopen: object) -> object:
    def measured(name: object, *rest: object) -> object:
        if name:
            text = name.decode() if isinstance(name, bytes) else str(name)
            check_library(text) if "/" in text else _check_named(text)
        return dlopen(name, *rest)  # type: ignore[operator]

    return measured


def _check(path: str, data: bytes) -> None:
    path = _plain(path)
    if path.startswith(ROOT) and _files.get(path) != _hash[0](data):
        posix.write(2, f"kluis: {path}: is not the measured file\n".encode())
        posix._exit(CHANGED)


def _plain(path: str) -> str:
    """The path from the root, without ``.`` and ``..``: a layer holds no link."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _unescaped(path: str) -> str:
    r"""A path of an index, whose canonical JSON escapes ``"`` and ``\`` only: other characters print."""
    return "\\".join(part.replace('\\"', '"') for part in path.split("\\\\")) if "\\" in path else path


def _read(descriptor: int) -> bytes:
    try:
        parts = []
        while part := posix.read(descriptor, 1 << 24):
            parts.append(part)
        return b"".join(parts)
    finally:
        posix.close(descriptor)


def _needed(data: bytes) -> list[str]:
    """The names of the libraries that a measured ELF file needs. Spec: ELF-64, little-endian."""

    def number(at: int, size: int = 8) -> int:
        return int.from_bytes(data[at : at + size], "little")

    if data[:5] != b"\x7fELF\x02":
        return []
    programs = [number(32) + number(54, 2) * i for i in range(number(56, 2))]
    loads = [(number(at + 16), number(at + 8), number(at + 32)) for at in programs if number(at, 4) == _PROGRAM_LOAD]
    needed, strings = [], 0
    for at in programs:
        if number(at, 4) != _PROGRAM_DYNAMIC:
            continue
        for entry in range(number(at + 8), number(at + 8) + number(at + 32), 16):
            if number(entry) == _NEEDED:
                needed.append(number(entry + 8))
            elif number(entry) == _STRINGS:
                address = number(entry + 8)
                strings = next(
                    (address - start + offset for start, offset, size in loads if start <= address < start + size), 0
                )
    return [data[strings + at : data.index(b"\0", strings + at)].decode() for at in needed]
