"""Parse the TCB levels of Intel's documents. Nothing here is verified.

Spec: Intel PCS API v4, "Get TCB Info", "TCB Levels"; API v3 for version 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Annotated, Final, Generic, TypeAlias, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType, field

from kluis.errors import FormatError
from kluis.formats.encoding.members import Members
from kluis.formats.sgx.extension import COMPONENTS

MAX_LEVELS: Final = 64
MAX_ADVISORIES: Final = 256
MAX_TEXT: Final = 1024
_NAMES_V2: Final = tuple(f"sgxtcbcomp{i:02}svn" for i in range(1, COMPONENTS + 1))
_SVN: Final = attrgetter("svn")

Svn: TypeAlias = Annotated[int, Meta(ge=0, le=0xFFFF)]
Text: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT)]


class Written(Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the parts of a document: members in the order in which Intel writes them."""


class Component(Written, frozen=True):
    """One component: its SVN, 0..255, and its description, which is not judged."""

    svn: Annotated[int, Meta(ge=0, le=0xFF)]
    category: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


Components: TypeAlias = Annotated[tuple[Component, ...], Meta(min_length=COMPONENTS, max_length=COMPONENTS)]


class SgxTcb(Written, frozen=True):
    """The SVNs that a level of a platform requires."""

    sgxtcbcomponents: Components
    pcesvn: Svn

    @property
    def svns(self) -> Iterator[int]:
        """16 component SVNs and the PCESVN."""
        return chain(map(_SVN, self.sgxtcbcomponents), (self.pcesvn,))

    @property
    def tdx(self) -> Iterator[int]:
        """Empty: SGX has no TDX components."""
        return iter(())


class TdxTcb(SgxTcb, frozen=True):
    """The SVNs that a level of a platform with TDX requires."""

    tdxtcbcomponents: Components

    @property
    def tdx(self) -> Iterator[int]:
        """16 component SVNs of TDX."""
        return map(_SVN, self.tdxtcbcomponents)


class OwnTcb(Written, frozen=True):
    """The SVN that a level of a module or an enclave requires."""

    isvsvn: Svn

    @property
    def svns(self) -> Iterator[int]:
        """Only the ISVSVN."""
        return iter((self.isvsvn,))

    @property
    def tdx(self) -> Iterator[int]:
        """Empty: modules and enclaves have no TDX components."""
        return iter(())


T = TypeVar("T", SgxTcb, TdxTcb, OwnTcb)


class Level(Written, Generic[T], frozen=True):
    """Platforms, modules or enclaves that reach these SVNs have this status.

    Attributes:
        tcb: the SVNs.
        date: of the last security fix that the level includes; aware.
        status: as signed.
        advisories: names of the advisories that affect the level.
    """

    tcb: T
    date: Annotated[datetime, Meta(tz=True)] = field(name="tcbDate")
    status: Text = field(name="tcbStatus")
    advisories: Annotated[tuple[Text, ...], Meta(max_length=MAX_ADVISORIES)] = field(
        name="advisoryIDs", default=()
    )


PlatformLevel: TypeAlias = Level[SgxTcb] | Level[TdxTcb]
AnyLevel: TypeAlias = PlatformLevel | Level[OwnTcb]


def platform_levels(info: Members, *, v2: bool, tdx: bool) -> tuple[PlatformLevel, ...]:
    """Parse the levels of a platform.

    Args:
        info: the TCB info document.
        v2: whether it names each component.
        tdx: whether its levels have TDX components.

    Returns:
        The levels in the signed order, at least 1.

    Raises:
        FormatError: a member that is missing, or of the wrong kind or range; or no level.
    """
    if v2:
        return _levels(info, _one_by_one)
    return _levels(info, _of_tdx) if tdx else _levels(info, _of_sgx)


def own_levels(document: Members) -> tuple[Level[OwnTcb], ...]:
    """Parse the levels of a module or an enclave, like :func:`platform_levels`."""
    return _levels(document, lambda tcb: OwnTcb(tcb.integer("isvsvn", most=0xFFFF)))


def _levels(document: Members, read: Callable[[Members], T]) -> tuple[Level[T], ...]:
    levels = []
    for level in document.objects("tcbLevels", most=MAX_LEVELS):
        tcb = read(level.object("tcb"))
        advisories = level.texts("advisoryIDs", most=MAX_ADVISORIES) if "advisoryIDs" in level else ()
        status = level.text("tcbStatus", limit=MAX_TEXT)
        levels.append(Level(tcb, level.time("tcbDate"), status, advisories))
    if not levels:
        raise FormatError(f"{document.what}.tcbLevels: want at least 1, got 0", code="bad_length")
    return tuple(levels)


def _one_by_one(tcb: Members) -> SgxTcb:
    components = tuple(Component(tcb.integer(name, most=0xFF)) for name in _NAMES_V2)
    return SgxTcb(components, tcb.integer("pcesvn", most=0xFFFF))


def _of_sgx(tcb: Members) -> SgxTcb:
    return SgxTcb(_components(tcb, "sgxtcbcomponents"), tcb.integer("pcesvn", most=0xFFFF))


def _of_tdx(tcb: Members) -> TdxTcb:
    sgx = _of_sgx(tcb)
    return TdxTcb(sgx.sgxtcbcomponents, sgx.pcesvn, _components(tcb, "tdxtcbcomponents"))


def _components(tcb: Members, name: str) -> tuple[Component, ...]:
    objects = tcb.objects(name, most=COMPONENTS)
    if len(objects) != COMPONENTS:
        raise FormatError(f"{tcb.what}.{name}: want {COMPONENTS}, got {len(objects)}", code="bad_length")
    return tuple(Component(item.integer("svn", most=0xFF)) for item in objects)
