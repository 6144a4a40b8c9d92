"""The pinned inputs of the runtime: Debian packages and wheels, each by version and SHA-256.

A lock is TOML: ``python``, ``suite``, and tables ``debian`` and ``wheels`` of name to version and SHA-256.
apt-get and pip fetch; a fetched file is used only if it has the hash in the lock.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{ending}") for ending in ("gpg", "pgp"))
GLIBC = {"bookworm": 36, "trixie": 41}
"""The minor version of each suite's glibc 2."""


class InputError(Exception):
    """An input that cannot be fetched as the lock names it; the message is for a person."""


class GoneError(InputError):
    """Debian now has other versions than the lock names."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One input. ``sha256`` is 64 hex digits."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Lock:
    """The inputs of a runtime.

    Attributes:
        python: the interpreter, ``3.11``.
        suite: the Debian release that the packages are from.
    """

    python: str
    suite: str
    debian: tuple[Pin, ...]
    wheels: tuple[Pin, ...]

    @property
    def tag(self) -> str:
        """The interpreter's tag in wheels, ``cp311``."""
        return "cp" + self.python.replace(".", "")

    def platforms(self) -> list[str]:
        """Every platform tag of wheels that the suite's glibc can load, newest first."""
        generic = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC[self.suite], 4, -1)]
        return [*generic, *(f"manylinux{year}_x86_64" for year in ("2014", "2010", "1"))]


def path_of(python: str) -> Path:
    """The lock of one Python."""
    return HERE / f"cp{python.replace('.', '')}.lock"


def load(path: Path) -> Lock:
    """Read a lock.

    Raises:
        InputError: it is not a valid lock.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        debian, wheels = (_pins(table[kind], path) for kind in ("debian", "wheels"))
        return Lock(str(table["python"]), str(table["suite"]), debian, wheels)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not a lock: {error}") from error


def _pins(table: Mapping[str, Mapping[str, str]], path: Path) -> tuple[Pin, ...]:
    found = []
    for name, entry in table.items():
        if not re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]):
            raise InputError(f"{path}: {name}.sha256: want 64 hex digits, got {entry['sha256']!r}")
        found.append(Pin(name, entry["version"], entry["sha256"]))
    return tuple(found)


def text(lock: Lock) -> str:
    """A lock as text, in canonical form."""
    lines = [f'python = "{lock.python}"', f'suite = "{lock.suite}"']
    for kind, pins in (("debian", lock.debian), ("wheels", lock.wheels)):
        lines += ["", f"[{kind}]"]
        lines += [
            f'"{pin.name}" = {{ version = "{pin.version}", sha256 = "{pin.sha256}" }}'
            for pin in sorted(pins, key=lambda pin: pin.name)
        ]
    return "\n".join(lines) + "\n"


def fetch(lock: Lock, cache: Path) -> dict[str, Path]:
    """Every input by name, from the cache, or by apt-get and pip into it.

    Raises:
        InputError: one cannot be fetched, or does not match the lock.
    """
    cache.mkdir(parents=True, exist_ok=True)
    found = {pin.name: _cached(pin, cache) for pin in (*lock.debian, *lock.wheels)}
    if lacking := [pin for pin in lock.debian if found[pin.name] is None]:
        with tempfile.TemporaryDirectory(dir=cache) as work, _apt(lock.suite) as apt:
            gone = [pin for pin in lacking if pin.version not in _versions(apt, pin.name)]
            if gone:
                now = "; ".join(f"{pin.name} {_versions(apt, pin.name)[0]}" for pin in gone)
                raise GoneError(
                    f"{', '.join(f'{pin.name} {pin.version}' for pin in gone)}: no longer in {lock.suite},"
                    f" which has {now}\nhint: python runtime/build.py pin {lock.python} takes that"
                )
            _run(["apt-get", "download", *(f"{pin.name}={pin.version}" for pin in lacking)], apt, Path(work))
            for pin in lacking:
                found[pin.name] = _keep(pin, next(Path(work).glob(f"{pin.name}_*.deb")), cache)
    if lacking := [pin for pin in lock.wheels if found[pin.name] is None]:
        with tempfile.TemporaryDirectory(dir=cache) as work:
            listed = Path(work) / "requirements.txt"
            listed.write_text(
                "".join(f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n" for pin in lacking)
            )
            _pip(lock, ["--require-hashes", "-r", str(listed)], Path(work))
            for pin in lacking:
                found[pin.name] = _keep(pin, _wheel(pin.name, Path(work)), cache)
    return {name: path for name, path in found.items() if path is not None}


def pin(lock: Lock) -> Lock:
    """The same names at the versions that the suite and the index have now.

    A wheel's version in the lock stays: what runs inside is updated by hand.

    Raises:
        InputError: one cannot be fetched.
    """
    with tempfile.TemporaryDirectory() as work, _apt(lock.suite) as apt:
        debian = []
        for old in lock.debian:
            text = _run(["apt-cache", "show", "--no-all-versions", old.name], apt, Path(work))
            fields = dict(re.findall(r"^(Version|SHA256): (\S+)$", text, re.MULTILINE))
            debian.append(Pin(old.name, fields["Version"], fields["SHA256"]))
        wheels = []
        for old in lock.wheels:
            _pip(lock, [f"{old.name}=={old.version}" if old.version else old.name], Path(work))
            path = _wheel(old.name, Path(work))
            wheels.append(Pin(old.name, path.name.split("-")[1], _hash(path)))
    return Lock(lock.python, lock.suite, tuple(debian), tuple(wheels))


def _cached(pin: Pin, cache: Path) -> Path | None:
    path = next((cache / pin.sha256).glob("*"), None)
    return path if path is not None and _hash(path) == pin.sha256 else None


def _keep(pin: Pin, path: Path, cache: Path) -> Path:
    if (got := _hash(path)) != pin.sha256:
        raise InputError(f"{path.name}: want SHA-256 {pin.sha256}, as the lock names, got {got}")
    place = cache / pin.sha256
    place.mkdir(exist_ok=True)
    return Path(shutil.move(path, place / path.name))


def _hash(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _wheel(name: str, folder: Path) -> Path:
    plain = name.replace("-", "_")
    return next(path for path in folder.glob("*.whl") if path.name.split("-")[0].lower() == plain)


def _pip(lock: Lock, arguments: Iterable[str], folder: Path) -> None:
    line = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    line += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", lock.python, "-d", "."]
    for platform in lock.platforms():
        line += ["--platform", platform]
    _run([*line, *arguments], {}, folder)


@contextmanager
def _apt(suite: str) -> Iterator[dict[str, str]]:
    """A separate apt state for one suite, with this machine's mirrors; yields the environment to run it
    in.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in ("lists/partial", "cache/archives/partial"):
            (root / part).mkdir(parents=True)
        keyring = next((path for path in KEYRINGS if path.exists()), None)
        if keyring is None:
            raise InputError(
                "Debian's keys: not on this machine\nhint: apt-get install debian-archive-keyring"
            )
        lines = [
            f"deb [arch=amd64 signed-by={keyring} target=Packages] {mirror} {suite}{ending} main"
            for mirror, ending in _mirrors()
        ]
        (root / "sources.list").write_text("\n".join(lines) + "\n")
        (root / "apt.conf").write_text(
            f'Dir::Etc::sourcelist "{root}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
            f'Dir::Etc::preferences "/dev/null";\nDir::Etc::preferencesparts "/dev/null";\n'
            f'Dir::State::lists "{root}/lists";\nDir::State::status "/dev/null";\n'
            f'Dir::Cache "{root}/cache";\n'
            'APT::Sandbox::User "root";\nAPT::Architecture "amd64";\nAcquire::Languages "none";\n'
        )
        environment = {"APT_CONFIG": str(root / "apt.conf")}
        _run(["apt-get", "update", "-qq"], environment, root)
        yield environment


def _mirrors() -> list[tuple[str, str]]:
    """(address, suffix of the suite's name) of a Debian mirror and of its security updates."""
    if named := os.environ.get("KLUIS_DEBIAN_MIRROR"):
        return [(named, ""), (f"{named.rstrip('/')}-security", "-security")]
    if shutil.which("apt-get") is None:
        raise InputError("apt-get: not on this machine\nhint: build the runtime on Debian or Ubuntu")
    text = _run(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"], {}, Path("/"))
    kinds = {"Debian": "", "Debian-Security": "-security"}
    found = {tuple(line.split(" ", 1)) for line in text.splitlines()}
    mirrors = sorted((address, kinds[label]) for label, address in found if label in kinds)
    if not any(ending == "" for _, ending in mirrors):
        raise InputError(
            "Debian: apt has no mirror of it here"
            "\nhint: apt-get update on Debian, or KLUIS_DEBIAN_MIRROR=ADDRESS"
        )
    return mirrors


def _versions(apt: Mapping[str, str], name: str) -> list[str]:
    text = _run(["apt-cache", "madison", name], apt, Path("/"))
    return [line.split("|")[1].strip() for line in text.splitlines() if "|" in line] or ["nothing"]


def _run(command: list[str], environment: Mapping[str, str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InputError(f"{' '.join(command[:2])}: {(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout
