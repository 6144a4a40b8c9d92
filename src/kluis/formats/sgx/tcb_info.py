"""Parse TCB info and enclave identity: the status of each version of a platform. Nothing here is verified.

Spec: Intel PCS API v4, "Get TCB Info" (version 3; version 2 of API v3), "Get Quoting Enclave
Identity" (version 2). The documents are read from the exact bytes that were signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.sgx import tcb_documents, tcb_levels
from kluis.formats.sgx.tcb_documents import (
    MAX_MODULES,
    EnclaveIdentity,
    SgxTcbInfo,
    TdxModule,
    TdxModuleIdentity,
    TdxTcbInfo,
    hex_of,
)
from kluis.formats.sgx.tcb_levels import Level, OwnTcb, PlatformLevel
from kluis.frozen import frozen

SGX: Final = "SGX"
TDX: Final = "TDX"


@frozen(kw_only=True)
class Module:
    """The requirements for a TDX module.

    Attributes:
        id: ``TDX_01`` and the like, from the module's major version; empty for version 0.
        mrsigner: 48 bytes.
        attributes: 8 bytes.
        attributes_mask: 8 bytes.
        levels: by the module's minor SVN; empty for version 0, which the platform's levels judge.
    """

    id: str
    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[Level[OwnTcb], ...]


@frozen(kw_only=True)
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
        module: TDX only; the module of version 0.
        modules: TDX only; those of later versions.
    """

    tee: str
    version: int
    issued: datetime
    next_update: datetime
    fmspc: bytes
    pceid: bytes
    evaluation: int
    levels: tuple[PlatformLevel, ...]
    module: Module | None
    modules: tuple[Module, ...]


@frozen(kw_only=True)
class Identity:
    """The requirements for a quoting enclave.

    Attributes:
        id: ``QE``, ``TD_QE``, ``QVE`` or ``QAE``.
        issued: aware.
        next_update: aware.
        evaluation: grows with every TCB recovery.
        miscselect: 32 bits.
        miscselect_mask: 32 bits.
        attributes: 128 bits: the flags, and above them xfrm.
        attributes_mask: 128 bits.
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
    levels: tuple[Level[OwnTcb], ...]


def parse_tcb_info(signed: bytes) -> TcbInfo:
    """Parse a TCB info document from the signed bytes.

    Raises:
        UnsupportedError: another version, TEE or kind of TCB.
        FormatError: a member that is missing, repeated, or of the wrong kind or size; or no level.
    """
    written = tcb_documents.tcb_info(signed)
    try:
        return _tcb_info(written) if written is not None else _tcb_info_by_member(signed)
    except ValueError:
        return _tcb_info_by_member(signed)


def parse_identity(signed: bytes) -> Identity:
    """Parse an enclave identity from the signed bytes.

    Raises:
        UnsupportedError: another version.
        FormatError: a member that is missing, repeated, or of the wrong kind or size; or no level.
    """
    written = tcb_documents.identity(signed)
    try:
        return _identity(written) if written is not None else _identity_by_member(signed)
    except ValueError:
        return _identity_by_member(signed)


def _tcb_info(written: SgxTcbInfo | TdxTcbInfo) -> TcbInfo:
    module: Module | None = None
    modules: tuple[Module, ...] = ()
    if isinstance(written, TdxTcbInfo):
        module = _module(written.tdx_module, "", ())
        modules = tuple(
            [_module(each, each.id, each.tcb_levels) for each in written.tdx_module_identities or ()]
        )
        _check_ids(modules)
    return TcbInfo(
        tee=TDX if module else SGX,
        version=written.version,
        issued=written.issue_date,
        next_update=written.next_update,
        fmspc=hex_of(written.fmspc, 6),
        pceid=hex_of(written.pce_id, 2),
        evaluation=written.tcb_evaluation_data_number,
        levels=written.tcb_levels,
        module=module,
        modules=modules,
    )


def _module(written: TdxModule | TdxModuleIdentity, name: str, levels: tuple[Level[OwnTcb], ...]) -> Module:
    return Module(
        id=name,
        mrsigner=hex_of(written.mrsigner, 48),
        attributes=hex_of(written.attributes, 8),
        attributes_mask=hex_of(written.attributes_mask, 8),
        levels=levels,
    )


def _identity(written: EnclaveIdentity) -> Identity:
    return Identity(
        id=written.id,
        issued=written.issue_date,
        next_update=written.next_update,
        evaluation=written.tcb_evaluation_data_number,
        miscselect=_little(hex_of(written.miscselect, 4)),
        miscselect_mask=_little(hex_of(written.miscselect_mask, 4)),
        attributes=_little(hex_of(written.attributes, 16)),
        attributes_mask=_little(hex_of(written.attributes_mask, 16)),
        mrsigner=hex_of(written.mrsigner, 32),
        isvprodid=written.isvprodid,
        levels=written.tcb_levels,
    )


def _tcb_info_by_member(signed: bytes) -> TcbInfo:
    info = Members(jcs.loads(signed, "TCB info"), "TCB info")
    version = info.version(2, 3)
    if (kind := info.integer("tcbType")) != 0:
        raise UnsupportedError(f"TCB info.tcbType: want 0, got {kind}", code="bad_type")
    tee = SGX if version == 2 else info.text("id")
    if tee not in (SGX, TDX):
        raise UnsupportedError(f"TCB info.id: want {SGX} or {TDX}, got {tee!a}", code="bad_type")
    levels = tcb_levels.platform_levels(info, v2=version == 2, tdx=tee == TDX)
    module, modules = _modules_by_member(info, tee)
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


def _identity_by_member(signed: bytes) -> Identity:
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
        levels=tcb_levels.own_levels(identity),
    )


def _modules_by_member(info: Members, tee: str) -> tuple[Module | None, tuple[Module, ...]]:
    """A TDX document's modules; an SGX document has none."""
    if tee == SGX:
        for name in ("tdxModule", "tdxModuleIdentities"):
            if name in info:
                raise FormatError(f"TCB info: member {name!a} is only for TDX", code="bad_type")
        return None, ()
    first = _module_by_member(info.object("tdxModule"), "", ())
    items = info.objects("tdxModuleIdentities", most=MAX_MODULES) if "tdxModuleIdentities" in info else ()
    modules = [_module_by_member(item, item.text("id"), tcb_levels.own_levels(item)) for item in items]
    _check_ids(modules)
    return first, tuple(modules)


def _module_by_member(item: Members, name: str, levels: tuple[Level[OwnTcb], ...]) -> Module:
    return Module(
        id=name,
        mrsigner=item.hex("mrsigner", 48),
        attributes=item.hex("attributes", 8),
        attributes_mask=item.hex("attributesMask", 8),
        levels=levels,
    )


def _check_ids(modules: Sequence[Module]) -> None:
    if len({module.id.upper() for module in modules}) != len(modules):
        raise FormatError("TCB info.tdxModuleIdentities: an id appears twice", code="duplicate_key")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
