"""Verification of TDX quotes: each numbered step refuses the case that breaks only that step."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given

from kluis.errors import AuthenticityError, KluisError, UnsupportedError
from kluis.evidence import Collateral, ProtectionLevel, TcbStatus, TdxClaims, Tee, TrustAnchors, verify
from kluis.evidence.anchors import Anchor
from kluis.evidence.context import Context
from kluis.evidence.intel import sgx, tdx
from kluis.formats.tdx.report import Attribute, TdReport, TdReport15, TdReport15Ex
from kluis.hashes import Digest
from tests.evidence.forge import NOW
from tests.evidence.intel.forge import MRTD, REPORT_DATA, TEE_TCB_SVN, TdxForge
from tests.evidence.intel.steps import STEPS, Case, said
from tests.strategies import PROPERTY, mutations


def _module(change: Callable[[dict[str, Any]], object]) -> Callable[[TdxForge], dict[str, object]]:
    return lambda f: {"collateral": f.with_tcb_info(lambda d: change(d["tdxModuleIdentities"][0]))}


def _td(**changes: Any) -> Callable[[TdxForge], dict[str, object]]:
    return lambda f: {"quote": f.quote(f.td(**changes))}


def _svn(*first: int) -> bytes:
    return bytes((*first, *bytes(16 - len(first))))


OWN: dict[str, Case] = {
    "10 a module of another signer": Case(
        _td(mrsignerseam=b"\1" * 48),
        AuthenticityError,
        "tdx_module",
        f"TDX module.mrsignerseam: want {'00' * 48}, got {'01' * 48}",
    ),
    "10 a module with attributes": Case(
        _td(seam_attributes=1),
        AuthenticityError,
        "tdx_module",
        f"TDX module.seam_attributes: want {'00' * 8}, got 01{'00' * 7}",
    ),
    "10 a module of Intel's where the TCB info wants another's": Case(
        _module(lambda m: m.update(mrsigner="01" * 48)),
        AuthenticityError,
        "tdx_module",
        f"TDX module.mrsignerseam: want {'01' * 48}, got {'00' * 48}",
    ),
    "10 a module without attributes where the TCB info wants some": Case(
        _module(lambda m: m.update(attributes="01" + "00" * 7)),
        AuthenticityError,
        "tdx_module",
        f"TDX module.seam_attributes: want 01{'00' * 7}, got {'00' * 8}",
    ),
    "10 attributes that the TCB info allows, and nobody may": Case(
        lambda f: {
            **_td(seam_attributes=1)(f),
            **_module(lambda m: m.update(attributes="01" + "00" * 7))(f),
        },
        AuthenticityError,
        "tdx_module",
        f"TDX module.seam_attributes: want {'00' * 8}, got 01{'00' * 7}",
    ),
    "10 a module of a version that the TCB info does not know": Case(
        _td(tee_tcb_svn=_svn(5, 3, 2)),
        AuthenticityError,
        "tdx_module",
        "TDX module: want one of ['TDX_01'], got TDX_03",
    ),
    "11 a module older than any level": Case(
        _td(tee_tcb_svn=_svn(1, 1, 2)),
        AuthenticityError,
        "tcb_not_supported",
        "TDX module: is NotSupported: it reaches none of the 2 TCB levels that its vendor lists",
    ),
    "11 a platform older than any level": Case(
        _td(tee_tcb_svn=_svn(5, 1, 1)),
        AuthenticityError,
        "tcb_not_supported",
        "platform: is NotSupported: it reaches none of the 1 TCB levels that its vendor lists",
    ),
    "11 a module that runs now and is older than any level": Case(
        lambda f: {"quote": f.quote(f.td(TdReport15, tee_tcb_svn_2=_svn(1, 1, 2)))},
        AuthenticityError,
        "tcb_not_supported",
        "TDX module: is NotSupported: it reaches none of the 2 TCB levels that its vendor lists",
    ),
}
ALL = {**STEPS, **OWN}


@pytest.mark.parametrize("name", ALL)
def test_step(name: str, tdx_forge: TdxForge) -> None:
    """Each step refuses the evidence in which only it fails, and names the step and the reason."""
    case = ALL[name]
    with pytest.raises(KluisError) as caught:
        tdx_forge.verify(**case.make(tdx_forge))
    assert (type(caught.value), caught.value.code, str(caught.value)) == (
        case.error,
        case.code,
        said(case, tdx_forge),
    )


def test_every_step_has_a_case() -> None:
    """Steps 1 to 11 of the docstring each have a forged case."""
    assert {int(name.split()[0]) for name in ALL} == set(range(1, 12))
    lines = [line.strip() for line in (tdx.verify.__doc__ or "").splitlines()]
    assert all(any(line.startswith(f"{number}. ") for line in lines) for number in range(1, 12))


def test_claims(tdx_forge: TdxForge) -> None:
    """A good quote's claims have its values, at the level of its anchor."""
    claims = tdx_forge.verify()
    assert (claims.kind, claims.tee, claims.level) == ("TDX quote v4", Tee.TDX, ProtectionLevel.PROCESS)
    assert claims.measurement == Digest("sha384", MRTD)
    assert (claims.signer, claims.product_id, claims.svn) == (None, None, None)
    assert (claims.config_id, claims.family_id, claims.nonce) == (None, None, None)
    assert claims.registers == {f"rtmr{i}": Digest("sha384", bytes([i + 1]) * 48) for i in range(4)}
    assert (claims.report_data, claims.debug) == (REPORT_DATA, False)
    assert (claims.tcb.status, claims.tcb.evaluation) == (TcbStatus.UP_TO_DATE, 1)
    vendor = claims.vendor
    assert isinstance(vendor, TdxClaims)
    assert vendor.mrconfigid == b"\1" * 48
    assert (vendor.tee_tcb_svn, vendor.tee_tcb_svn_2, vendor.mrservicetd) == (TEE_TCB_SVN, None, None)
    assert (vendor.module, vendor.current, vendor.migration) == (TcbStatus.UP_TO_DATE, None, None)
    assert vendor.launch == claims.tcb
    assert claims.platform.product == "E0E0E0000000"
    assert vendor.ppid == tdx_forge.platform.ppid == claims.platform.id
    assert vendor.pck_ca == "Kluis emulated SGX PCK Platform CA (no hardware)"
    assert (claims.anchor, claims.verified_at) == (tdx_forge.held().anchor.name, NOW)
    issued, end = NOW - timedelta(minutes=5), NOW + timedelta(days=30, minutes=-5)
    assert (claims.collateral_issued, claims.valid_until) == (issued, end)


FLAGS = {
    "sept_ve_disable": Attribute.SEPT_VE_DISABLE,
    "migratable": Attribute.MIGRATABLE,
    "pks": Attribute.PKS,
    "kl": Attribute.KL,
    "lass": Attribute.LASS,
    "perfmon": Attribute.PERFMON,
}


@pytest.mark.parametrize("name", FLAGS)
def test_attributes_are_told_one_by_one(name: str, tdx_forge: TdxForge) -> None:
    """Each attribute is a claim; none of them makes a domain a debug one, or the evidence a forgery."""
    claims = tdx_forge.verify(tdx_forge.quote(tdx_forge.td(td_attributes=int(FLAGS[name]))))
    assert [flag for flag in FLAGS if getattr(claims.vendor, flag)] == [name]
    assert claims.debug is False


@pytest.mark.parametrize("bit", range(8))
def test_any_bit_under_debug_is_debug(bit: int, tdx_forge: TdxForge) -> None:
    """Any bit of the lowest byte, not only the first, opens a domain to its host: its level is ``none``."""
    claims = tdx_forge.verify(tdx_forge.quote(tdx_forge.td(td_attributes=1 << bit)))
    assert (claims.debug, claims.level) == (True, ProtectionLevel.NONE)


def test_reports_of_1_5(tdx_forge: TdxForge) -> None:
    """A report of TDX 1.5 has the current module, and the service domain that is bound to it."""
    claims = tdx_forge.verify(tdx_forge.quote(tdx_forge.td(TdReport15, mrservicetd=b"\7" * 48)))
    vendor = claims.vendor
    assert isinstance(vendor, TdxClaims)
    assert claims.kind == "TDX quote v5"
    assert (vendor.tee_tcb_svn_2, vendor.mrservicetd) == (TEE_TCB_SVN, b"\7" * 48)
    assert vendor.current == vendor.launch == claims.tcb
    assert vendor.migration is None


def test_reports_of_1_5_ex(tdx_forge: TdxForge) -> None:
    """A report of TDX 1.5-Ex has the domain's initial state."""
    claims = tdx_forge.verify(tdx_forge.quote(tdx_forge.td(TdReport15Ex)))
    vendor = claims.vendor
    assert isinstance(vendor, TdxClaims)
    assert vendor.migration == tdx.Migration(
        vmid=7,
        td_id=bytes(range(32)),
        dev_info=b"\2" * 48,
        init_servtd_hash=b"\3" * 48,
        init_servtd_attributes=4,
        init_cpusvn=b"\5" * 16,
        init_tee_tcb_svn=b"\6" * 16,
        init_fmspc=b"\7" * 12,
        servtd_hash=b"\x08" * 48,
        servtd_attributes=9,
    )


def test_a_report_of_1_0_in_a_quote_of_version_5(tdx_forge: TdxForge) -> None:
    """Version 5 can hold every body that version 4 can."""
    assert tdx_forge.verify(tdx_forge.quote_of(tdx_forge.td(), 5)).kind == "TDX quote v5"


@pytest.mark.parametrize("version", [3, 4, 5])
def test_enclaves_in_quotes_of_every_version(version: int, forge: Any) -> None:
    """An SGX enclave may be quoted in each version, with the same claims."""
    claims = forge.verify(forge.quote_of(forge.body(), version))
    assert claims.kind == f"SGX quote v{version}"
    assert claims.measurement == forge.verify().measurement


def test_step_11_launch_and_now(tdx_forge: TdxForge) -> None:
    """For a domain launched by an old module that now runs on a new one, relaunch is advised.

    One that was launched by a new module and runs on an old one is as old as that.
    """
    old, new = _svn(2, 1, 2), TEE_TCB_SVN

    def judged(launch: bytes, now: bytes, collateral: Collateral | None = None) -> TdxClaims:
        body = tdx_forge.td(TdReport15, tee_tcb_svn=launch, tee_tcb_svn_2=now)
        claims = tdx_forge.verify(tdx_forge.quote(body), collateral)
        assert isinstance(claims.vendor, TdxClaims)
        assert claims.vendor.current is not None
        assert claims.tcb.advisories == (("KLUIS-MODULE",) if old in (launch, now) else ())
        assert claims.tcb.date == min(each.date for each in (claims.vendor.launch, claims.vendor.current))
        assert claims.tcb.evaluation == 1
        seen.append(claims.tcb.status)
        return claims.vendor

    seen: list[TcbStatus] = []
    vendor = judged(old, new)
    assert vendor.current is not None
    assert (vendor.launch.status, vendor.current.status) == (TcbStatus.OUT_OF_DATE, TcbStatus.UP_TO_DATE)
    assert vendor.launch.advisories == ("KLUIS-MODULE",)
    judged(old, old)
    judged(new, old)
    needy = tdx_forge.with_tcb_info(lambda d: d["tcbLevels"][0].update(tcbStatus="ConfigurationNeeded"))
    judged(old, new, needy)
    assert seen == [
        TcbStatus.TD_RELAUNCH_ADVISED,
        TcbStatus.OUT_OF_DATE,
        TcbStatus.OUT_OF_DATE,
        TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
    ]


def test_step_11_components_of_the_module_are_not_the_platforms(tdx_forge: TdxForge) -> None:
    """From TDX 1.5 on, the first two components are the module's, and levels of the platform skip them."""

    def raise_first(document: dict[str, Any]) -> None:
        components = document["tcbLevels"][0]["tcb"]["tdxtcbcomponents"]
        components[0]["svn"] = components[1]["svn"] = 200

    assert tdx_forge.verify(collateral=tdx_forge.with_tcb_info(raise_first)).tcb.status == "UpToDate"
    first = tdx_forge.quote(tdx_forge.td(tee_tcb_svn=_svn(5, 0, 2)))
    claims = tdx_forge.verify(first)
    assert isinstance(claims.vendor, TdxClaims)
    assert claims.vendor.module is None
    with pytest.raises(AuthenticityError) as caught:
        tdx_forge.verify(first, tdx_forge.with_tcb_info(raise_first))
    assert caught.value.code == "tcb_not_supported"


def test_module_names_in_either_case(tdx_forge: TdxForge) -> None:
    """A module is found by its version's hexadecimal in either case."""
    lower = tdx_forge.with_tcb_info(lambda d: d["tdxModuleIdentities"][0].update(id="tdx_1a"))
    body = tdx_forge.td(tee_tcb_svn=_svn(5, 0x1A, 2))
    assert tdx_forge.verify(tdx_forge.quote(body), lower).tcb.status == "UpToDate"


def test_a_status_that_modules_do_not_have(tdx_forge: TdxForge) -> None:
    """A module's level of a status that is no module's refuses the document."""
    odd = tdx_forge.with_tcb_info(
        lambda d: d["tdxModuleIdentities"][0]["tcbLevels"][0].update(tcbStatus="SWHardeningNeeded")
    )
    with pytest.raises(UnsupportedError) as caught:
        tdx_forge.verify(collateral=odd)
    assert str(caught.value) == "TCB info: module 'TDX_01': status 'SWHardeningNeeded' is not known"


def test_tcb_info_of_version_2_is_of_sgx(tdx_forge: TdxForge) -> None:
    """TDX needs a TCB info of version 3."""
    info = json.loads(tdx_forge.collateral().tcb_info)
    for name in ("id", "tdxModule", "tdxModuleIdentities"):
        del info[name]
    components = {f"sgxtcbcomp{i:02}svn": 1 for i in range(1, 17)}
    for level in info["tcbLevels"]:
        level["tcb"] = components | {"pcesvn": 1}
    old = tdx_forge.collateral(**tdx_forge.signed("tcb_info", info | {"version": 2}))
    with pytest.raises(AuthenticityError) as caught:
        tdx_forge.verify(collateral=old)
    assert str(caught.value) == "TCB info.id: want TDX, got SGX"


def test_each_verifier_takes_its_own(tdx_forge: TdxForge, forge: Any) -> None:
    """A quote of one TEE given to the verifier of the other is refused as what it is."""
    with pytest.raises(UnsupportedError) as caught:
        sgx.verify(
            tdx_forge.quote(), context=Context(tdx_forge.anchors), collateral=tdx_forge.held(), now=NOW
        )
    assert (caught.value.code, str(caught.value)) == ("bad_type", "TDX quote v4: want a quote of SGX")
    with pytest.raises(UnsupportedError) as caught:
        tdx.verify(forge.quote(), context=Context(forge.anchors), collateral=forge.held(), now=NOW)
    assert (caught.value.code, str(caught.value)) == ("bad_type", "SGX quote v3: want a quote of TDX")


LEVELS = {
    ProtectionLevel.HARDWARE_SGX: ProtectionLevel.HARDWARE_TDX,
    ProtectionLevel.HARDWARE_TDX: ProtectionLevel.HARDWARE_TDX,
    ProtectionLevel.HARDWARE_SNP: ProtectionLevel.HARDWARE_SNP,
    ProtectionLevel.NONE: ProtectionLevel.NONE,
}


@pytest.mark.parametrize("level", LEVELS)
def test_level_follows_from_anchor_and_tee(level: ProtectionLevel, tdx_forge: TdxForge) -> None:
    """Intel's one root is of both TEEs; any other level stays what the relying party said it is."""
    (given,) = tdx_forge.anchors
    anchors = TrustAnchors((Anchor(name="it", vendor=given.vendor, spki=given.spki, level=level),))
    claims = verify(tdx_forge.quote(), anchors=anchors, collateral=tdx_forge.collateral(), now=NOW).value
    assert claims.level is LEVELS[level]


MUTANT = TdxForge()
GOOD = MUTANT.quote()
GOOD_15 = MUTANT.quote(MUTANT.td(TdReport15))
HELD = MUTANT.held()


@PROPERTY
@given(mutations(GOOD, GOOD_15))
def test_no_mutated_quote_is_verified(data: bytes) -> None:
    """For any change of a quote, only our errors come out; if it verifies, the claims are the same as
    before.
    """
    try:
        claims = verify(data, anchors=MUTANT.anchors, collateral=HELD, now=NOW).value
    except KluisError:
        return
    good = GOOD if claims.kind == "TDX quote v4" else GOOD_15
    assert claims == MUTANT.verify(good)


def test_all_kinds_of_reports_are_reports() -> None:
    """A later report has everything that an earlier one has."""
    assert issubclass(TdReport15Ex, TdReport15)
    assert issubclass(TdReport15, TdReport)
