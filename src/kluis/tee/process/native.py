"""The C parts: where they are, and how they are made.

The launcher holds the secret-memory library, mimalloc and libpython; the guardian is a static program.
Both are built when Kluis is installed, by gcc, or by ``ziglang`` from PyPI where there is no compiler.
One launcher belongs to one CPython, so its name carries the interpreter's tag.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from kluis.errors import UnavailableError

BIN = Path(__file__).parent / "bin"
TAG = sys.implementation.cache_tag
PYTHON = "/k/python"  # where an enclave finds its interpreter
INSIDE = f"{PYTHON}/lib"
"""Where the loader and the shared libraries are, inside an enclave."""

SCRATCH = ("blocks", "bytes", "files", "calls", "paths", "streams")
"""The sources of encrypted scratch."""

WARNINGS = ["-Wall", "-Wextra", "-O2", "-fstack-protector-strong"]
# From where it came: a name alone would be asked of PyPI, where Kluis is not.
REBUILD = "python -m pip install --force-reinstall --no-deps KLUIS, the folder or wheel that Kluis came from"


def launcher() -> Path:
    """The launcher ELF of the running interpreter.

    Raises:
        UnavailableError: it was not built here.
    """
    return _built(f"kluis-launcher-{TAG}")


def guardian() -> Path:
    """The guardian, a static ELF; raises as :func:`launcher`."""
    return _built("kluis-guardian")


def launcher_digests() -> list[str]:
    """SHA-256, hex, of every launcher built here: one for each interpreter."""
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in BIN.glob("kluis-launcher-*"))


def version() -> bytes:
    """SHA-256 over the launchers' and the guardian's digests: the version of what isolates, 32 bytes."""
    guardian_digest = hashlib.sha256(guardian().read_bytes()).hexdigest()
    return hashlib.sha256("\n".join([*launcher_digests(), guardian_digest]).encode()).digest()


def _built(name: str) -> Path:
    path = BIN / name
    if not path.is_file():
        raise UnavailableError(
            f"{name}: not built on this machine",
            code="native_missing",
            hint=f"apt-get install gcc libc6-dev (or pip install ziglang), then: {REBUILD}",
        )
    return path


def sources() -> Path:
    """The C sources: beside the package in a checkout.

    Raises:
        UnavailableError: this is an installed wheel, which carries the built parts alone.
    """
    for parent in Path(__file__).parents:
        if (parent / "native" / "launcher.c").is_file():
            return parent / "native"
    raise UnavailableError("native sources: not part of an installed wheel", hint=REBUILD)


def compiler() -> list[str]:
    """The C compiler's command line, gcc before zig.

    Raises:
        UnavailableError: there is neither.
    """
    if found := shutil.which(os.environ.get("CC", "gcc")) or shutil.which("cc"):
        return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise UnavailableError(
        "C compiler: want gcc or ziglang, found neither",
        hint="apt-get install gcc libc6-dev, or pip install ziglang",
    )


def _mimalloc() -> Path:
    """Find mimalloc's overriding object, from the PyPI package ``cmeel-mimalloc``."""
    for entry in [*sys.path, sysconfig.get_path("platlib")]:
        for found in sorted(Path(entry or ".").glob("cmeel.prefix/lib/mimalloc-*/mimalloc.o")):
            return found
    raise UnavailableError(
        "mimalloc: the package cmeel-mimalloc is not installed", hint="pip install cmeel-mimalloc"
    )


def _libpython() -> list[str]:
    """Linker arguments for the running interpreter's library: shared where there is one, else static."""
    config = sysconfig.get_config_vars()
    directories = [Path(config["LIBDIR"]), Path(config["LIBPL"])]
    shared, static = f"lib{config['LDLIBRARY'].removeprefix('lib')}", config["LIBRARY"]
    if config.get("Py_ENABLE_SHARED"):
        for directory in directories:
            if (directory / shared).exists():
                return [str(directory / shared)]
    for directory in directories:
        if (directory / static).is_file():
            return [
                str(directory / static),
                *config.get("LIBS", "").split(),
                *config.get("SYSLIBS", "").split(),
            ]
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    raise UnavailableError(
        f"libpython{version}: neither {shared} nor {static} in {' or '.join(map(str, directories))}",
        hint=f"apt-get install libpython{version}-dev",
    )


def build(dest: Path = BIN) -> list[Path]:
    """Compile the launcher of the running interpreter and the guardian into ``dest``.

    Returns:
        The two files.

    Raises:
        UnavailableError: a part is missing; says which, and what brings it.
    """
    native, cc = sources(), compiler()
    zig = "ziglang" in cc
    dest.mkdir(parents=True, exist_ok=True)
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").is_file():
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise UnavailableError(f"Python.h: not in {include}", hint=f"apt-get install libpython{version}-dev")
    launcher_at, guardian_at = dest / f"kluis-launcher-{TAG}", dest / "kluis-guardian"
    static = ["-target", "x86_64-linux-musl"] if zig else []
    _run([*cc, *static, *WARNINGS, "-static", "-o", str(guardian_at), "guardian.c"], native)
    _run(
        [
            *[*cc, *WARNINGS, "-fPIE", "-pie", f"-I{include}", "-o", str(launcher_at)],
            *[
                "launcher.c",
                "memory.c",
                "region.c",
                "reserve.c",
                *(f"scratch_{part}.c" for part in SCRATCH),
                str(_mimalloc()),
                "-rdynamic",
                *_libpython(),
                "-lpthread",
                "-ldl",
                "-lm",
            ],
            f"-Wl,-rpath,{INSIDE}",
            "-Wl,--disable-new-dtags",
            f"-Wl,--dynamic-linker={INSIDE}/ld-linux-x86-64.so.2",
        ],
        native,
    )
    return [launcher_at, guardian_at]


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(
            f"{Path(command[0]).name}: {done.stderr.strip()[-2000:]}", hint="read the compiler's words above"
        )


if __name__ == "__main__":
    for part in build():
        sys.stdout.write(f"{part}\n")
