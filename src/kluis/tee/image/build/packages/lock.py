"""Requirements, and the lock that pins each of them to the hash of one wheel.

A lock is a pip requirements file in hash-checking mode. Its first line states the requirements it was made
from: ``# kluis lock for cpython-311: sha256:...`` over the requirements.

Spec: PEP 508, and pip's "Secure installs" (hash-checking mode) and "Installation report", version 1.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.tee.image.build.interpreter import Interpreter
from kluis.tee.image.build.packages import pip

PATTERN: Final = "requirements*.lock"
MAX_BYTES: Final = 4 << 20
_PINNED: Final = re.compile(r"===?([A-Za-z0-9.!+_-]+)")
_HASH: Final = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})(?=\s|\Z)")


@frozen
class Pin:
    """One requirement at one version, and the SHA-256 (hex) of each wheel that matches it."""

    name: str
    version: str
    hashes: frozenset[str]
    line: str


def name() -> str:
    """The lock's file name for the running interpreter: wheels depend on it, so locks do, too."""
    return f"requirements.{sys.implementation.cache_tag}.lock"


def lines(text: str, what: str) -> list[str]:
    """Read a requirements file into one requirement per line, with hashes.

    Raises:
        UsageError: an option, a path or a URL in it: a build takes only names.
    """
    pinned = []
    for raw in text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines():
        line = re.sub(r"(^|\s)#.*\Z", "", raw).strip()
        if not line:
            continue
        if _parse(line) is None:
            raise UsageError(f"{what}: want a line such as polars==2.1.0, got {line[:120]!r}")
        pinned.append(" ".join(line.split()))
    return pinned


def pins(requirements: Iterable[str], what: str) -> list[Pin]:
    """Read requirements that are all pinned and hashed.

    Raises:
        UsageError: one is not, or a name appears twice.
    """
    by_name: dict[str, Pin] = {}
    for line in requirements:
        required, hashes = _parse(line), frozenset(_HASH.findall(line))
        pinned = _PINNED.fullmatch(str(required.specifier)) if required else None
        if required is None or pinned is None or not hashes:
            raise UsageError(
                f"{what}: want name==version --hash=sha256:..., got {line[:120]!r}",
                hint="hash every requirement or none; with none, kluis build locks them",
            )
        pin = Pin(canonicalize_name(required.name), pinned[1], hashes, line)
        if pin.name in by_name:
            raise UsageError(f"{what}: {pin.name} appears twice")
        by_name[pin.name] = pin
    return list(by_name.values())


def _parse(line: str) -> Requirement | None:
    """A requirement without its hashes; None of an address, an option, or what is no requirement."""
    try:
        required = Requirement(_HASH.sub("", line).strip())
    except InvalidRequirement:
        return None
    return None if required.url else required


def has_hashes(requirements: Iterable[str]) -> bool:
    """Whether any requirement has a hash, so that all must have one."""
    return any("--hash" in line for line in requirements)


def digest(requirements: Iterable[str]) -> str:
    """The digest of the requirements that a lock was made from, 64 hex digits."""
    return sha256("\n".join(sorted(requirements)).encode()).hex()


def load(path: Path, requirements: list[str]) -> list[Pin]:
    """Read the lock at ``path``, made from these requirements.

    Raises:
        UsageError: it was made from others, or is not a lock.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path.name}: want at most {MAX_BYTES} bytes")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    first = text.partition("\n")[0]
    if first != _first_line(requirements):
        raise UsageError(
            f"{path.name}: was made from other requirements",
            hint=f"remove {path} and build again, which writes a new lock",
        )
    return pins(lines(text, path.name), path.name)


def make(
    path: Path,
    requirements: list[str],
    local: Path | None,
    own: Mapping[str, str],
    python: Interpreter,
    work: Path,
) -> list[Pin]:
    """Let pip choose versions and wheels, and write the lock.

    Distributions of Kluis's own layer are fixed at its versions, and left out. A distribution that has wheels
    in ``local`` comes from there: an index cannot replace it with another wheel of that name.

    Raises:
        UnavailableError: pip found no consistent set of wheels, or no index.
        UsageError: pip chose a wheel from an index although ``local`` has that distribution; names it.
    """
    with tempfile.TemporaryDirectory(dir=work) as folder:
        wanted, constraints = Path(folder) / "requirements.txt", Path(folder) / "constraints.txt"
        report = Path(folder) / "report.json"
        wanted.write_text("\n".join(requirements) + "\n", "utf-8")
        constraints.write_text("".join(f"{key}=={value}\n" for key, value in sorted(own.items())), "utf-8")
        options = ["--dry-run", "--ignore-installed", "--report", str(report)]
        named = ["-r", str(wanted), "-c", str(constraints)]
        pip.run(["install", *pip.places(local), *options, *named], "requirements", Path(folder), python)
        chosen = _read_choices(report)
    _hold_to(local, chosen)
    text = _first_line(requirements) + "\n"
    text += "".join(
        f"{key}=={version} --hash=sha256:{digest}\n"
        for key, version, digest in sorted(chosen)
        if key not in own
    )
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be written: {error.strerror}") from error
    return pins(lines(text, path.name), path.name)


def _hold_to(local: Path | None, chosen: list[tuple[str, str, str]]) -> None:
    """Refuse a wheel from elsewhere that has the name of one in ``local``."""
    here: dict[str, set[str]] = {}
    for wheel in sorted(local.glob("*.whl")) if local else []:
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        here.setdefault(canonicalize_name(wheel.name.partition("-")[0]), set()).add(digest)
    for name, version, digest in chosen:
        if name in here and digest not in here[name]:
            raise UsageError(
                f"wheels: {name}: want a wheel from {local}, but pip chose {version} from its index",
                hint=f"require the version in the folder: {name}==...",
            )


def _first_line(requirements: Iterable[str]) -> str:
    return f"# kluis lock for {sys.implementation.cache_tag}: sha256:{digest(requirements)}"


def _read_choices(report: Path) -> list[tuple[str, str, str]]:
    document: Any = json.loads(report.read_bytes())
    try:
        return [
            (
                canonicalize_name(item["metadata"]["name"]),
                item["metadata"]["version"],
                item["download_info"]["archive_info"]["hashes"]["sha256"],
            )
            for item in document["install"]
        ]
    except (KeyError, TypeError) as error:
        raise FormatError(f"pip's report: want a SHA-256 of every wheel, found none: {error}") from error
