"""One recorded piece of evidence: its metadata, and its files as they were recorded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kluis.errors import FormatError
from kluis.hashes import sha256

MAX_META = 4 << 20
MAX_FILE = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record.

    Attributes:
        id: as in the index; only for people.
        tee: whose evidence it is.
        format: of the evidence, in words.
        derived: made from another record by one change: facts about its bytes are the other's.
        outcome: what must come of it.
        expected: the source's expectations in addition to the outcome.
        known: values that the evidence is known to hold.
        verify_time: the time to verify at, or None.
        files: bytes by role.
    """

    id: str
    tee: str
    format: str
    derived: bool
    outcome: str
    expected: Mapping[str, Any]
    known: Mapping[str, Any]
    verify_time: datetime | None
    files: Mapping[str, bytes]


def find(root: Path) -> tuple[Path, ...]:
    """Every record's folder, in order: those of the index, and it must have all that there are.

    Raises:
        FormatError: the index is not one, or it and the folders differ.
    """
    index = _load(root / "INDEX.json")
    try:
        named = {str(entry["id"]) for entry in index}
    except (TypeError, KeyError):
        raise FormatError(f"{root / 'INDEX.json'}: want a list of objects that have an id") from None
    there = {f"{meta.parent.parent.name}/{meta.parent.name}" for meta in root.glob("*/*/meta.json")}
    if odd := sorted(named ^ there):
        raise FormatError(f"{root}: the index and the folders differ: {', '.join(odd[:4])}")
    return tuple(root / name for name in sorted(named))


def read(folder: Path) -> Record:
    """Read one record, each file as recorded.

    Raises:
        FormatError: a member is missing or wrong, or a file is not the recorded one.
    """
    meta = _load(folder / "meta.json")
    try:
        files = {role: _file(folder, entry) for role, entry in meta["files"].items()}
        when = meta.get("verify_time")
        return Record(
            id=str(meta["id"]),
            tee=str(meta["tee"]),
            format=str(meta.get("format", "")),
            derived=bool(meta.get("derived", False)),
            outcome=str(meta["expected"]["outcome"]),
            expected=meta["expected"],
            known=meta.get("known") or {},
            verify_time=_time(when) if when else None,
            files=files,
        )
    except (TypeError, KeyError, AttributeError, ValueError, OSError) as error:
        raise FormatError(f"{folder / 'meta.json'}: {type(error).__name__}: {error}") from None


def _time(text: str) -> datetime:
    """ISO; without a zone it is UTC."""
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _load(path: Path) -> Any:
    try:
        data = path.read_bytes()
        return json.loads(data[:MAX_META])
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read: {error}") from None


def _file(folder: Path, entry: Mapping[str, Any]) -> bytes:
    name = str(entry["file"])
    if Path(name).name != name:
        raise FormatError(f"{folder}: {name!a} is not a file beside its record")
    with (folder / name).open("rb") as file:
        data = file.read(MAX_FILE)
    if len(data) != entry["size"] or sha256(data).hex() != entry["sha256"]:
        raise FormatError(f"{folder / name}: is not what was recorded")
    return data
