"""TCB evaluation: first level reached, and the worse of platform and quoting enclave."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from kluis.errors import AuthenticityError
from kluis.evidence import TcbStatus, TdxClaims
from kluis.evidence.intel import tcb
from kluis.evidence.model import Tcb
from kluis.formats.sgx import quote as dcap_quote
from tests.evidence.intel.forge import TdxForge

S = TcbStatus

CONVERGED = {
    (S.UP_TO_DATE, S.UP_TO_DATE): S.UP_TO_DATE,
    (S.SW_HARDENING_NEEDED, S.UP_TO_DATE): S.SW_HARDENING_NEEDED,
    (S.UP_TO_DATE, S.OUT_OF_DATE): S.OUT_OF_DATE,
    (S.SW_HARDENING_NEEDED, S.OUT_OF_DATE): S.OUT_OF_DATE,
    (S.CONFIGURATION_NEEDED, S.OUT_OF_DATE): S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    (S.CONFIGURATION_AND_SW_HARDENING_NEEDED, S.OUT_OF_DATE): S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    (S.OUT_OF_DATE_CONFIGURATION_NEEDED, S.OUT_OF_DATE): S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    (S.OUT_OF_DATE, S.OUT_OF_DATE): S.OUT_OF_DATE,
    (S.UP_TO_DATE, S.REVOKED): S.REVOKED,
    (S.REVOKED, S.UP_TO_DATE): S.REVOKED,
    (S.REVOKED, S.NOT_SUPPORTED): S.NOT_SUPPORTED,
    (S.UP_TO_DATE, S.NOT_SUPPORTED): S.NOT_SUPPORTED,
    (S.NOT_SUPPORTED, S.UP_TO_DATE): S.NOT_SUPPORTED,
    (S.UP_TO_DATE, S.SW_HARDENING_NEEDED): S.SW_HARDENING_NEEDED,
    (S.OUT_OF_DATE, S.CONFIGURATION_NEEDED): S.OUT_OF_DATE,
}


@pytest.mark.parametrize("both", CONVERGED, ids=lambda both: f"{both[0]}+{both[1]}")
def test_converge(both: tuple[TcbStatus, TcbStatus]) -> None:
    """The status of both is as Intel's verifier converges them."""
    assert tcb.converge(*both) is CONVERGED[both]


@pytest.mark.parametrize("platform", TcbStatus)
@pytest.mark.parametrize("quoting", TcbStatus)
def test_converging_never_improves(platform: TcbStatus, quoting: TcbStatus) -> None:
    """Whatever both are, the result is no better than the platform's."""
    order = list(TcbStatus)
    assert order.index(tcb.converge(platform, quoting)) <= order.index(platform)


def test_worst_first() -> None:
    """The enum starts at its worst member and ends at its best."""
    assert next(iter(TcbStatus)) is S.NOT_SUPPORTED
    assert list(TcbStatus)[-1] is S.UP_TO_DATE


NEEDY = {
    S.CONFIGURATION_NEEDED,
    S.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    S.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
RUNS_WELL = {
    S.UP_TO_DATE,
    S.SW_HARDENING_NEEDED,
    S.CONFIGURATION_NEEDED,
    S.CONFIGURATION_AND_SW_HARDENING_NEEDED,
}


@pytest.mark.parametrize("launch", TcbStatus)
@pytest.mark.parametrize("current", TcbStatus)
def test_relaunched(launch: TcbStatus, current: TcbStatus) -> None:
    """Launched out of date, on a module that is not: relaunch is advised; else the worse status holds."""
    want = min(launch, current, key=list(TcbStatus).index)
    if launch in (S.OUT_OF_DATE, S.OUT_OF_DATE_CONFIGURATION_NEEDED) and current in RUNS_WELL:
        needy = launch in NEEDY or current in NEEDY
        want = S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED if needy else S.TD_RELAUNCH_ADVISED
    assert tcb.combine_launch(launch, current) is want


def test_of_both_without_a_date() -> None:
    """A level without a date has none; of two, the date is that of the other."""
    day = datetime(2024, 1, 1, tzinfo=UTC)
    dated = Tcb(status=S.UP_TO_DATE, date=day, advisories=("KLUIS-1",), evaluation=20)
    bare = dataclasses.replace(dated, date=None)
    for launch, current, want in ((dated, bare, dated), (bare, dated, dated), (bare, bare, bare)):
        assert tcb.of_both(launch, current) == want


def _verified(forge: TdxForge, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> TdxClaims:
    good = forge.collateral()
    info, identity = json.loads(good.tcb_info), json.loads(good.qe_identity)
    change(info, identity)
    parts = {**forge.signed("tcb_info", info), **forge.signed("qe_identity", identity)}
    claims = forge.verify(collateral=forge.collateral(**parts))
    assert isinstance(claims.vendor, TdxClaims)
    assert claims.vendor.launch == claims.tcb
    return claims.vendor


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_the_judgement_of_each_part(order: tuple[int, int, int], tdx_forge: TdxForge) -> None:
    """Each part has its own status; the whole has the oldest date, every advisory, the lower evaluation."""

    def change(info: dict[str, Any], identity: dict[str, Any]) -> None:
        module = info["tdxModuleIdentities"][0]
        parts = (info["tcbLevels"][0], module["tcbLevels"][0], identity["tcbLevels"][0])
        statuses = ("ConfigurationNeeded", "OutOfDate", "SWHardeningNeeded")
        for part, status, day in zip(parts, statuses, order, strict=True):
            names = [f"KLUIS-{day}{letter}" for letter in "CABFED"]
            part.update(tcbStatus=status, tcbDate=f"2024-01-0{day}T00:00:00Z", advisoryIDs=names)
        info["tcbEvaluationDataNumber"], identity["tcbEvaluationDataNumber"] = order[0] + 20, order[1] + 20

    vendor = _verified(tdx_forge, change)
    assert (vendor.platform, vendor.module, vendor.quoting_enclave) == (
        S.CONFIGURATION_NEEDED,
        S.OUT_OF_DATE,
        S.SW_HARDENING_NEEDED,
    )
    assert vendor.launch.date == datetime(2024, 1, 1, tzinfo=UTC)
    assert vendor.launch.advisories == tuple(
        f"KLUIS-{day}{letter}" for day in (1, 2, 3) for letter in "ABCDEF"
    )
    assert vendor.launch.evaluation == min(order[:2]) + 20


@pytest.mark.parametrize("part", [0, 1])
def test_revoked_is_told(part: int, tdx_forge: TdxForge) -> None:
    """A level that its vendor revoked is reported as that, for a platform and for a module."""

    def change(info: dict[str, Any], identity: dict[str, Any]) -> None:
        (info, info["tdxModuleIdentities"][0])[part]["tcbLevels"][0].update(tcbStatus="Revoked")

    assert _verified(tdx_forge, change).launch.status is S.REVOKED


def test_the_first_component_of_tdx_1_0_is_the_platforms(tdx_forge: TdxForge) -> None:
    """Before TDX 1.5 the first component is compared, by itself too."""
    first = tdx_forge.quote(tdx_forge.td(tee_tcb_svn=bytes((5, 0, 2, *bytes(13)))))
    newer = tdx_forge.with_tcb_info(lambda d: d["tcbLevels"][0]["tcb"]["tdxtcbcomponents"][0].update(svn=6))
    with pytest.raises(AuthenticityError) as caught:
        tdx_forge.verify(first, newer)
    assert caught.value.code == "tcb_not_supported"


@pytest.mark.parametrize(
    ("kind", "index"),
    [*(("sgxtcbcomponents", index) for index in range(16)), *(("tdxtcbcomponents", i) for i in range(2, 16))],
)
def test_every_component_is_compared(kind: str, index: int, tdx_forge: TdxForge) -> None:
    """A level that wants more of any one component, and no more of any other, is not reached."""
    newer = tdx_forge.with_tcb_info(lambda d: d["tcbLevels"][0]["tcb"][kind][index].update(svn=255))
    with pytest.raises(AuthenticityError) as caught:
        tdx_forge.verify(collateral=newer)
    assert (caught.value.code, str(caught.value).partition(":")[0]) == ("tcb_not_supported", "platform")


def test_a_later_module_is_another(tdx_forge: TdxForge) -> None:
    """A module is that of its version, and no later one; without any, none is known."""
    info = tdx_forge.held().tcb_info
    (module,) = info.modules
    later = dataclasses.replace(info, module=None, modules=(dataclasses.replace(module, id="TDX_03"),))
    for version in (0, 1):
        with pytest.raises(AuthenticityError) as caught:
            tcb.module_of(later, version)
        assert caught.value.code == "tdx_module"


def test_masks_of_the_quoting_enclaves_identity(tdx_forge: TdxForge) -> None:
    """What the masks cover is compared, extended features too; what they leave out is not."""
    qe = dcap_quote.parse(tdx_forge.quote()).qe_report
    whole = (qe.flags.to_bytes(8, "little") + qe.xfrm.to_bytes(8, "little")).hex()
    every = tdx_forge.with_identity(lambda d: d.update(attributes=whole, attributesMask="FF" * 16))
    tdx_forge.verify(collateral=every)
    for xfrm in (qe.xfrm ^ 1, qe.xfrm ^ 1 << 63):
        with pytest.raises(AuthenticityError) as caught:
            tdx_forge.verify(tdx_forge.with_qe(xfrm=xfrm), every)
        assert caught.value.code == "qe_identity_mismatch"
    loose = tdx_forge.with_identity(lambda d: d.update(miscselectMask="FEFFFFFF"))
    tdx_forge.verify(tdx_forge.with_qe(miscselect=1), loose)
