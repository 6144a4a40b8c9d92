"""Find the TCB level that a platform, its TDX module and its quoting enclave have reached.

Spec: Intel PCS API v4, "Get TCB Info", "Enclave Identity"; Intel's quote verification library for modules and
for relaunch. The status and the advisories are reported as published. Appraisal decides whether they are good
enough; a part that reaches no level at all is refused.
"""

from __future__ import annotations

from itertools import islice
from operator import lt
from typing import Final

from kluis.errors import AuthenticityError, UnsupportedError
from kluis.evidence.model import Tcb, TcbStatus
from kluis.formats.sgx.extension import SgxExtension
from kluis.formats.sgx.report import ReportBody
from kluis.formats.sgx.tcb_info import Identity, Module, TcbInfo
from kluis.formats.sgx.tcb_levels import AnyLevel
from kluis.frozen import frozen

_OUT_OF_DATE: Final = {
    TcbStatus.UP_TO_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE,
    TcbStatus.CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
_CONFIGURATION: Final = frozenset(
    {
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
        TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    }
)
# The statuses that Intel publishes for platforms and enclaves; the other members of TcbStatus come from the
# verifier.
_PUBLISHED: Final = frozenset({*_OUT_OF_DATE, *_OUT_OF_DATE.values(), TcbStatus.REVOKED})
_OF_MODULES: Final = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})
_STATUSES: Final = {status.value: status for status in TcbStatus}
_WORST_FIRST: Final = list(TcbStatus)


@frozen
class Judgement:
    """The vendor's judgement of a platform, part by part.

    Attributes:
        tcb: of all parts, converged.
        platform: of only the platform.
        module: of only the TDX module; None for SGX, and for TDX 1.0, where the platform's includes it.
        quoting_enclave: of only the quoting enclave.
    """

    tcb: Tcb
    platform: TcbStatus
    module: TcbStatus | None
    quoting_enclave: TcbStatus


def check_statuses(info: TcbInfo, identity: Identity) -> None:
    """Refuse documents with a status that this verifier does not support.

    Raises:
        UnsupportedError: with the status.
    """
    for what, levels, known in (
        ("TCB info", info.levels, _PUBLISHED),
        ("QE identity", identity.levels, _PUBLISHED),
        *((f"TCB info: module {module.id!a}", module.levels, _OF_MODULES) for module in info.modules),
    ):
        for level in levels:
            if level.status not in known:
                raise UnsupportedError(f"{what}: status {level.status!a} is not known", code="bad_type")


def check_platform(info: TcbInfo, sgx: SgxExtension, tee: str) -> None:
    """Step 9: the TCB info is for this TEE, and for this kind of platform.

    Raises:
        AuthenticityError: it is for another.
    """
    for name, want, got in (
        ("id", tee, info.tee),
        ("fmspc", sgx.fmspc, info.fmspc),
        ("pceId", sgx.pceid, info.pceid),
    ):
        if want != got:
            raise AuthenticityError(
                f"TCB info.{name}: want {_format_value(want)}, got {_format_value(got)}",
                code="tcb_info_mismatch",
            )


def check_quoting_enclave(identity: Identity, qe: ReportBody, name: str) -> None:
    """Step 9: the quote comes from the vendor's quoting enclave, not from another enclave of that kind.

    Args:
        identity: verified.
        qe: the quoting enclave's verified report.
        name: ``QE``, or ``TD_QE`` for TDX.

    Raises:
        AuthenticityError: it does not.
    """
    attributes = qe.flags | qe.xfrm << 64
    checks: tuple[tuple[str, str | bytes | int, str | bytes | int], ...] = (
        ("id", name, identity.id),
        ("mrsigner", identity.mrsigner, qe.mrsigner),
        ("isvprodid", identity.isvprodid, qe.isvprodid),
        ("miscselect", identity.miscselect, qe.miscselect & identity.miscselect_mask),
        ("attributes", hex(identity.attributes), hex(attributes & identity.attributes_mask)),
    )
    for what, want, got in checks:
        if want != got:
            raise AuthenticityError(
                f"QE identity.{what}: want {_format_value(want)}, got {_format_value(got)}",
                code="qe_identity_mismatch",
            )


def evaluate(
    info: TcbInfo, identity: Identity, sgx: SgxExtension, qe: ReportBody, tee_tcb_svn: bytes = b""
) -> Judgement:
    """Find the levels of the platform, of its TDX module, of its quoting enclave, and of all together.

    Args:
        info: verified; for this kind of platform.
        identity: verified; of this quoting enclave.
        sgx: from a verified PCK certificate.
        qe: the quoting enclave's verified report.
        tee_tcb_svn: 16 bytes of a trust domain's report; empty for SGX.

    Returns:
        Statuses as published.

    Raises:
        AuthenticityError: a part reaches none of the vendor's levels.

    Spec: Intel PCS API v4, "Get TCB Info", TCB level selection, steps 1 to 3. From TDX 1.5 on, the
    first two components are the module's minor SVN and major version, and its own levels judge them.
    """
    version = tee_tcb_svn[1] if tee_tcb_svn else 0
    skipped = 2 if version else 0
    platform = _find_level(
        info.levels, (*sgx.components, sgx.pcesvn), "platform", tdx=tee_tcb_svn[skipped:], skipped=skipped
    )
    parts = [platform]
    if version:
        parts.append(_find_level(module_of(info, version).levels, (tee_tcb_svn[0],), "TDX module"))
    parts.append(_find_level(identity.levels, (qe.isvsvn,), "quoting enclave"))
    statuses = [_STATUSES[part.status] for part in parts]
    status = statuses[0]
    for each in statuses[1:]:
        if each is not TcbStatus.UP_TO_DATE:
            status = converge(status, each)
    return Judgement(
        tcb=Tcb(
            status=status,
            date=min([part.date for part in parts]),
            advisories=tuple(sorted({name for part in parts for name in part.advisories})),
            evaluation=min(info.evaluation, identity.evaluation),
        ),
        platform=statuses[0],
        module=statuses[1] if version else None,
        quoting_enclave=statuses[-1],
    )


def module_of(info: TcbInfo, version: int) -> Module:
    """The requirements for the TDX module of this major version. Another version's are never used instead.

    Raises:
        AuthenticityError: the TCB info does not contain it.
    """
    if version == 0 and info.module is not None:
        return info.module
    name = f"TDX_{version:02X}"
    for module in info.modules:
        if module.id.upper() == name:
            return module
    known = [module.id for module in info.modules]
    raise AuthenticityError(f"TDX module: want one of {known}, got {name}", code="tdx_module")


def converge(status: TcbStatus, part: TcbStatus) -> TcbStatus:
    """The converged status: a part can only make the platform's status worse."""
    for worst in (TcbStatus.NOT_SUPPORTED, TcbStatus.REVOKED):
        if worst in (status, part):
            return worst
    if part is TcbStatus.UP_TO_DATE:
        return status
    if part is TcbStatus.OUT_OF_DATE:
        return _OUT_OF_DATE.get(status, status)
    # No quoting enclave has had another status so far; the worse of both is never too good.
    return min(status, part, key=_WORST_FIRST.index)


def combine_launch(launch: TcbStatus, current: TcbStatus) -> TcbStatus:
    """The status of a trust domain that one module launched and another module runs.

    Intel's library ignores a module that is worse than the one at launch; here the worse one counts.

    Args:
        launch: of the module at its launch.
        current: of the module that runs now.
    """
    outdated = (TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED)
    if launch not in outdated or current not in _OUT_OF_DATE:
        return min(launch, current, key=_WORST_FIRST.index)
    if launch in _CONFIGURATION or current in _CONFIGURATION:
        return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return TcbStatus.TD_RELAUNCH_ADVISED


def of_both(launch: Tcb, current: Tcb) -> Tcb:
    """The judgement of a trust domain that one module launched and another module runs.

    Args:
        launch: of the module at its launch.
        current: of the module that runs now, by the same documents.
    """
    dates = [each.date for each in (launch, current) if each.date is not None]
    return Tcb(
        status=combine_launch(launch.status, current.status),
        date=min(dates, default=None),
        advisories=tuple(sorted({*launch.advisories, *current.advisories})),
        evaluation=launch.evaluation,
    )


def _find_level(
    levels: tuple[AnyLevel, ...], svns: tuple[int, ...], what: str, *, tdx: bytes = b"", skipped: int = 0
) -> AnyLevel:
    for level in levels:
        tcb = level.tcb
        if not any(map(lt, svns, tcb.svns)) and not any(map(lt, tdx, islice(tcb.tdx, skipped, None))):
            return level
    raise AuthenticityError(
        f"{what}: is NotSupported: it reaches none of the {len(levels)} TCB levels that its vendor lists",
        hint="the platform, or its TCB info, is older than anything its vendor supports",
        code="tcb_not_supported",
    )


def _format_value(value: str | bytes | int) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
