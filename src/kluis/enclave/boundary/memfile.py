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
    return table


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


SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
MFD_NOEXEC_SEAL = 0x8
