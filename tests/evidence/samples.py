"""One good piece of evidence of every kind that is registered, forged, with all that verifies it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kluis.evidence import Claims, TrustAnchors, verify
from kluis.evidence.registry import kinds
from kluis.formats.tpm.endorsements import TpmEndorsements
from tests.evidence import forge as sgx
from tests.evidence.amd import forge as amd
from tests.evidence.azure import forge as azure
from tests.evidence.cca import forge as cca
from tests.evidence.intel import forge as intel
from tests.evidence.nitro import forge as nitro
from tests.evidence.nvidia import forge as nvidia
from tests.evidence.tpm import forge as tpm


@dataclass(frozen=True)
class Sample:
    """Good evidence."""

    data: bytes
    collateral: Any
    anchors: TrustAnchors
    now: datetime

    def verify(self, data: bytes | None = None, **other: Any) -> Claims:
        """Verify it, by default with everything good."""
        given = {"collateral": self.collateral, "anchors": self.anchors, "now": self.now, **other}
        return verify(self.data if data is None else data, **given).value


def _sgx() -> Sample:
    forge = sgx.Forge()
    return Sample(forge.quote(), forge.collateral(), forge.anchors, forge.now)


def _tdx() -> Sample:
    forge = intel.TdxForge()
    return Sample(forge.quote(), forge.collateral(), forge.anchors, forge.now)


def _snp() -> Sample:
    forge = amd.Forge()
    return Sample(forge.report(), forge.endorsements(), forge.anchors, amd.NOW)


def _nitro() -> Sample:
    forge = nitro.Forge()
    return Sample(forge.document(), None, forge.anchors, forge.now)


def _nvidia() -> Sample:
    forge = nvidia.Forge()
    return Sample(forge.evidence(), None, forge.anchors, nvidia.NOW)


def _cca() -> Sample:
    forge = cca.Forge()
    return Sample(forge.token(), forge.endorsements, forge.anchors, cca.NOW)


def _tpm() -> Sample:
    device, maker = tpm.Tpm(tpm.rsa_key()), tpm.Maker()
    given: TpmEndorsements = maker.endorse(maker.ak(device.key))
    return Sample(device.evidence(), given, maker.anchors, tpm.NOW)


def _azure() -> Sample:
    forge = azure.AzureForge()
    return Sample(forge.parts(forge.snp(), **forge.tpm()), forge.endorsements(), forge.anchors, forge.now)


MAKERS: dict[str, Callable[[], Sample]] = {
    "amd.snp": _snp,
    "azure.hcl": _azure,
    "cca.token": _cca,
    "intel.sgx": _sgx,
    "intel.tdx": _tdx,
    "nitro.document": _nitro,
    "nvidia.report": _nvidia,
    "tpm.tpm": _tpm,
}
REGISTERED = sorted(kind.verify.__module__.removeprefix("kluis.evidence.") for kind in kinds())


@functools.cache
def sample(kind: str) -> Sample:
    """Good evidence of a kind, made once."""
    return MAKERS[kind]()
