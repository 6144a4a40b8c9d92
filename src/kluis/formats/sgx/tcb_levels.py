"""TCB levels of Intel's documents. Nothing here is verified.

Spec: Intel PCS API v4, "Get TCB Info", "TCB Levels"; API v3 for version 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Final

from kluis.errors import FormatError
from kluis.formats._members import Members
from kluis.formats.sgx.extension import COMPONENTS

MAX_LEVELS: Final = 64
MAX_ADVISORIES: Final = 256
_NAMES_V2: Final = tuple(f"sgxtcbcomp{i:02}svn" for i in range(1, COMPONENTS + 1))
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

    def one_by_one(tcb: Members) -> _Svns:
        components = [tcb.integer(name, most=255) for name in _NAMES_V2]
        return (*components, tcb.integer("pcesvn", most=0xFFFF)), (), len(tcb)

    def listed(tcb: Members) -> _Svns:
        components, met = _components(tcb, "sgxtcbcomponents")
        own, met_own = _components(tcb, "tdxtcbcomponents") if tdx else ((), 0)
        return (*components, tcb.integer("pcesvn", most=0xFFFF)), own, len(tcb) + met + met_own

    return _levels(info, one_by_one if v2 else listed)


def isvsvn_levels(document: Members) -> tuple[tuple[Level, ...], int]:
    """Read the levels of a module or an enclave; as :func:`platform_levels`."""
    return _levels(document, lambda tcb: ((tcb.integer("isvsvn", most=0xFFFF),), (), len(tcb)))


def _levels(document: Members, read: Callable[[Members], _Svns]) -> tuple[tuple[Level, ...], int]:
    levels, met = [], 0
    dates: dict[str, datetime] = {}
    for level in document.objects("tcbLevels", most=MAX_LEVELS):
        svns, tdx, inside = read(level.object("tcb"))
        met += len(level) + inside
        written = level.text("tcbDate")
        date = dates.get(written) or dates.setdefault(written, level.time("tcbDate"))
        advisories = level.texts("advisoryIDs", most=MAX_ADVISORIES) if "advisoryIDs" in level else ()
        levels.append(Level(svns, tdx, date, level.text("tcbStatus"), advisories))
    if not levels:
        raise FormatError(f"{document.what}.tcbLevels: want at least 1, got 0", code="bad_length")
    return tuple(levels), met


def _components(tcb: Members, name: str) -> tuple[tuple[int, ...], int]:
    items = tcb.array(name, most=COMPONENTS)
    if len(items) != COMPONENTS:
        raise FormatError(f"{tcb.what}.{name}: want {COMPONENTS}, got {len(items)}", code="bad_length")
    try:
        found = [item["svn"] for item in items]  # type: ignore[call-overload,index]  # caught below
        if _SVNS.issuperset(found) and set(map(type, found)) == {int}:
            return tuple(found), sum(map(len, items))  # type: ignore[arg-type]  # each is an object
    except (TypeError, KeyError, IndexError):
        pass
    # Slower, and says which is not as it should be.
    objects = tcb.objects(name, most=COMPONENTS)
    return tuple(item.integer("svn", most=255) for item in objects), sum(map(len, objects))
