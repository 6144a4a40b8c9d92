"""Check each module against its layer's measured index when it is imported inside an enclave.

The kernel reads a layer's files from a place that root can write, and root can mount another file over one of
them. So the bytes of a module are read once, measured, and only then compiled or run; a file that does not
match its layer's index ends the enclave. A shared library is measured, with those that it needs, and then
loaded by its path. The spawner measures the rest at each launch: libraries that are not modules, and large
modules of Kluis that are loaded before the runtime has fast hashing.

Imports only modules built into the interpreter: code that runs before :func:`arm` is not measured here. Reads
in small parts: the first touch of a page of secret memory is slow.
"""

import _frozen_importlib_external as _importing
import posix
import sys

try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found]
except ImportError:  # before CPython 3.12
    from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]
try:
    from kluis_launcher import sha256 as _fast  # type: ignore[import-not-found]  # built into the launcher
    from kluis_launcher import sha256_file as _fast_file
except ImportError:  # a processor without the instructions, or a test outside
    _fast = _fast_file = None

ROOT = "/k/"
KLUIS = "/k/kluis"
CHANGED = 66
"""Exit status of an enclave that found a file which is not the measured one."""
# Names for people and type checkers; their modules are not loaded yet.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
LARGE = 1 << 20
"""Minimum size in bytes of a library of the ``kluis`` layer that the spawner measures."""
FIRST = ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0")
"""Libraries of the interpreter that the launcher has already mapped."""
_PART = 1 << 16
_PATH, _DIGEST, _SIZE = b'"path":"', b'","sha256":"', b'","size":'
_PROGRAM_LOAD, _PROGRAM_DYNAMIC, _NEEDED, _STRINGS = 1, 2, 1, 5

_indexes: dict[str, bytes] = {}
_named: set[str] = set()
_checked = {f"/k/python/lib/{name}" for name in FIRST}
_hash = [_sha256]
_buffers: list[bytearray] = []


def arm(descriptor: int) -> None:
    """Read the layers' indexes from a memory file, close it, and check every import from now on.

    Args:
        descriptor: contains a line ``mount size mount size ...``, then the indexes, each with its size in
            bytes.
    """
    head = posix.pread(descriptor, 4096, 0).partition(b"\n")[0]
    words = head.decode().split()
    at = len(head) + 1
    for mount, size in zip(words[::2], words[1::2], strict=True):
        _indexes[mount] = posix.pread(descriptor, int(size), at)
        at += int(size)
    posix.close(descriptor)
    # Other code would read a module from an archive.
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if getattr(hook, "__name__", "") != "zipimporter"]
    get_data, create_module = _importing.FileLoader.get_data, _importing.ExtensionFileLoader.create_module
    get_code, compile_bytecode = _importing.SourceLoader.get_code, vars(_importing)["_compile_bytecode"]

    def measured_data(self: _importing.FileLoader, path: str) -> bytes:
        data: bytes = get_data(self, path)
        _check(_plain(path), _digest(data))
        return data

    def measured_code(self: _importing.SourceFileLoader, fullname: str) -> "CodeType | None":
        source = self.get_filename(fullname)
        path = _importing.cache_from_source(source)

        def load(data: memoryview) -> "CodeType":
            code: CodeType = compile_bytecode(data[16:], fullname, path, source)
            return code

        code = _read_measured(path, *entry, load) if (entry := _find(path)) else None
        return get_code(self, fullname) if code is None else code

    def measured_module(self: _importing.ExtensionFileLoader, spec: "ModuleSpec") -> "ModuleType":
        check_library(str(spec.origin))
        module = create_module(self, spec)
        if opens := {"_ctypes": "dlopen", "_cffi_backend": "load_library"}.get(spec.name):
            vars(module)[opens] = _measured_dlopen(vars(module)[opens])
        return module

    _importing.FileLoader.get_data = measured_data  # type: ignore[method-assign]
    _importing.SourceFileLoader.get_code = measured_code  # type: ignore[assignment,method-assign]
    _importing.ExtensionFileLoader.create_module = measured_module  # type: ignore[method-assign]


def layers() -> dict[str, str]:
    """SHA-256, hex, of the index of each layer, by its mount point."""
    return {mount: _digest(index).decode() for mount, index in _indexes.items()}


def hash_with(sha256: object) -> None:
    """From now on, measure large libraries of Kluis, too, and use a faster SHA-256 for all if there is one.

    Args:
        sha256: returns an object with ``update`` and ``hexdigest``, as in the standard library.
    """
    _hash[0] = sha256


def _digest(data: object) -> bytes:
    text: str = _fast(data).hex() if _fast else _sha256(data).hexdigest()
    return text.encode()


def _find(path: str) -> tuple[bytes, int] | None:
    """The digest, in hex, and the size of a file, from the index of its layer; the indexes are sorted."""
    mount = "/".join(path.split("/", 3)[:3])
    if (index := _indexes.get(mount)) is None:
        return None
    want, low, high = path[len(mount) + 1 :].encode(), 0, len(index)
    while low < high:
        middle = (low + high) // 2
        start = index.find(_PATH, middle, high + len(_PATH) - 1)
        if start < 0:
            high = middle
            continue
        end = index.find(_DIGEST, start)
        got = index[start + len(_PATH) : end]
        if b"\\" in got:
            got = _unescape(got)
        if got == want:
            at = end + len(_DIGEST)
            return index[at : at + 64], int(index[at + 64 + len(_SIZE) : index.find(b"}", at)])
        if got < want:
            low = end
        else:
            high = middle
    return None


def _read_measured(
    path: str, digest: bytes, size: int, load: "Callable[[memoryview], CodeType]"
) -> "CodeType | None":
    """Apply ``load`` to a measured bytecode file and return the result; None if there is no such file.

    One buffer is reused for all: a new one for each file would touch unused pages of secret memory.
    """
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        buffer = _buffers.pop()
    except IndexError:  # the first one, or another thread has it
        buffer = bytearray(_PART)
    try:
        if len(buffer) < size:
            buffer = bytearray(-(-size // _PART) * _PART)
        data = memoryview(buffer)[:size]
        read = posix.readv(descriptor, [data])
    finally:
        posix.close(descriptor)
    if read != size or _digest(data) != digest:
        _end(path)
    try:
        return load(data)
    finally:
        _buffers.append(buffer)


def check_library(path: str) -> None:
    """Measure a shared library, and those that it needs, unless they were measured before.

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
        if _hash[0] is not _sha256 or not _at_launch(path):
            _check(path, _digest_file(descriptor))
        for name in needed_libraries(lambda at, size: posix.pread(descriptor, size, at)):
            _check_named(name)
    finally:
        posix.close(descriptor)


def _at_launch(path: str) -> bool:
    """Whether the spawner measures it, from the index: the file itself may have grown since."""
    entry = _find(path) if path.startswith(f"{KLUIS}/") else None
    return entry is not None and entry[1] >= LARGE


def _digest_file(descriptor: int) -> bytes:
    if _fast_file:
        digest: bytes = _fast_file(descriptor)
        return digest.hex().encode()
    got = _hash[0]()
    while part := posix.read(descriptor, _PART):
        got.update(part)
    text: str = got.hexdigest()
    return text.encode()


def needed_libraries(read: object) -> list[str]:
    """The names of the libraries that a measured ELF file needs; empty for another file.

    Args:
        read: returns that many bytes at an offset.

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
    """Measure every file with that name, in whichever folder, once."""
    if name not in _named:
        _named.add(name)
        try:
            for path in _paths_of(name):
                check_library(path)
        except OSError:
            _named.discard(name)
            raise


def _paths_of(name: str) -> list[str]:
    """Every path with that file name in an index."""
    paths, end = [], _escape(name) + _DIGEST
    for mount, index in _indexes.items():
        at = index.find(end)
        while at >= 0:
            start = index.rfind(_PATH, 0, at) + len(_PATH)
            if start == at or index[at - 1 : at] == b"/":
                paths.append(f"{mount}/{_unescape(index[start : at + len(end) - len(_DIGEST)]).decode()}")
            at = index.find(end, at + 1)
    return paths


def _measured_dlopen(dlopen: object) -> object:
    def check_and_open(name: object, *rest: object) -> object:
        if name:
            text = name.decode() if isinstance(name, bytes) else str(name)
            check_library(text) if "/" in text else _check_named(text)
        return dlopen(name, *rest)  # type: ignore[operator]

    return check_and_open


def _check(path: str, digest: bytes) -> None:
    if path.startswith(ROOT) and (not (entry := _find(path)) or entry[0] != digest):
        _end(path)


def _end(path: str) -> None:
    posix.write(2, f"kluis: {path}: is not the measured file\n".encode())
    posix._exit(CHANGED)


def _escape(path: str) -> bytes:
    r"""Escaped as in an index, whose canonical JSON only escapes ``"`` and ``\``: a path has only printable
    characters.
    """
    return path.replace("\\", "\\\\").replace('"', '\\"').encode()


def _unescape(path: bytes) -> bytes:
    return path.replace(b"\\\\", b"\0").replace(b'\\"', b'"').replace(b"\0", b"\\")


def _plain(path: str) -> str:
    """The absolute path, without ``.`` and ``..``: a layer contains no links."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
