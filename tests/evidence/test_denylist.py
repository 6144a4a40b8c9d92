"""The dated list of broken product lines: what each entry names, and its fix."""

from __future__ import annotations

import dataclasses
from datetime import date

import pytest

from kluis.evidence import Claims, Platform, VendorClaims, denylist
from kluis.evidence.denylist import Access
from kluis.evidence.model import Tee
from kluis.formats.snp.tcb import TcbVersion
from kluis.frozen import frozen
from tests.evidence.amd.forge import Forge

FORGES = {name: Forge(name) for name in ("Milan", "Genoa", "Turin")}
ALIAS_CHECKED, NOT_CHECKED = 0x25, 0x05


@frozen
class _Composite(VendorClaims):
    hardware: Claims
    tpm: Claims | None


def _snp(product: str, *, snp: int = 24, info: int = ALIAS_CHECKED) -> Claims:
    forge = FORGES[product]
    forge.spls = {**forge.spls, "snp": snp}
    forge.tcb = TcbVersion(fmc=forge.tcb.fmc, boot_loader=4, tee=1, snp=snp, microcode=219)
    vek = forge.make_vek()
    return forge.verify(forge.report(platform_info=info), forge.endorsements(vek=vek))


def _other(tee: Tee, product: str) -> Claims:
    claims = _snp("Turin")
    return dataclasses.replace(
        claims, tee=tee, platform=Platform(id=b"", product=product), vendor=VendorClaims()
    )


def _ids(entries: tuple[denylist.Entry, ...]) -> list[str]:
    return [entry.id for entry in entries]


@pytest.mark.parametrize("snp", [1, 24, 255])
def test_milan_is_refused_whatever_its_tcb(snp: int) -> None:
    """Every Milan chip may sign any TCB: a policy can refuse the product, and no version fixes it."""
    found = denylist.match(_snp("Milan", snp=snp))
    assert _ids(found)[0] == "milan-vcek-seed"
    assert found[0].source == "https://arxiv.org/abs/2605.12990"


@pytest.mark.parametrize(
    ("product", "snp", "info", "ids"),
    [
        ("Milan", 24, ALIAS_CHECKED, ["milan-vcek-seed"]),
        ("Milan", 23, ALIAS_CHECKED, ["milan-vcek-seed", "entrysign"]),
        ("Milan", 24, NOT_CHECKED, ["milan-vcek-seed", "badram"]),
        ("Genoa", 23, ALIAS_CHECKED, []),
        ("Genoa", 22, ALIAS_CHECKED, ["entrysign"]),
        ("Genoa", 22, NOT_CHECKED, ["entrysign", "badram"]),
        ("Turin", 1, ALIAS_CHECKED, []),
        ("Turin", 1, NOT_CHECKED, []),
    ],
)
def test_what_is_mended_is_not_named(product: str, snp: int, info: int, ids: list[str]) -> None:
    """Microcode that anyone can sign is fixed by SNP firmware, lying modules by the check for aliases."""
    assert _ids(denylist.match(_snp(product, snp=snp, info=info))) == ids


@pytest.mark.parametrize(
    ("tee", "product", "ids"),
    [
        (Tee.SGX, "00606A000000", ["wiretap", "battering-ram"]),
        (Tee.SGX, "30606a000000", ["wiretap", "battering-ram"]),
        (Tee.SGX, "00806F050000", ["tee-fail"]),
        (Tee.SGX, "00A067110000", []),
        (Tee.TDX, "B0C06F000000", ["tee-fail-tdx"]),
        (Tee.TDX, "", ["tee-fail-tdx"]),
        (Tee.NVIDIA, "GH100", ["tee-fail-nvidia"]),
        (Tee.NITRO, "Nitro Enclave", []),
    ],
)
def test_buses(tee: Tee, product: str, ids: list[str]) -> None:
    """Attacks on the memory bus are distinguished by generation of memory and by product."""
    claims = _other(tee, product)
    assert _ids(denylist.match_bus(claims)) == ids
    assert denylist.match(claims) == ()


@pytest.mark.parametrize(
    ("product", "ids"),
    [("Milan", ["battering-ram"]), ("Genoa", ["tee-fail-snp"]), ("Turin", ["tee-fail-snp"])],
)
def test_buses_of_amd(product: str, ids: list[str]) -> None:
    """Milan's memory is DDR4, that of its successors DDR5."""
    assert _ids(denylist.match_bus(_snp(product))) == ids


def test_composites() -> None:
    """A composite is as broken as the hardware inside it."""
    inner = _snp("Milan")
    claims = dataclasses.replace(
        inner,
        tee=Tee.AZURE,
        platform=Platform(id=b"", product="Azure"),
        vendor=_Composite(hardware=inner, tpm=None),
    )
    assert _ids(denylist.match(claims)) == ["milan-vcek-seed"]
    assert _ids(denylist.match_bus(claims)) == ["battering-ram"]


def test_every_entry_is_sourced_and_dated() -> None:
    """No entry without a source, a date before the list's own, and a way to live with it."""
    found = denylist.entries()
    assert len({entry.id for entry in found}) == len(found) > 0
    for entry in found:
        assert entry.source.startswith("https://")
        assert date(2020, 1, 1) < entry.published <= denylist.reviewed_on()
        assert entry.tees
        assert all((entry.title, entry.effect, entry.fix))
        assert set(entry.snp) <= set(entry.products)
        if entry.access is Access.BUS:
            assert not entry.snp
            assert not entry.alias_check
