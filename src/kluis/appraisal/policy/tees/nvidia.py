"""The policy table of NVIDIA GPUs and switches, always used together with a processor's evidence.

Spec: DMTF DSP0274 (SPDM) 1.1, "MEASUREMENTS"; NVIDIA's opaque data, as its own verifier reads it.
"""

from __future__ import annotations

from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.fields import Field, of
from kluis.appraisal.policy.tees import shared
from kluis.appraisal.policy.wants import Allowed, Form, Named, OneOf, Required
from kluis.evidence.nvidia.device import Device
from kluis.evidence.nvidia.report import NvidiaClaims
from kluis.formats.nvidia.opaque import Feature

FIELDS: Final = (
    Field(
        key="devices",
        form=Form(Named, known=tuple(Device)),
        claim=of(NvidiaClaims, lambda c: str(c.device)),
        about="a GPU, or a switch between them",
        rule="device",
        aspect=Aspect.HARDWARE,
        fix="give the report of a device that the policy names",
    ),
    shared.products("lines of chips"),
    shared.measurements("SHA-384 over all measurements in order", 48),
    shared.registers("single measurements, as in the vendor's reference values", r"block[1-9][0-9]{0,2}"),
    Field(
        key="drivers",
        form=Form(Named),
        claim=of(NvidiaClaims, lambda c: c.driver_version),
        about="versions of the driver that requested the report; not for a switch",
        rule="driver",
        aspect=Aspect.EXECUTABLES,
        fix="use a driver that the policy names",
    ),
    Field(
        key="vbios",
        form=Form(Named),
        claim=of(NvidiaClaims, lambda c: c.vbios_version),
        about="versions of the device's firmware",
        rule="vbios",
        aspect=Aspect.EXECUTABLES,
        fix="update the device's firmware to a version that the policy names",
    ),
    Field(
        key="firmware_ids",
        form=Form(OneOf, sizes=(48,)),
        claim=of(NvidiaClaims, lambda c: c.fwid),
        about="FWIDs: digests of the firmware that owns the signing key",
        rule="firmware_id",
        aspect=Aspect.EXECUTABLES,
        fix="update the device's firmware to one that the policy names",
    ),
    Field(
        key="features",
        form=Form(Named, known=tuple(feature.name.lower() for feature in Feature)),
        claim=of(NvidiaClaims, lambda c: None if c.feature is None else c.feature.name.lower()),
        about="how the device is passed through",
        rule="feature",
        aspect=Aspect.CONFIGURATION,
        fix="pass the device through as the policy wants",
    ),
    Field(
        key="clear_links",
        form=Form(Allowed),
        claim=of(NvidiaClaims, lambda c: c.protected_pcie),
        about="links to other devices run in the clear",
        rule="clear_links",
        aspect=Aspect.CONFIGURATION,
        fix="pass through only this device, or accept unencrypted links within one machine",
    ),
    Field(
        key="revocation_required",
        form=Form(Required),
        claim=of(NvidiaClaims, lambda c: c.revocation_checked),
        about="whether NVIDIA must have said that no certificate is revoked",
        rule="revocation",
        aspect=Aspect.HARDWARE,
        fix="pass NVIDIA's OCSP responses: --collateral",
    ),
    shared.platforms("serial numbers of devices"),
)
