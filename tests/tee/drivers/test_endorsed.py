"""What a driver gives is an endorsement that the verifier accepts, bound to the platform's root."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest

from kluis.errors import KluisError
from kluis.evidence import ProtectionLevel, TrustAnchors, endorsements
from kluis.evidence.context import Context
from kluis.formats.hcl.report import ReportType
from kluis.formats.kluis import runtime_data
from kluis.formats.kluis.endorsement import Endorsement
from kluis.formats.kluis.machine import MachineConfiguration
from kluis.formats.tpm import public
from kluis.tee.drivers import Driver
from kluis.tee.drivers.snp import Snp
from kluis.tee.drivers.tpm import TpmDriver
from kluis.tee.drivers.tsm import Tsm
from tests.evidence.amd.forge import NOW
from tests.evidence.amd.forge import Forge as AmdForge
from tests.evidence.intel.forge import TdxForge
from tests.tee.drivers import fuse
from tests.tee.drivers.devices import ConfigfsTsm
from tests.tee.drivers.test_ioctl import guest
from tests.tee.drivers.test_tsm import snp
from tests.tee.drivers.test_vtpms import NO_LOG, _pem, vm
from tests.tee.tpm.tpms import Software

MACHINE = MachineConfiguration(root=b"r" * 32, boot=b"b" * 16, debug=False, missing=())
DOCUMENT = MACHINE.runtime_data()
OTHER = MachineConfiguration(root=b"o" * 32, boot=b"b" * 16, debug=False, missing=()).runtime_data()
needs_fuse = pytest.mark.skipif(bool(fuse.MISSING), reason="no FUSE: apt-get install fuse3")


def endorsed(driver: Driver, **more: bytes) -> tuple[str, Mapping[str, bytes]]:
    """The kind and the parts for the platform's root."""
    parts = driver.endorse(runtime_data.report_data(DOCUMENT))
    return driver.kind(), {**parts, **more}


def check(found: tuple[str, Mapping[str, bytes]], anchors: TrustAnchors, now: datetime) -> None:
    """It verifies, names the root, and does not verify for another root."""
    kind, parts = found
    given = Endorsement(kind=kind, runtime_data=DOCUMENT, parts=parts).encode()

    proven = endorsements.verify(endorsements.read(given), context=Context(anchors), now=now)

    assert (proven.kind, proven.configuration) == (kind, MACHINE)
    other = Endorsement(kind=kind, runtime_data=OTHER, parts=parts).encode()
    with pytest.raises(KluisError, match="want the hash of the runtime data") as refused:
        endorsements.verify(endorsements.read(other), context=Context(anchors), now=now)
    assert refused.value.code == "endorsement_binding"


@needs_fuse
def test_snp_by_tsm(tmp_path: Path) -> None:
    """SEV-SNP by configfs-tsm."""
    forge = AmdForge()
    with fuse.mounted(tmp_path / "report", snp(forge)) as root:
        found = endorsed(Tsm(root))
    check(found, forge.anchors, NOW)


@needs_fuse
def test_snp_by_ioctl(tmp_path: Path) -> None:
    """SEV-SNP by /dev/sev-guest."""
    forge = AmdForge()
    with fuse.mounted(tmp_path / "dev", guest(forge)) as root:
        found = endorsed(Snp(root / "device"))
    check(found, forge.anchors, NOW)


@needs_fuse
def test_tdx_by_tsm(tmp_path: Path) -> None:
    """TDX by configfs-tsm; the collateral comes from elsewhere."""
    forge = TdxForge()
    tree = ConfigfsTsm("tdx_guest", lambda data, _: forge.quote(forge.td(report_data=data)))
    with fuse.mounted(tmp_path / "report", tree) as root:
        found = endorsed(Tsm(root), collateral=forge.collateral().to_json())
    (anchor,) = forge.anchors
    check(found, TrustAnchors((dataclasses.replace(anchor, level=ProtectionLevel.VM),)), forge.now)


def test_azure(software: Software) -> None:
    """Azure's VM on SEV-SNP: the vTPM's quote is over the first 32 bytes of the report data."""
    with vm(software, ReportType.SNP) as (paravisor, driver):
        found = endorsed(driver)
    check(found, paravisor.forge.anchors, paravisor.forge.now)


def test_tpm(software: Software) -> None:
    """A TPM whose key the relying party names."""
    found = endorsed(TpmDriver(software.tpm, NO_LOG))
    anchors = TrustAnchors.from_pem(_pem(public.parse(found[1]["ak"]).spki), ProtectionLevel.VTPM)
    check(found, anchors, NOW)
