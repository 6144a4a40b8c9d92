"""Collect the ``site`` layer: an application's dependencies, each file from a wheel that was locked by
hash.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from packaging.utils import canonicalize_name

from kluis import files
from kluis.errors import AuthenticityError, UnavailableError, UsageError
from kluis.hashes import sha256
from kluis.tee.image.build.config import Config
from kluis.tee.image.build.interpreter import Interpreter
from kluis.tee.image.build.packages import lock, pip, wheels
from kluis.tee.image.build.packages.lock import Pin
from kluis.tee.image.sources import Source


def site(
    directory: Path,
    settings: Config,
    own: Mapping[str, str],
    cache: Path,
    work: Path,
    python: Interpreter,
    say: Callable[[str], None],
) -> tuple[list[Source], list[str]]:
    """Every file of the layer (empty without requirements), and notes on what was left out.

    Args:
        directory: the application's; a lock is read from here, or made and written here.
        settings: names the requirements, or a file of them in ``directory``, and what to leave out of them.
        own: distributions of the ``kluis`` layer, and their versions.
        cache: where wheels are kept.
        work: a folder that exists for this build, on the cache's file system.
        python: the base layer's interpreter, which decides what wheels fit.
        say: called before steps that may take more than a second.

    Raises:
        UsageError: a requirement or a wheel that an image does not accept; names it.
        UnavailableError: pip cannot get a wheel.
    """
    local = settings.wheels
    locked = _without_own(_lock(directory, settings.requirements, local, own, work, python, say), own)
    # The files left out differ between applications; the files in one tree do not.
    tree = sha256("\0".join(settings.requirements_exclude).encode()).hex()[:16]
    by_path: dict[str, Source] = {}
    notes: list[str] = []
    for wheel in _fetch(locked, local, cache, work, python, say) if locked else []:
        unpacked = wheels.unpack(wheel, wheel.parent / tree, settings.requirements_exclude)
        notes += unpacked.notes
        for file in unpacked.files:
            other = by_path.setdefault(file.path, file)
            if other.sha256 != file.sha256:
                raise UsageError(f"{wheel.name}: {file.path}: another wheel has a file of that name")
    return [by_path[path] for path in sorted(by_path)], notes


def _lock(
    directory: Path,
    wanted: tuple[str, ...] | str,
    local: Path | None,
    own: Mapping[str, str],
    work: Path,
    python: Interpreter,
    say: Callable[[str], None],
) -> list[Pin]:
    if isinstance(wanted, str):
        try:
            listed = lock.lines((directory / wanted).read_text("utf-8"), wanted)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{directory / wanted}: cannot be read: {error}") from error
        what = wanted
    else:
        listed, what = lock.lines("\n".join(wanted), "requirements"), "requirements"
    if not listed:
        return []
    if lock.has_hashes(listed):
        return lock.pins(listed, what)
    path = directory / lock.name()
    if path.exists():
        return lock.load(path, listed)
    say(f"locking requirements by hash in {path}")
    return lock.make(path, listed, local, own, python, work)


def _without_own(pins: list[Pin], own: Mapping[str, str]) -> list[Pin]:
    for pin in pins:
        if pin.name in own and pin.version != own[pin.name]:
            raise UsageError(
                f"requirements: {pin.name}: want {own[pin.name]}, which Kluis brings, got {pin.version}",
                hint="leave it out, or lock it at that version",
            )
    return [pin for pin in pins if pin.name not in own]


def _fetch(
    pins: list[Pin],
    local: Path | None,
    cache: Path,
    work: Path,
    python: Interpreter,
    say: Callable[[str], None],
) -> list[Path]:
    """Every pin's wheel, by its hash: from the cache, or from pip."""
    text = "".join(f"{pin.line}\n" for pin in sorted(pins, key=lambda pin: pin.name))
    choice = cache / f"{sha256((lock.name() + text).encode()).hex()}.json"
    if (available := _find_chosen(choice, pins, cache)) is not None:
        return available
    say(f"fetching {len(pins)} wheels")
    with tempfile.TemporaryDirectory(dir=work) as folder:
        listed, target = Path(folder) / "requirements.txt", Path(folder) / "wheels"
        listed.write_text(text, "utf-8")
        pip.run(
            [
                "download",
                *pip.places(local),
                "--require-hashes",
                "--no-deps",
                "-d",
                str(target),
                "-r",
                str(listed),
            ],
            "requirements",
            Path(folder),
            python,
        )
        chosen = {}
        for wheel in sorted(target.iterdir()):
            digest = wheels.hash_of(wheel)
            _owner(digest, pins, wheel.name)
            place = cache / digest
            place.mkdir(mode=0o700, exist_ok=True)
            shutil.move(wheel, place / wheel.name)
            chosen[digest] = wheel.name
        files.write(choice, json.dumps(chosen, sort_keys=True).encode())
    if (available := _find_chosen(choice, pins, cache)) is None:
        raise UnavailableError(f"{cache}: another build changes it; build again")
    return available


def _find_chosen(choice: Path, pins: list[Pin], cache: Path) -> list[Path] | None:
    """The wheels that an earlier download chose for this lock, each checked against it; or None."""
    try:
        chosen = json.loads(choice.read_bytes())
        paths = []
        for digest, name in chosen.items():
            path = cache / digest / name
            _owner(digest, pins, name)
            if path.parent.parent != cache or wheels.hash_of(path) != digest:
                return None
            paths.append(path)
    except (OSError, ValueError, AttributeError, TypeError, AuthenticityError):
        return None
    return paths


def _owner(digest: str, pins: list[Pin], what: str) -> Pin:
    """The pin with this wheel's hash.

    Raises:
        AuthenticityError: no pin has it; the wheel was not locked.
    """
    named = canonicalize_name(what.partition("-")[0])
    for pin in pins:
        if digest in pin.hashes and pin.name == named:
            return pin
    raise AuthenticityError(f"{what}: want a wheel that is locked, got SHA-256 {digest}")
