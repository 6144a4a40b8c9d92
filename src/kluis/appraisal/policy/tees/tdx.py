"""The policy table of TDX trust domains.

Spec: Intel TDX Module, "TDREPORT_STRUCT", "ATTRIBUTES", "XFAM".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.fields import Field, of
from kluis.appraisal.policy.structured import Masked
from kluis.appraisal.policy.tees import intel, shared
from kluis.appraisal.policy.values import Value
from kluis.appraisal.policy.wants import Allowed, Form, OneOf
from kluis.evidence.intel.tdx import TdxClaims
from kluis.formats.tdx.report import Attribute

# A draft is strict about weaknesses and unknown bits; it leaves open what a host may choose.
CHOICES: Final = Attribute.LASS | Attribute.SEPT_VE_DISABLE | Attribute.PKS | Attribute.KL | Attribute.PERFMON
ALL: Final = (1 << 64) - 1


def _measurement_field(
    *, key: str, rule: str, about: str, fix: str, read: Callable[[TdxClaims], Value]
) -> Field:
    return Field(
        key=key,
        form=Form(OneOf, sizes=(48,)),
        claim=of(TdxClaims, read),
        about=about,
        rule=rule,
        aspect=Aspect.CONFIGURATION,
        fix=fix,
    )


FIELDS: Final = (
    shared.measurements("MRTD: the firmware that the domain began with, and nothing that it loaded", 48),
    shared.registers("RTMRs: firmware, loader, kernel, and what they extended", r"rtmr[0-3]"),
    Field(
        key="modules",
        form=Form(OneOf, sizes=(48,)),
        claim=of(TdxClaims, lambda c: c.mrseam),
        about="MRSEAM: the TDX module, which changes with every release; its signer is always checked",
        rule="module",
        aspect=Aspect.HARDWARE,
        fix="run it under a TDX module that the policy names, or accept any that Intel signed",
        drafted=False,
    ),
    _measurement_field(
        key="config_ids",
        rule="config_id",
        about="MRCONFIGID, the host's choice",
        fix="start it with the configuration that the policy names",
        read=lambda c: c.mrconfigid,
    ),
    _measurement_field(
        key="owners",
        rule="owner",
        about="MROWNER, the host's choice",
        fix="start it for the owner that the policy names",
        read=lambda c: c.mrowner,
    ),
    _measurement_field(
        key="owner_configs",
        rule="owner_config",
        about="MROWNERCONFIG, the host's choice",
        fix="start it with the owner's configuration that the policy names",
        read=lambda c: c.mrownerconfig,
    ),
    _measurement_field(
        key="service_domains",
        rule="service_domain",
        about="MRSERVICETD, a bound domain that may migrate it; zeros mean no such domain; not in TDX 1.0",
        fix="start it without that service domain, or name it after reading what it does",
        read=lambda c: c.mrservicetd,
    ),
    Field(
        key="attributes",
        form=Form(Masked, width=64, mask=ALL & ~int(CHOICES)),
        claim=of(TdxClaims, lambda c: c.td_attributes),
        about="ATTRIBUTES; debug is judged in [accept]",
        rule="attributes",
        aspect=Aspect.CONFIGURATION,
        fix="start the domain with the attributes that the policy names",
    ),
    Field(
        key="xfam",
        form=Form(Masked, width=64, mask=ALL),
        claim=of(TdxClaims, lambda c: c.xfam),
        about="XFAM, extended features of the processor",
        rule="xfam",
        aspect=Aspect.CONFIGURATION,
        fix="start the domain with the features that the policy names",
    ),
    Field(
        key="migration",
        form=Form(Allowed),
        claim=of(TdxClaims, lambda c: c.migratable),
        about="a service domain may move it, and its secrets, to another machine",
        rule="migration",
        aspect=Aspect.CONFIGURATION,
        fix="start the domain so that it cannot be moved",
    ),
    *intel.FIELDS,
)
