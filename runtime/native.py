"""Compile the C parts with the pinned compiler: launcher, guardian, a plain interpreter for builds, and the
first program of a guest, and the library of machines.

The compiler is zig's clang, with its own C library headers: no file of this machine is used.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from inputs import InputError

SOURCES = Path(__file__).resolve().parent.parent / "native"
PYTHON = "/k/python"  # where an enclave finds its interpreter
INSIDE = f"{PYTHON}/lib"
SCRATCH = ("blocks", "bytes", "files", "calls", "transfers", "paths", "streams")
LAUNCHER = (
    "launcher.c",
    "module.c",
    "sha256.c",
    "memory.c",
    "pages.c",
    "region.c",
    "threads.c",
    "reserve.c",
    "certificates.c",
    "closures.c",
    *(f"scratch_{part}.c" for part in SCRATCH),
)
INIT = ("init/init.c", "init/disk.c", "init/modules.c")
FLAGS = ("-Wall", "-Wextra", "-O2", "-fstack-protector-strong", "-fno-sanitize=all", "-s")
# The launcher's own symbols need no newer glibc than that of the oldest base layer.
GLIBC_TARGET = "x86_64-linux-gnu.2.36"
STATIC_TARGET = "x86_64-linux-musl"
PT_DYNAMIC, DT_RPATH, DT_RUNPATH = 2, 15, 29
# One target processor: zig otherwise uses the build machine's.
PROCESSOR = "-mcpu=x86_64"


def build(zig: Path, root: Path, mimalloc: Path, python: str, out: Path) -> Mapping[str, Path]:
    """Compile into ``out``.

    Args:
        zig: the compiler.
        root: the unpacked Debian packages, for Python's headers and library.
        mimalloc: its overriding object.
        python: the interpreter, ``3.11``.
        out: a folder.

    Returns:
        ``launcher``, ``guardian``, ``init``, ``python``, and ``machine``, which is a library.

    Raises:
        InputError: the compiler failed; contains its output.
    """
    made = {name: out / name for name in ("launcher", "guardian", "init", "python", "machine")}
    # pyconfig.h is included by a path that starts at usr/include, where the lock has only Python's headers.
    include = [f"-I{root}/usr/include/python{python}", f"-I{root}/usr/include"]
    library = root / f"usr/lib/x86_64-linux-gnu/libpython{python}.so.1.0"
    # Symbols of newer glibc in libpython are allowed: the layer contains that glibc.
    link = [str(library), "-Wl,--allow-shlib-undefined", "-lpthread", "-ldl", "-lm"]
    # libpython has the name by which the loader looks for it; only the layer's folder is searched.
    inside = [f"-Wl,-rpath,{INSIDE}", f"-Wl,--dynamic-linker={INSIDE}/ld-linux-x86-64.so.2"]
    pie = ["-target", GLIBC_TARGET, PROCESSOR, "-fPIE", "-pie", *include]
    static = ["-target", STATIC_TARGET, PROCESSOR, "-static"]
    _run(zig, [*static, "-o", made["guardian"], "guardian.c"])
    _run(zig, [*static, "-o", made["init"], *INIT])
    _run(zig, [*pie, "-o", made["launcher"], *LAUNCHER, mimalloc, "-rdynamic", *link, *inside])
    shared = ["-target", GLIBC_TARGET, PROCESSOR, "-fPIC", "-shared", "-fvisibility=hidden"]
    _run(zig, [*shared, "-o", made["machine"], "preload/machine.c", "-lpthread"])
    _run(zig, [*pie, "-o", made["python"], Path(__file__).with_name("python.c"), *link, *inside])
    search_for_all(made["python"])
    return made


def search_for_all(program: Path) -> None:
    """Let a program's search path apply to its libraries' libraries too: DT_RUNPATH becomes DT_RPATH.

    A guest starts its interpreter without LD_LIBRARY_PATH, which bubblewrap would inherit. The compiler's
    linker has an option for this, and the compiler does not pass it on.

    Spec: System V ABI, "Object Files" and "Program Loading and Dynamic Linking".
    """
    data = bytearray(program.read_bytes())

    def number(offset: int, size: int) -> int:
        return int.from_bytes(data[offset : offset + size], "little")

    headers, size, count = number(32, 8), number(54, 2), number(56, 2)
    for header in range(headers, headers + size * count, size):
        if number(header, 4) != PT_DYNAMIC:
            continue
        start = number(header + 8, 8)
        for entry in range(start, start + number(header + 32, 8), 16):
            if number(entry, 8) == DT_RUNPATH:
                data[entry : entry + 8] = DT_RPATH.to_bytes(8, "little")
                program.write_bytes(data)
                return
    raise InputError(f"{program.name}: want a search path for libraries, found none")


def _run(zig: Path, arguments: list[str | Path]) -> None:
    done = subprocess.run(
        [zig, "cc", *FLAGS, *arguments],
        cwd=SOURCES,
        env={
            "PATH": os.defpath,
            "HOME": str(zig.parent),
            "ZIG_GLOBAL_CACHE_DIR": str(zig.parent / "cache"),
            "ZIG_LOCAL_CACHE_DIR": str(zig.parent / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"zig cc: {done.stderr.strip()[-3000:]}")
