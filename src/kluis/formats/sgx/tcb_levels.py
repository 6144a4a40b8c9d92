"""TCB levels of Intel's documents. Nothing here is verified.

Spec: Intel PCS API v4, "Get TCB Info", "TCB Levels"; API v3 for version 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from kluis.errors import FormatError
from kluis.formats._members import Members, instant
from kluis.formats.sgx.extension import COMPONENTS

MAX_LEVELS: Final = 64
MAX_ADVISORIES: Final = 256
MAX_TEXT: Final = 1024
_NAMES_V2: Final = tuple(f"sgxtcbcomp{i:02}svn" for i in range(1, COMPONENTS + 1))
_NONE: Final[list[str]] = []
_SVNS: Final = frozenset(range(256))


@dataclasses.dataclass(frozen=True, slots=True)
class Level:
    """Platforms, modules or enclaves that reach these SVNs have this status.

    Attributes:
        svns: 16 component SVNs and the PCESVN; of a module or enclave, its ISVSVN alone.
        tdx: 16 component SVNs of TDX; none in documents of SGX.
        date: of the last security change that the level has; aware.
        status: as signed.
        advisories: names of what the level suffers from.
    """

    svns: tuple[int, ...]
    tdx: tuple[int, ...]
    date: datetime
    status: str
    advisories: tuple[str, ...]


_Svns = tuple[tuple[int, ...], tuple[int, ...], int]


def platform_levels(info: Members, *, v2: bool, tdx: bool) -> tuple[tuple[Level, ...], int]:
    """Read the levels of a platform.

    Args:
        info: the TCB info document.
        v2: whether it names its components one by one.
        tdx: whether its levels have components of TDX.

    Returns:
        The levels as they stand, at least 1, and how many members their objects have.

    Raises:
        FormatError: a member missing, of the wrong kind or range, or no level.
    """
    lists = ("sgxtcbcomponents", "tdxtcbcomponents") if tdx else ("sgxtcbcomponents",)
    if not v2:
        usual = _usual(info, lists, "pcesvn")
        if usual is not None:
            return usual

    def one_by_one(tcb: Members) -> _Svns:
        components = [tcb.integer(name, most=255) for name in _NAMES_V2]
        return (*components, tcb.integer("pcesvn", most=0xFFFF)), (), len(tcb)

    return _levels(info, one_by_one if v2 else _listed(lists))


def isvsvn_levels(document: Members) -> tuple[tuple[Level, ...], int]:
    """Read the levels of a module or an enclave; as :func:`platform_levels`."""
    usual = _usual(document, (), "isvsvn")
    if usual is not None:
        return usual
    return _levels(document, lambda tcb: ((tcb.integer("isvsvn", most=0xFFFF),), (), len(tcb)))


def _usual(document: Members, lists: tuple[str, ...], last: str) -> tuple[tuple[Level, ...], int] | None:
    """Read levels in which nothing is amiss; None if anything is: the slower reader then says what.

    Every verification reads these documents, so types are looked at once for all, at the end.
    """
    levels, met = [], 0
    dates: dict[str, datetime] = {}
    small: list[int] = []
    large: list[int] = []
    texts: list[str] = []
    items: Any = document.array("tcbLevels", most=MAX_LEVELS)
    try:
        for item in items:
            tcb = item["tcb"]
            parts = []
            met += len(item) + len(tcb)
            for name in lists:
                components = tcb[name]
                met += sum(map(len, components))
                svns = [each["svn"] for each in components]
                if len(svns) != COMPONENTS:
                    return None
                small += svns
                parts.append(svns)
            large.append(tcb[last])
            written = item["tcbDate"]
            if (date := dates.get(written)) is None:
                date = dates[written] = instant(written)
            advisories = item.get("advisoryIDs", _NONE)
            if type(advisories) is not list or len(advisories) > MAX_ADVISORIES:
                return None
            texts += advisories
            texts.append(item["tcbStatus"])
            svns = [*parts[0], tcb[last]] if parts else [tcb[last]]
            own = tuple(parts[1]) if len(parts) > 1 else ()
            levels.append(Level(tuple(svns), own, date, item["tcbStatus"], tuple(advisories)))
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    plain = set(map(type, small)) | set(map(type, large)) == {int} and set(map(type, texts)) == {str}
    if not levels or not plain or not _SVNS.issuperset(small):
        return None
    if min(large) < 0 or max(large) > 0xFFFF or max(map(len, texts)) > MAX_TEXT:
        return None
    return tuple(levels), met


def _levels(document: Members, read: Callable[[Members], _Svns]) -> tuple[tuple[Level, ...], int]:
    levels, met = [], 0
    for level in document.objects("tcbLevels", most=MAX_LEVELS):
        svns, tdx, inside = read(level.object("tcb"))
        met += len(level) + inside
        advisories = level.texts("advisoryIDs", most=MAX_ADVISORIES) if "advisoryIDs" in level else ()
        status = level.text("tcbStatus", limit=MAX_TEXT)
        levels.append(Level(svns, tdx, level.time("tcbDate"), status, advisories))
    if not levels:
        raise FormatError(f"{document.what}.tcbLevels: want at least 1, got 0", code="bad_length")
    return tuple(levels), met


def _listed(lists: tuple[str, ...]) -> Callable[[Members], _Svns]:
    def read(tcb: Members) -> _Svns:
        (components, *own), met = zip(*(_components(tcb, name) for name in lists), strict=True)
        return (*components, tcb.integer("pcesvn", most=0xFFFF)), own[0] if own else (), len(tcb) + sum(met)

    return read


def _components(tcb: Members, name: str) -> tuple[tuple[int, ...], int]:
    objects = tcb.objects(name, most=COMPONENTS)
    if len(objects) != COMPONENTS:
        raise FormatError(f"{tcb.what}.{name}: want {COMPONENTS}, got {len(objects)}", code="bad_length")
    return tuple(item.integer("svn", most=255) for item in objects), sum(map(len, objects))
