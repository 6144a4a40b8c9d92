"""TCB evaluation: which level a platform and its quoting enclave have reached. Steps 9 and 10.

Spec: Intel PCS API v4, "Get TCB Info", "Enclave Identity"; the status and the advisories are told
as published. Whether they are good enough is appraisal's question.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime

from kluis.errors import AuthenticityError, UnsupportedError
from kluis.evidence.model import Tcb, TcbStatus
from kluis.formats.sgx.extension import SgxExtension
from kluis.formats.sgx.report import ReportBody
from kluis.formats.sgx.tcb_info import Identity, Level, TcbInfo

_OUT_OF_DATE = {
    TcbStatus.UP_TO_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE,
    TcbStatus.CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}

# What Intel publishes; the other members of TcbStatus are a verifier's own.
_PUBLISHED = frozenset({*_OUT_OF_DATE, *_OUT_OF_DATE.values(), TcbStatus.REVOKED})


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """The maker's judgement of a platform and its quoting enclave.

    Attributes:
        tcb: of both, converged.
        platform: of the platform alone.
        quoting_enclave: of the quoting enclave alone.
    """

    tcb: Tcb
    platform: TcbStatus
    quoting_enclave: TcbStatus


def check_statuses(levels: tuple[Level, ...], what: str) -> None:
    """Refuse a document with a status that this verifier does not know.

    Raises:
        UnsupportedError: naming it.
    """
    known = _PUBLISHED
    for level in levels:
        if level.status not in known:
            raise UnsupportedError(f"{what}: status {level.status!a} is not known", code="bad_type")


def check_platform(info: TcbInfo, sgx: SgxExtension) -> None:
    """Step 9: the TCB info is for SGX, and for this kind of platform.

    Raises:
        AuthenticityError: it is for another.
    """
    for name, want, got in (
        ("id", "SGX", info.tee),
        ("fmspc", sgx.fmspc.hex(), info.fmspc.hex()),
        ("pceId", sgx.pceid.hex(), info.pceid.hex()),
    ):
        if want != got:
            raise AuthenticityError(f"TCB info.{name}: want {want}, got {got}", code="tcb_info_mismatch")


def check_quoting_enclave(identity: Identity, qe: ReportBody) -> None:
    """Step 9: the enclave that quoted is the maker's quoting enclave, and not any other of its kind.

    Raises:
        AuthenticityError: it is not.
    """
    attributes = qe.flags | qe.xfrm << 64
    for name, want, got in (
        ("id", "QE", identity.id),
        ("mrsigner", identity.mrsigner.hex(), qe.mrsigner.hex()),
        ("isvprodid", identity.isvprodid, qe.isvprodid),
        ("miscselect", identity.miscselect, qe.miscselect & identity.miscselect_mask),
        ("attributes", hex(identity.attributes), hex(attributes & identity.attributes_mask)),
    ):
        if want != got:
            raise AuthenticityError(
                f"QE identity.{name}: want {want}, got {got}", code="qe_identity_mismatch"
            )


def evaluate(info: TcbInfo, identity: Identity, sgx: SgxExtension, qe: ReportBody) -> Judgement:
    """Step 10: the level of the platform, of its quoting enclave, and of both.

    Args:
        info: verified; for this kind of platform.
        identity: verified; of this quoting enclave.
        sgx: from a verified PCK certificate.
        qe: the quoting enclave's verified report.

    Returns:
        Statuses as published; ``NotSupported`` where no level is reached.

    Spec: Intel PCS API v4, "Get TCB Info", TCB level selection, steps 1 to 3.
    """
    platform = _first_reached(info.levels, (*sgx.components, sgx.pcesvn))
    quoting = _first_reached(identity.levels, (qe.isvsvn,))
    platform_status, quoting_status = _status(platform), _status(quoting)
    reached = [level for level in (platform, quoting) if level is not None]
    both = Tcb(
        status=converge(platform_status, quoting_status),
        date=_oldest(reached) if len(reached) == 2 else None,
        advisories=tuple(sorted({name for level in reached for name in level.advisories})),
        evaluation=min(info.evaluation, identity.evaluation),
    )
    return Judgement(both, platform_status, quoting_status)


def converge(platform: TcbStatus, quoting: TcbStatus) -> TcbStatus:
    """The status of both: the quoting enclave's can only make the platform's worse."""
    if TcbStatus.NOT_SUPPORTED in (platform, quoting):
        return TcbStatus.NOT_SUPPORTED
    if TcbStatus.REVOKED in (platform, quoting):
        return TcbStatus.REVOKED
    if quoting is TcbStatus.UP_TO_DATE:
        return platform
    if quoting is TcbStatus.OUT_OF_DATE:
        return _OUT_OF_DATE.get(platform, platform)
    # No quoting enclave has ever had another status; the worse of both is never too good.
    return min(platform, quoting, key=list(TcbStatus).index)


def _first_reached(levels: tuple[Level, ...], svns: tuple[int, ...]) -> Level | None:
    for level in levels:
        if all(have >= need for have, need in zip(svns, level.svns, strict=True)):
            return level
    return None


def _status(level: Level | None) -> TcbStatus:
    return TcbStatus.NOT_SUPPORTED if level is None else TcbStatus(level.status)


def _oldest(levels: list[Level]) -> datetime:
    return min(level.date for level in levels)
