"""Read TCB info and enclave identity exactly as Intel writes them, byte for byte. Nothing here is verified.

A typed reader accepts a document only if writing it produces the same bytes. Then no member is repeated or
unknown, and every value is well-formed. The readers in :mod:`kluis.formats.sgx.tcb_info` accept all other
documents, member by member, and report what is wrong.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

from msgspec import UNSET, Meta, UnsetType
from msgspec.json import Decoder, Encoder

from kluis.formats.encoding.jcs import MAX_INTEGER, MAX_SIZE
from kluis.formats.sgx.tcb_levels import MAX_LEVELS, Level, OwnTcb, SgxTcb, Svn, TdxTcb, Written

MAX_MODULES: Final = 32

_Time: TypeAlias = Annotated[datetime, Meta(tz=True)]
_Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
_LEVELS: Final = Meta(min_length=1, max_length=MAX_LEVELS)


class TdxModule(Written, frozen=True, rename="camel"):
    """The requirements for a TDX module of version 0, in hex."""

    mrsigner: str
    attributes: str
    attributes_mask: str


class TdxModuleIdentity(Written, frozen=True, rename="camel"):
    """The requirements for a TDX module of a later version, in hex."""

    id: str
    mrsigner: str
    attributes: str
    attributes_mask: str
    tcb_levels: Annotated[tuple[Level[OwnTcb], ...], _LEVELS]


class SgxTcbInfo(Written, frozen=True, rename="camel", tag_field="id", tag="SGX"):
    """TCB info of version 3 for SGX."""

    version: Literal[3]
    issue_date: _Time
    next_update: _Time
    fmspc: str
    pce_id: str
    tcb_type: Literal[0]
    tcb_evaluation_data_number: _Count
    tcb_levels: Annotated[tuple[Level[SgxTcb], ...], _LEVELS]


class TdxTcbInfo(Written, frozen=True, rename="camel", tag_field="id", tag="TDX", kw_only=True):
    """TCB info of version 3 for TDX."""

    version: Literal[3]
    issue_date: _Time
    next_update: _Time
    fmspc: str
    pce_id: str
    tcb_type: Literal[0]
    tcb_evaluation_data_number: _Count
    tdx_module: TdxModule
    tdx_module_identities: (
        Annotated[tuple[TdxModuleIdentity, ...], Meta(max_length=MAX_MODULES)] | UnsetType
    ) = UNSET
    tcb_levels: Annotated[tuple[Level[TdxTcb], ...], _LEVELS]


class EnclaveIdentity(Written, frozen=True, rename="camel"):
    """An enclave identity of version 2; masks and measurements in hex."""

    id: str
    version: Literal[2]
    issue_date: _Time
    next_update: _Time
    tcb_evaluation_data_number: _Count
    miscselect: str
    miscselect_mask: str
    attributes: str
    attributes_mask: str
    mrsigner: str
    isvprodid: Svn
    tcb_levels: Annotated[tuple[Level[OwnTcb], ...], _LEVELS]


T = TypeVar("T")
_TCB_INFO: Final = Decoder(SgxTcbInfo | TdxTcbInfo)
_IDENTITY: Final = Decoder(EnclaveIdentity)
_write: Final = Encoder().encode


def tcb_info(signed: bytes) -> SgxTcbInfo | TdxTcbInfo | None:
    """Read a TCB info in Intel's exact form; None if it has any other."""
    return _read(_TCB_INFO, signed)


def identity(signed: bytes) -> EnclaveIdentity | None:
    """Read an enclave identity in Intel's exact form; None if it has any other."""
    return _read(_IDENTITY, signed)


def hex_of(text: str, size: int) -> bytes:
    """Hex of ``size`` bytes.

    Raises:
        ValueError: anything else.
    """
    data = bytes.fromhex(text)
    # ``fromhex`` skips spaces, which the length check catches.
    if not 2 * len(data) == len(text) == 2 * size:
        raise ValueError(text)
    return data


def _read(decoder: Decoder[T], signed: bytes) -> T | None:
    # A dot may start a fraction of a second, which round-trips but occurs in no document.
    if len(signed) > MAX_SIZE or b"." in signed:
        return None
    try:
        made = decoder.decode(signed)
    except (ValueError, RecursionError):
        return None
    return made if _write(made) == signed else None
