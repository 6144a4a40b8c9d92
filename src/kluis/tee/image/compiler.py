"""Compiles modules: a program that the base layer's interpreter runs. It imports only the standard library.

It reads modules from standard input, each a name and its source, and writes what each became to standard
output; each of these is a u32 length, little-endian, and the bytes. A module that the interpreter cannot
compile, as with templates and modules for other versions, becomes empty.

Spec: PEP 552, unchecked hash-based pycs. Marshal version 2 is written: from version 3 on the bytes
depend on how often an object happens to be referenced in the process that writes them. The code's
file name is the path inside the enclave, so that no path of this machine is in an image.
"""

from __future__ import annotations

import importlib.util
import marshal
import sys
import warnings
from typing import BinaryIO, Final

MARSHAL_VERSION: Final = 2
_UNCHECKED_HASH: Final = (1).to_bytes(4, "little")


def compile_source(data: bytes, inside: str) -> bytes:
    """Compile one module.

    Args:
        data: its source.
        inside: its absolute path in the enclave.

    Returns:
        The ``.pyc``: 16 bytes of header, then the code. Empty if this interpreter cannot compile it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(data, inside, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return b""
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(data)
    return header + marshal.dumps(code, MARSHAL_VERSION)


def write_block(out: BinaryIO, data: bytes) -> None:
    """Write a length and the bytes."""
    out.write(len(data).to_bytes(4, "little"))
    out.write(data)


def read_block(source: BinaryIO) -> bytes | None:
    """Read what ``write_block`` wrote; None at the end."""
    length = source.read(4)
    return source.read(int.from_bytes(length, "little")) if len(length) == 4 else None


def main() -> None:
    """Compile everything on standard input."""
    while (name := read_block(sys.stdin.buffer)) is not None:
        source = read_block(sys.stdin.buffer)
        write_block(sys.stdout.buffer, compile_source(source or b"", name.decode()))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
