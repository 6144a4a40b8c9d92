"""Memory files: large frames, and tables, cross the boundary in one, sealed before it is read.

The receiver checks the seals first. With write, shrink, grow and seal set, nobody, not even the sender, can
change a byte or truncate the file while it is read, so it is mapped and not copied. Spec: fcntl(2) "File
Sealing", memfd_create(2).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from typing import TYPE_CHECKING, Any

from kluis.enclave.boundary.table import Table
from kluis.errors import FormatError

if TYPE_CHECKING:
    # Python 3.12 has it; the type checker, which checks for 3.11, does not.
    from collections.abc import Buffer  # type: ignore[attr-defined,unused-ignore]  # since 3.12

    import pyarrow as pa


def of_bytes(data: bytes | bytearray | memoryview) -> int:
    """Put ``data`` into a sealed memory file.

    Returns:
        A descriptor that the caller must close.
    """
    descriptor = _create()
    try:
        write_all(descriptor, data)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def of_table(table: Table) -> int:
    """Put a table into a sealed memory file, as an Arrow IPC stream.

    Returns:
        A descriptor that the caller must close.
    """
    import pyarrow as pa

    descriptor = _create()
    try:
        sink = pa.PythonFile(_Sink(descriptor), mode="w")
        with pa.ipc.new_stream(sink, table.arrow.schema) as writer:
            writer.write_table(table.arrow)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def map_bytes(descriptor: int, max_bytes: int, what: str) -> memoryview:
    """Map a memory file, after checking its seals.

    Args:
        descriptor: owned by the caller, who may close it at once.
        max_bytes: the largest accepted file.
        what: name for errors.

    Raises:
        FormatError: not a memory file, not sealed, empty or too large.
    """
    _check_seals(descriptor, what)
    size = os.fstat(descriptor).st_size
    if not 0 < size <= max_bytes:
        raise FormatError(f"{what}: want 1 to {max_bytes} bytes, got {size}", code="too_large")
    try:
        return memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ))
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
    data = os.pread(descriptor, size, 0)  # no address space to map it in: a copy may still fit
    if len(data) != size:
        raise MemoryError
    return memoryview(data)


def _check_seals(descriptor: int, what: str) -> None:
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        seals = None
    if seals is None:
        raise FormatError(f"{what}: want a memory file, got another descriptor", code="not_sealed")
    if seals & SEALS != SEALS:
        raise FormatError(f"{what}: want seals {SEALS:#06b}, got {seals:#06b}", code="not_sealed")


def map_table(descriptor: int, max_bytes: int, what: str) -> Table:
    """Map a table and validate it completely: offsets, lengths, UTF-8 and dictionary indices.

    A column of an extension type arrives as the type that stores it. The sender may be hostile, and a reader
    believes what an extension states: polars takes values of its extension type for addresses in memory.

    Args:
        descriptor: owned by the caller, who may close it at once.
        max_bytes: the largest accepted file.
        what: name for errors.

    Raises:
        FormatError: the file, as for :func:`map_bytes`; or it contains no valid table.
    """
    import pyarrow as pa

    data = map_bytes(descriptor, max_bytes, what)
    try:
        return Table(_read_stream(data, what))
    except (pa.ArrowException, ValueError, OSError) as error:
        problem = f"{what}: {type(error).__name__}: not a valid Arrow stream"
    raise FormatError(problem, code="malformed")


def _read_stream(data: memoryview, what: str) -> pa.Table:
    import pyarrow as pa

    source = pa.BufferReader(pa.py_buffer(data))
    with pa.ipc.open_stream(source) as reader:
        table = reader.read_all()
    if source.tell() != len(data):
        raise FormatError(f"{what}: {len(data) - source.tell()} bytes after the table", code="trailing")
    table.validate(full=True)
    return _as_stored(table, what)


def _as_stored(table: pa.Table, what: str) -> pa.Table:
    """The table without extension types.

    Raises:
        FormatError: a column has one within it, in a list or a struct for example.
    """
    import pyarrow as pa

    fields, columns, changed = [], [], False
    for field, column in zip(table.schema, table.columns, strict=True):
        kind, stored = field.type, column
        while isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
            stored = pa.chunked_array([chunk.storage for chunk in stored.chunks], kind)
        if _has_extension(kind):
            raise FormatError(
                f"{what}: {field.name[:80]!a}: want a list or struct of plain types", code="malformed"
            )
        metadata = field.metadata or {}
        plain = {key: value for key, value in metadata.items() if not key.startswith(EXTENSION)}
        changed = changed or kind is not field.type or len(plain) != len(metadata)
        fields.append(pa.field(field.name, kind, field.nullable, plain or None))
        columns.append(stored)
    return (
        pa.Table.from_arrays(columns, schema=pa.schema(fields, table.schema.metadata)) if changed else table
    )


def _has_extension(kind: pa.DataType) -> bool:
    """Whether a type contains an extension type, at any depth."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return True
    if isinstance(kind, pa.DictionaryType | pa.RunEndEncodedType):
        return _has_extension(kind.value_type)
    inner = [kind.field(number) for number in range(kind.num_fields)]
    return any(
        any(key.startswith(EXTENSION) for key in each.metadata or {}) or _has_extension(each.type)
        for each in inner
    )


def write_all(descriptor: int, data: Any) -> int:
    """Write all of ``data``, however many bytes write(2) accepts at a time."""
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        done += os.write(descriptor, view[done:])
    return done


class _Sink:
    """The few methods that Arrow needs of a file for writing."""

    closed = False

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0

    def write(self, data: Buffer) -> int:
        written = write_all(self._descriptor, data)
        self._position += written
        return written

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Does nothing: nothing is buffered."""

    def close(self) -> None:
        """Does nothing: the opener closes the descriptor."""


def _create() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("kluis", flags | MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # kernels before 6.3
            raise
        return os.memfd_create("kluis", flags)


EXTENSION = b"ARROW:extension:"
"""The keys of a field's metadata that state its extension type."""
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
MFD_NOEXEC_SEAL = 0x8
