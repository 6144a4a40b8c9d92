"""Holds each module against the measured index of its layer, as it is imported inside an enclave.

The kernel reads a layer's files where root can write, and root can mount another file over one of them. So
the bytes of a module are read once, measured, and only then compiled or run; a file that is not what its
layer's index states ends the enclave. A shared library is measured, with those that it needs, and then loaded
by its path. The spawner measures at each launch what is not here: libraries that are no modules, and large
modules of Kluis that are loaded before the runtime hashes quickly.

Imports nothing but what the interpreter has built in: what runs before :func:`arm` is not measured here.
Reads in small parts: a page of secret memory that was never used is slow to get.
"""

import _frozen_importlib_external as _importing
import posix
import sys

try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found]
except ImportError:  # before CPython 3.12
    from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]

ROOT = "/k/"
KLUIS = "/k/kluis"
CHANGED = 66
"""The status of an enclave that found a file which is not the measured one."""
# Names for people and type checkers; the modules that have them are not loaded yet.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
LARGE = 1 << 20
"""Bytes of a library of the ``kluis`` layer from which on the spawner measures it."""
FIRST = ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0")
"""Libraries of the interpreter that the launcher has mapped already."""
_PART = 1 << 16
_PATH, _DIGEST, _SIZE = b'"path":"', b'","sha256":"', b'","size":'
_PROGRAM_LOAD, _PROGRAM_DYNAMIC, _NEEDED, _STRINGS = 1, 2, 1, 5

_layers: dict[str, str] = {}
_files: dict[bytes, bytes] = {}
_at_launch: set[bytes] = set()
_named: set[str] = set()
_checked = {f"/k/python/lib/{name}" for name in FIRST}
_hash = [_sha256]


def arm(descriptor: int) -> None:
    """Read the layers' indexes from a memory file, close it, and check every import from now on.

    Args:
        descriptor: a line ``mount size mount size ...``, then the indexes, each of its size in bytes.
    """
    data = posix.read(descriptor, posix.fstat(descriptor).st_size)
    posix.close(descriptor)
    head, _, rest = data.partition(b"\n")
    words = head.decode().split()
    for mount, size in zip(words[::2], words[1::2], strict=True):
        index, rest = rest[: int(size)], rest[int(size) :]
        _layers[mount] = _sha256(index).hexdigest()
        for entry in index.split(_PATH)[1:]:
            path, _, after = entry.partition(_DIGEST)
            name = b"%s/%s" % (mount.encode(), path)
            _files[name] = after[:64]
            # As the index states it: the file itself may have been made large since.
            if mount == KLUIS and int(after[64 + len(_SIZE) :].partition(b"}")[0]) >= LARGE:
                _at_launch.add(name)
    # A module in an archive would be read from it by other code.
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if getattr(hook, "__name__", "") != "zipimporter"]
    get_data, create_module = _importing.FileLoader.get_data, _importing.ExtensionFileLoader.create_module

    def measured_data(self: _importing.FileLoader, path: str) -> bytes:
        data: bytes = get_data(self, path)
        _check(_plain(path), _sha256(data).hexdigest())
        return data

    def measured_module(self: _importing.ExtensionFileLoader, spec: "ModuleSpec") -> "ModuleType":
        check_library(str(spec.origin))
        module = create_module(self, spec)
        if opens := {"_ctypes": "dlopen", "_cffi_backend": "load_library"}.get(spec.name):
            vars(module)[opens] = _measured_dlopen(vars(module)[opens])
        return module

    _importing.FileLoader.get_data = measured_data  # type: ignore[method-assign]
    _importing.ExtensionFileLoader.create_module = measured_module  # type: ignore[method-assign]


def layers() -> dict[str, str]:
    """SHA-256, hex, of the index of each layer, by its mount point."""
    return dict(_layers)


def hash_with(sha256: object) -> None:
    """Use a faster SHA-256 for libraries from now on.

    Args:
        sha256: makes an object that has ``update`` and ``hexdigest``, as in the standard library.
    """
    _hash[0] = sha256


def check_library(path: str) -> None:
    """Measure a shared library, and those that it needs, unless it was measured before.

    Raises:
        OSError: a library of a layer cannot be opened or read.
    """
    path = _plain(path)
    if path in _checked or not path.startswith(ROOT):
        return
    _checked.add(path)  # before those that it needs, which may need it
    try:
        _measure_library(path)
    except FileNotFoundError:
        _checked.discard(path)  # The loader finds none there now; what comes there later is measured.
    except OSError:
        _checked.discard(path)
        raise


def _measure_library(path: str) -> None:
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        if _hash[0] is not _sha256 or _escaped(path) not in _at_launch:
            got = _hash[0]()
            while part := posix.read(descriptor, _PART):
                got.update(part)
            _check(path, got.hexdigest())
        for name in needed_libraries(lambda at, size: posix.pread(descriptor, size, at)):
            _check_named(name)
    finally:
        posix.close(descriptor)


def needed_libraries(read: object) -> list[str]:
    """The names of the libraries that a measured ELF file needs; none of another file.

    Args:
        read: gives so many bytes at an offset.

    Spec: ELF-64, little-endian.
    """

    def number(data: bytes, at: int, size: int = 8) -> int:
        return int.from_bytes(data[at : at + size], "little")

    head: bytes = read(0, 64)  # type: ignore[operator]
    if head[:5] != b"\x7fELF\x02":
        return []
    width, count = number(head, 54, 2), number(head, 56, 2)
    table: bytes = read(number(head, 32), width * count)  # type: ignore[operator]
    programs = [table[at : at + width] for at in range(0, len(table), width)]
    names, address = [], 0
    for program in programs:
        if number(program, 0, 4) == _PROGRAM_DYNAMIC:
            dynamic: bytes = read(number(program, 8), number(program, 32))  # type: ignore[operator]
            for at in range(0, len(dynamic), 16):
                if number(dynamic, at) == _NEEDED:
                    names.append(number(dynamic, at + 8))
                elif number(dynamic, at) == _STRINGS:
                    address = number(dynamic, at + 8)
    strings = 0
    for program in programs:
        start = number(program, 16)
        if number(program, 0, 4) == _PROGRAM_LOAD and start <= address < start + number(program, 32):
            strings = address - start + number(program, 8)
    return [read(strings + at, 256).partition(b"\0")[0].decode() for at in names]  # type: ignore[operator]


def _check_named(name: str) -> None:
    """Measure every file of that name, in whichever folder, once."""
    if name not in _named:
        _named.add(name)
        end = b"/" + _escaped(name)
        try:
            for path in [path for path in _files if path.endswith(end)]:
                check_library(path.decode())
        except OSError:
            _named.discard(name)
            raise


def _measured_dlopen(dlopen: object) -> object:
    def measured(name: object, *rest: object) -> object:
        if name:
            text = name.decode() if isinstance(name, bytes) else str(name)
            check_library(text) if "/" in text else _check_named(text)
        return dlopen(name, *rest)  # type: ignore[operator]

    return measured


def _check(path: str, digest: str) -> None:
    if path.startswith(ROOT) and _files.get(_escaped(path)) != digest.encode():
        posix.write(2, f"kluis: {path}: is not the measured file\n".encode())
        posix._exit(CHANGED)


def _escaped(path: str) -> bytes:
    r"""As in an index, whose canonical JSON escapes ``"`` and ``\`` only: a path's characters print."""
    return path.replace("\\", "\\\\").replace('"', '\\"').encode()


def _plain(path: str) -> str:
    """The path from the root, without ``.`` and ``..``: a layer holds no link."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
