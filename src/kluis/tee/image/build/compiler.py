"""Compile modules: a program that the base layer's interpreter runs, with only the standard library.

It reads modules from standard input, each a name and its source, and writes each result to standard output;
each of these is a u32 length, little-endian, and the bytes. If the interpreter cannot compile a module (a
template, or for another Python version), its result is empty.

A source may be hostile: a megabyte of f-strings takes minutes, two megabytes of semicolons take a gigabyte.
So the program first limits its own processor time, memory and output, as given in its arguments. A module
that exceeds a limit ends it, and is the first one without a result.

Sources are UTF-8, whatever their first lines declare: in another encoding, such as ``unicode_escape``, a
comment can contain code that no reader sees.

Spec: PEP 552, unchecked hash-based pycs. Marshal version 2 is written: from version 3 on the bytes
depend on how often an object happens to be referenced in the process that writes them. The code's
file name is the path inside the enclave, so that no path of this machine is in an image.
"""

from __future__ import annotations

import errno
import importlib.util
import marshal
import re
import resource
import sys
import warnings
from collections.abc import Callable
from typing import BinaryIO, Final

EXCEEDED: Final = 3
"""The exit code if a module takes more memory, or its result is larger, than the limits allow."""
MARSHAL_VERSION: Final = 2
HEAD_BYTES: Final = 1 << 16
"""Bytes of a source in which its encoding may be declared."""
_BOM: Final = b"\xef\xbb\xbf"
_UNCHECKED_HASH: Final = (1).to_bytes(4, "little")


def compile_source(data: bytes, inside: str) -> bytes:
    """Compile one module.

    Args:
        data: its source.
        inside: its absolute path in the enclave.

    Returns:
        The ``.pyc``: 16 bytes of header, then the code. Empty if this interpreter cannot compile it.

    Raises:
        MemoryError: it takes more than ``limit_process`` allows.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text = data.removeprefix(_BOM).decode()  # and not bytes, whose declaration would choose a codec
            code = compile(text, inside, "exec", dont_inherit=True, optimize=0)
        made = marshal.dumps(code, MARSHAL_VERSION)
    except (SyntaxError, ValueError, RecursionError):
        return b""
    except MemoryError:
        if _near_bound():
            raise
        return b""  # too complex, which the parser reports in this way whatever memory there is
    return importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(data) + made


def other_encoding(data: bytes) -> str | None:
    """The encoding that a source declares, if it is not UTF-8 and so refused in an image.

    The interpreter looks at the first two lines (PEP 263), and at the second one only if the first has no
    code; here both always count.

    Args:
        data: the source, or at least its first ``HEAD_BYTES`` and one more.

    Returns:
        None for UTF-8, declared or not; the name, lower case; or ``unknown`` if a comment or a blank line is
        longer than ``HEAD_BYTES``.
    """
    head = data[:HEAD_BYTES].removeprefix(_BOM)
    lines = re.split(rb"\r\n?|\n", head, maxsplit=2)
    for line in lines[:2]:
        if match := re.match(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", line):
            name = match[1].decode().lower().replace("_", "-")
            if name not in ("utf-8", "utf8") and not name.startswith("utf-8-"):
                return name
    cut_short = len(data) > HEAD_BYTES and len(lines) < 3
    return "unknown" if cut_short and re.match(rb"[ \t\f]*(#|\Z)", lines[-1]) else None


def limit_process(seconds: int, memory: int, output: int) -> None:
    """Limit this process irrevocably.

    Args:
        seconds: of processor time; then it is killed.
        memory: bytes of address space.
        output: bytes of a file that it writes.
    """
    for kind, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, output),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        low = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (low, low))


def _near_bound() -> bool:
    """Whether memory use is near the limit: a growing table allocates twice its size."""
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return most != resource.RLIM_INFINITY and used > most // 4


def write_block(out: BinaryIO, data: bytes) -> None:
    """Write a length and the bytes."""
    out.write(len(data).to_bytes(4, "little"))
    out.write(data)


def read_block(source: BinaryIO) -> bytes | None:
    """Read what ``write_block`` wrote; None at the end of input."""
    length = source.read(4)
    return source.read(int.from_bytes(length, "little")) if len(length) == 4 else None


def main(make: Callable[[bytes, str], bytes] = compile_source) -> None:
    """Compile everything from standard input, or apply ``make`` to each module's source and name."""
    limit_process(*map(int, sys.argv[1:]))
    try:
        while (name := read_block(sys.stdin.buffer)) is not None:
            source = read_block(sys.stdin.buffer)
            write_block(sys.stdout.buffer, make(source or b"", name.decode()))
            sys.stdout.buffer.flush()
    except MemoryError:
        sys.exit(EXCEEDED)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        sys.exit(EXCEEDED)


if __name__ == "__main__":
    main()
