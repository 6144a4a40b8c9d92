"""The installed runtime: the distribution ``kluis-runtime``, which is data only.

It contains the base layer of every image (CPython, its libraries, the launcher), the libraries that Kluis's
inside part uses, the guardian, a plain interpreter on the base layer for builds, the first program of a
guest, and the library of machines. It is built from pinned inputs, so one release of it has the same bytes
everywhere. One runtime belongs to one CPython.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Final, NamedTuple

import kluis
from kluis.errors import AuthenticityError, UnavailableError

PYTHON: Final = "/k/python"  # where an enclave finds its interpreter
INSIDE: Final = f"{PYTHON}/lib"
"""Path of the loader and the shared libraries inside an enclave."""


def reinstall() -> str:
    """The command that reinstalls the runtime of this Kluis."""
    from kluis import installing  # which only an error needs

    return installing.requirement(f"kluis-runtime=={kluis.__version__}", "--force-reinstall", "--no-deps")


class Runtime(NamedTuple):
    """The content of the distribution's ``runtime.json``; digests are 64 hex digits of SHA-256.

    Attributes:
        digest: of the base layer, as named in images.
        guardian, init, launcher, machine, program: of the files; ``program`` is the plain interpreter,
            ``init`` the first program of a guest, ``machine`` the library that is loaded into QEMU.
        inside: the digest of the layer of libraries for Kluis's inside part.
        inside_versions: those libraries, name to version.
        kluis: the release of Kluis that it belongs to.
        python: the interpreter's version, ``3.11.2``.
        tag: the interpreter's tag in file names, ``cpython-311``.
    """

    digest: str
    guardian: str
    init: str
    inside: str
    inside_versions: dict[str, str]
    kluis: str
    launcher: str
    machine: str
    program: str
    python: str
    tag: str


def folder() -> Path:
    """The folder of the runtime.

    Raises:
        UnavailableError: it is not installed.
    """
    spec = importlib.util.find_spec("kluis_runtime")
    if spec is None or spec.origin is None:
        from kluis import installing  # which only an error needs

        raise UnavailableError(
            "kluis-runtime: not installed, and images and enclaves need it",
            code="native_missing",
            hint=installing.command_for("enclave"),
        )
    return Path(spec.origin).parent


def runtime() -> Runtime:
    """The installed runtime's description.

    Raises:
        UnavailableError: none is installed, or it belongs to another Kluis or another Python.
    """
    return _read(folder())


@functools.cache
def _read(where: Path) -> Runtime:
    try:
        description = Runtime(**json.loads((where / "runtime.json").read_bytes()))
        texts = [value for name, value in description._asdict().items() if name != "inside_versions"]
        if not all(isinstance(text, str) for text in (*texts, *description.inside_versions.values())):
            raise TypeError("want text everywhere")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UnavailableError(
            f"kluis-runtime: cannot be read: {error}", code="native_missing", hint=reinstall()
        ) from error
    for what, want, got in (
        ("kluis", kluis.__version__, description.kluis),
        ("python", sys.implementation.cache_tag, description.tag),
    ):
        if want != got:
            raise UnavailableError(
                f"kluis-runtime: {what}: want {want}, got {got}", code="native_missing", hint=reinstall()
            )
    return description


def base_layer() -> Path:
    """The base layer in the form of an image: its index, then its data."""
    return folder() / "python.layer"


def inside_layer() -> Path:
    """The libraries of Kluis's inside part, in the form of an image."""
    return folder() / "inside.layer"


def program() -> Path:
    """The plain interpreter, which runs on an unpacked base layer; raises the errors of :func:`guardian`."""
    return _check_program("python", runtime().program)


def guardian() -> Path:
    """The guardian, a static ELF program.

    Raises:
        AuthenticityError: it is not the one in the runtime's description.
        UnavailableError: as for :func:`runtime`.
    """
    return _check_program("kluis-guardian", runtime().guardian)


def machine() -> Path:
    """The library that is loaded into QEMU and swtpm; raises the errors of :func:`guardian`."""
    return _check_program("kluis-machine.so", runtime().machine)


def init() -> Path:
    """The first program of a guest, a static ELF program; raises the errors of :func:`guardian`."""
    return _check_program("kluis-init", runtime().init)


def version() -> bytes:
    """SHA-256 over the launcher's and the guardian's digests: the version of the isolation, 32 bytes."""
    return hashlib.sha256(f"{runtime().launcher}\n{runtime().guardian}".encode()).digest()


def _check_program(name: str, want: str) -> Path:
    path = folder() / name
    try:
        got = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UnavailableError(
            f"kluis-runtime: {name}: cannot be read: {error.strerror}",
            code="native_missing",
            hint=reinstall(),
        ) from error
    if got != want:
        raise AuthenticityError(f"kluis-runtime: {name}: want SHA-256 {want}, got {got}", hint=reinstall())
    return path
