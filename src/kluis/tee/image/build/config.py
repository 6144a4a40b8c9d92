"""Read ``kluis.toml``: an application's settings for its image. Without one, defaults apply.

::

    entry = "app:app"                # module:attribute of the Enclave
    requirements = ["polars==2.1.0"] # or the name of a requirements file
    wheels = "wheels"                # a folder of wheels that no index has; pinned by hash like all others
    heap = "512MiB"
    scratch = "4GiB"                 # encrypted files under /scratch; without this line there are none
    threads = 8
    grants = ["table"]
    date = "20260101"                # the signature's date; fixed, so that builds repeat
    exclude = ["tests/*"]
    modules = ["kluis.evidence"]     # what the application imports by a name that it makes at run time
    requirements_exclude = ["*/tests/*", "*.h", "*.hpp", "*.pxd", "*.pyi"]  # this is the default
    argv = []
    [env]
    TZ = "UTC"
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from kluis.errors import FormatError, UsageError
from kluis.frozen import frozen
from kluis.tee import sigstruct
from kluis.tee.image import manifest

NAME: Final = "kluis.toml"
# Half of the files of a scientific wheel, none of which a running program opens.
NOT_RUN: Final = ("*/tests/*", "*.h", "*.hpp", "*.pxd", "*.pyi")
_SCRATCH_TO_HEAP: Final = 64
_UNITS: Final = {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


class _File(msgspec.Struct, forbid_unknown_fields=True):
    entry: str = "app:app"
    requirements: list[str] | str = []
    wheels: str | None = None
    heap: str | int = "512MiB"
    scratch: str | int = 0
    threads: int = 8
    grants: list[str] = []
    date: str | int = "20260101"
    exclude: list[str] = []
    modules: list[str] = []
    requirements_exclude: list[str] = msgspec.field(default_factory=lambda: list(NOT_RUN))
    argv: list[str] = []
    env: dict[str, str] = {}


@frozen
class Config:
    """The settings of an image, with bounds checked.

    Attributes:
        requirements: lines for pip; or the name of a requirements file, relative to the folder.
        wheels: a folder of wheels, in the application's; None: all come from pip's index.
        scratch_bytes: size of encrypted scratch; 0: none.
        exclude: shell patterns of paths that the app layer leaves out.
        modules: dotted names of modules that the image carries though no import in its source names them.
        requirements_exclude: the same for the site layer; by default tests, headers and stubs.
    """

    entry: str
    requirements: tuple[str, ...] | str
    wheels: Path | None
    heap_bytes: int
    scratch_bytes: int
    threads: int
    grants: tuple[str, ...]
    date: str
    exclude: tuple[str, ...]
    modules: tuple[str, ...]
    requirements_exclude: tuple[str, ...]
    argv: tuple[str, ...]
    env: dict[str, str]


def load(directory: Path) -> Config:
    """Read ``kluis.toml`` of a folder, or use the defaults.

    Raises:
        UsageError: not TOML, an unknown key, or a value out of bounds; names the key.
    """
    path = directory / NAME
    text: dict[str, Any] = {}
    if path.exists():
        try:
            text = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise UsageError(f"{NAME}: {error}") from error
    known = [field.name for field in msgspec.structs.fields(_File)]
    for key in text:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise UsageError(
                f"{NAME}: {key}: want one of {', '.join(known)}",
                hint=f"did you mean {near[0]}" if near else None,
            )
    try:
        file = msgspec.convert(text, _File)
    except msgspec.ValidationError as error:
        message = str(error)
        raise UsageError(f"{NAME}: {message[:1].lower()}{message[1:]}") from error
    return _check(file, _folder(directory, file.wheels))


def _folder(directory: Path, name: str | None) -> Path | None:
    if name is None:
        return None
    path = directory / name
    if Path(name).is_absolute() or ".." in Path(name).parts or path.resolve() == directory.resolve():
        raise UsageError(f"{NAME}: wheels: want a folder below this one, got {name!r}")
    if not path.is_dir():
        raise UsageError(
            f"{NAME}: wheels: {name!r} is not a folder", hint=f"mkdir {path}, and put the wheels there"
        )
    return path.resolve()


def _check(file: _File, wheels: Path | None) -> Config:
    date = str(file.date)
    sigstruct.bcd(date)
    heap, scratch = _bytes("heap", file.heap), _bytes("scratch", file.scratch)
    if not manifest.MIN_HEAP_BYTES <= heap <= manifest.MAX_HEAP_BYTES or heap % 4096:
        raise UsageError(f"{NAME}: heap: want 16MiB to 16384GiB in whole pages, got {file.heap}")
    least, most = manifest.MIN_SCRATCH_BYTES, manifest.MAX_SCRATCH_BYTES
    if scratch and (not least <= scratch <= most or scratch % 4096):
        raise UsageError(f"{NAME}: scratch: want 1MiB to 1024GiB in whole pages, got {file.scratch}")
    if scratch > _SCRATCH_TO_HEAP * heap:
        raise UsageError(
            f"{NAME}: scratch: want at most {_SCRATCH_TO_HEAP} times the heap,"
            f" got {file.scratch} for {file.heap}",
            hint="its tables are in the heap, 28 bytes for each 4 KiB",
        )
    if not 1 <= file.threads <= manifest.MAX_THREADS:
        raise UsageError(f"{NAME}: threads: want 1..{manifest.MAX_THREADS}, got {file.threads}")
    for grant in file.grants:
        try:
            manifest.check_grant(grant)
        except FormatError as error:
            raise UsageError(error.message.replace("manifest.", f"{NAME}: ")) from error
    for name in file.env:
        if name.upper().startswith(manifest.LAUNCHERS_ENV):
            raise UsageError(f"{NAME}: env.{name}: want a variable of the application's, got the launcher's")
    requirements = file.requirements
    if isinstance(requirements, str) and (
        Path(requirements).is_absolute() or ".." in Path(requirements).parts
    ):
        raise UsageError(f"{NAME}: requirements: want a file below this folder, got {requirements!r}")
    return Config(
        entry=file.entry,
        requirements=requirements if isinstance(requirements, str) else tuple(requirements),
        wheels=wheels,
        heap_bytes=heap,
        scratch_bytes=scratch,
        threads=file.threads,
        grants=tuple(sorted(set(file.grants))),
        date=date,
        exclude=tuple(file.exclude),
        modules=tuple(file.modules),
        requirements_exclude=tuple(file.requirements_exclude),
        argv=tuple(file.argv),
        env=dict(sorted(file.env.items())),
    )


def _bytes(key: str, text: str | int) -> int:
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"([0-9]{1,9})\s*([KMG]iB)", text, re.IGNORECASE)
    if match is None:
        raise UsageError(f'{NAME}: {key}: want a size such as "512MiB", got {text!r}')
    return int(match[1]) * _UNITS[match[2].upper()]
