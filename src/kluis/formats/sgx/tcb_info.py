"""TCB info and enclave identity: which versions of a platform count as what. Nothing here is verified.

Spec: Intel PCS API v4, "Get TCB Info" (version 3; version 2 of API v3), "Get Quoting Enclave
Identity" (version 2). The documents are read from the exact bytes that were signed.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats import jcs
from kluis.formats._members import Members
from kluis.formats.sgx import tcb_levels
from kluis.formats.sgx.tcb_levels import Level

SGX: Final = "SGX"
TDX: Final = "TDX"
MAX_MODULES: Final = 32


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """What a TDX module must be.

    Attributes:
        id: ``TDX_01`` and the like, by the module's major version; empty for version 0.
        mrsigner: 48 bytes.
        attributes: 8 bytes.
        attributes_mask: 8 bytes.
        levels: by the module's minor SVN; none for version 0, which the platform's levels judge.
    """

    id: str
    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[Level, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TcbInfo:
    """The levels of one kind of platform.

    Attributes:
        tee: ``SGX`` or ``TDX``.
        version: 2 or 3.
        issued: aware.
        next_update: aware.
        fmspc: 6 bytes.
        pceid: 2 bytes.
        evaluation: grows with every TCB recovery.
        levels: newest first, as signed; at least one.
        module: of TDX; the module of version 0.
        modules: of TDX; those of later versions.
    """

    tee: str
    version: int
    issued: datetime
    next_update: datetime
    fmspc: bytes
    pceid: bytes
    evaluation: int
    levels: tuple[Level, ...]
    module: Module | None
    modules: tuple[Module, ...]


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
        UnsupportedError: another version, TEE or kind of TCB.
        FormatError: a member missing, repeated, of the wrong kind or size, or no level.
    """
    value, members = jcs.loads_counted(signed, "TCB info")
    info = Members(value, "TCB info")
    version = info.version(2, 3)
    if (kind := info.integer("tcbType")) != 0:
        raise UnsupportedError(f"TCB info.tcbType: want 0, got {kind}", code="bad_type")
    tee = SGX if version == 2 else info.text("id")
    if tee not in (SGX, TDX):
        raise UnsupportedError(f"TCB info.id: want {SGX} or {TDX}, got {tee!a}", code="bad_type")
    levels, met = tcb_levels.platform_levels(info, v2=version == 2, tdx=tee == TDX)
    module, modules, met_modules = _modules(info, tee)
    if len(info) + met + met_modules != members:
        jcs.loads(signed, "TCB info")
    return TcbInfo(
        tee=tee,
        version=version,
        issued=info.time("issueDate"),
        next_update=info.time("nextUpdate"),
        fmspc=info.hex("fmspc", 6),
        pceid=info.hex("pceId", 2),
        evaluation=info.integer("tcbEvaluationDataNumber"),
        levels=levels,
        module=module,
        modules=modules,
    )


def parse_identity(signed: bytes) -> Identity:
    """Read an enclave identity from the bytes that were signed.

    Raises:
        UnsupportedError: another version.
        FormatError: a member missing, repeated, of the wrong kind or size, or no level.
    """
    value, members = jcs.loads_counted(signed, "QE identity")
    identity = Members(value, "QE identity")
    identity.version(2)
    levels, met = tcb_levels.isvsvn_levels(identity)
    if len(identity) + met != members:
        jcs.loads(signed, "QE identity")
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
        levels=levels,
    )


def _modules(info: Members, tee: str) -> tuple[Module | None, tuple[Module, ...], int]:
    """A TDX document's modules, and how many members they have; an SGX document has none."""
    if tee == SGX:
        for name in ("tdxModule", "tdxModuleIdentities"):
            if name in info:
                raise FormatError(f"TCB info: member {name!a} is of TDX alone", code="bad_type")
        return None, (), 0
    first = info.object("tdxModule")
    met = len(first)
    modules = []
    if "tdxModuleIdentities" in info:
        for item in info.objects("tdxModuleIdentities", most=MAX_MODULES):
            levels, inside = tcb_levels.isvsvn_levels(item)
            met += len(item) + inside
            modules.append(_module(item, item.text("id"), levels))
    if len({module.id.upper() for module in modules}) != len(modules):
        raise FormatError("TCB info.tdxModuleIdentities: an id stands twice", code="duplicate_key")
    return _module(first, "", ()), tuple(modules), met


def _module(item: Members, name: str, levels: tuple[Level, ...]) -> Module:
    return Module(
        id=name,
        mrsigner=item.hex("mrsigner", 48),
        attributes=item.hex("attributes", 8),
        attributes_mask=item.hex("attributesMask", 8),
        levels=levels,
    )


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
