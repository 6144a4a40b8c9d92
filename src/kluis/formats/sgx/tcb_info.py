"""TCB info and enclave identity: which versions of a platform count as what. Nothing here is verified.

Spec: Intel PCS API v4, "Get TCB Info" (version 3; version 2 of API v3), "Get Quoting Enclave
Identity" (version 2). The documents are read from the exact bytes that were signed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats import jcs
from kluis.formats._members import Members
from kluis.formats.sgx.extension import COMPONENTS

MAX_LEVELS: Final = 64
MAX_ADVISORIES: Final = 256


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Platforms, or enclaves, that reach these SVNs have this status.

    Attributes:
        svns: 16 component SVNs and the PCESVN; of an enclave identity, the ISVSVN alone.
        date: of the last security change that the level has; aware.
        status: as signed.
        advisories: names of what the level suffers from.
    """

    svns: tuple[int, ...]
    date: datetime
    status: str
    advisories: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TcbInfo:
    """The levels of one kind of platform.

    Attributes:
        tee: ``SGX`` or ``TDX``.
        issued: aware.
        next_update: aware.
        fmspc: 6 bytes.
        pceid: 2 bytes.
        evaluation: grows with every TCB recovery.
        levels: newest first, as signed; at least one.
    """

    tee: str
    issued: datetime
    next_update: datetime
    fmspc: bytes
    pceid: bytes
    evaluation: int
    levels: tuple[Level, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a quoting enclave must be.

    Attributes:
        id: ``QE``, ``TD_QE``, ``QVE`` or ``QAE``.
        issued: aware.
        next_update: aware.
        evaluation: grows with every TCB recovery.
        miscselect: 32 bits.
        miscselect_mask: likewise.
        attributes: 128 bits: the flags, and above them xfrm.
        attributes_mask: likewise.
        mrsigner: 32 bytes.
        isvprodid: 0..65535.
        levels: newest first, as signed; at least one.
    """

    id: str
    issued: datetime
    next_update: datetime
    evaluation: int
    miscselect: int
    miscselect_mask: int
    attributes: int
    attributes_mask: int
    mrsigner: bytes
    isvprodid: int
    levels: tuple[Level, ...]


def parse_tcb_info(signed: bytes) -> TcbInfo:
    """Read a TCB info document from the bytes that were signed.

    Raises:
        UnsupportedError: another version, or kind of TCB.
        FormatError: a member missing, of the wrong kind or size, or no level.
    """
    info = Members(jcs.loads(signed, "TCB info"), "TCB info")
    version = info.version(2, 3)
    if (kind := info.integer("tcbType")) != 0:
        raise UnsupportedError(f"TCB info.tcbType: want 0, got {kind}", code="bad_type")
    read = _svns_v2 if version == 2 else _svns_v3
    return TcbInfo(
        tee="SGX" if version == 2 else info.text("id"),
        issued=info.time("issueDate"),
        next_update=info.time("nextUpdate"),
        fmspc=info.hex("fmspc", 6),
        pceid=info.hex("pceId", 2),
        evaluation=info.integer("tcbEvaluationDataNumber"),
        levels=_levels(info, read),
    )


def parse_identity(signed: bytes) -> Identity:
    """Read an enclave identity from the bytes that were signed.

    Raises:
        UnsupportedError: another version.
        FormatError: a member missing, of the wrong kind or size, or no level.
    """
    identity = Members(jcs.loads(signed, "QE identity"), "QE identity")
    identity.version(2)
    return Identity(
        id=identity.text("id"),
        issued=identity.time("issueDate"),
        next_update=identity.time("nextUpdate"),
        evaluation=identity.integer("tcbEvaluationDataNumber"),
        miscselect=_little(identity.hex("miscselect", 4)),
        miscselect_mask=_little(identity.hex("miscselectMask", 4)),
        attributes=_little(identity.hex("attributes", 16)),
        attributes_mask=_little(identity.hex("attributesMask", 16)),
        mrsigner=identity.hex("mrsigner", 32),
        isvprodid=identity.integer("isvprodid", most=0xFFFF),
        levels=_levels(identity, lambda tcb: (tcb.integer("isvsvn", most=0xFFFF),)),
    )


def _levels(document: Members, read: Callable[[Members], tuple[int, ...]]) -> tuple[Level, ...]:
    levels = tuple(
        Level(
            svns=read(level.object("tcb")),
            date=level.time("tcbDate"),
            status=level.text("tcbStatus"),
            advisories=level.texts("advisoryIDs", most=MAX_ADVISORIES) if "advisoryIDs" in level else (),
        )
        for level in document.objects("tcbLevels", most=MAX_LEVELS)
    )
    if not levels:
        raise FormatError(f"{document.what}.tcbLevels: want at least 1, got 0", code="bad_length")
    return levels


def _svns_v2(tcb: Members) -> tuple[int, ...]:
    components = [tcb.integer(f"sgxtcbcomp{i:02}svn", most=255) for i in range(1, COMPONENTS + 1)]
    return (*components, tcb.integer("pcesvn", most=0xFFFF))


def _svns_v3(tcb: Members) -> tuple[int, ...]:
    components = [item.integer("svn", most=255) for item in tcb.objects("sgxtcbcomponents", most=COMPONENTS)]
    if len(components) != COMPONENTS:
        raise FormatError(
            f"{tcb.what}.sgxtcbcomponents: want {COMPONENTS}, got {len(components)}", code="bad_length"
        )
    return (*components, tcb.integer("pcesvn", most=0xFFFF))


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
