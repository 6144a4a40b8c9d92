"""Policy fields that SGX and TDX share: Intel's certification of a platform.

Spec: Intel SGX PCK Certificate and CRL Profile, "SGX Extensions".
"""

from __future__ import annotations

from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.fields import Field, of
from kluis.appraisal.policy.tees import shared
from kluis.appraisal.policy.wants import Allowed, AtLeast, Form
from kluis.evidence.intel.claims import IntelClaims

FIELDS: Final = (
    # Intel's TCB info and kluis collateral show have them in capitals or not, depending on the document.
    shared.products("FMSPCs: kinds of platform", fmspcs=True),
    Field(
        key="min_pce_svn",
        form=Form(AtLeast, most=0xFFFF),
        claim=of(IntelClaims, lambda c: c.pcesvn),
        about="of the enclave that certifies the platform's keys; the TCB status judges it, too",
        rule="pce_svn",
        aspect=Aspect.HARDWARE,
        fix="update the platform, and have it certified again",
    ),
    Field(
        key="smt",
        form=Form(Allowed),
        claim=of(IntelClaims, lambda c: c.smt),
        about="hyper-threading, which lets a neighbour thread measure caches",
        rule="smt",
        aspect=Aspect.CONFIGURATION,
        fix="switch hyper-threading off in the firmware, and have the platform certified again",
    ),
    Field(
        key="dynamic_platform",
        form=Form(Allowed),
        claim=of(IntelClaims, lambda c: c.dynamic),
        about="processors may be added to it",
        rule="dynamic_platform",
        aspect=Aspect.HARDWARE,
        fix="run it on a platform to which no processor can be added",
    ),
    Field(
        key="cached_keys",
        form=Form(Allowed),
        claim=of(IntelClaims, lambda c: c.cached_keys),
        about="Intel keeps the platform's root keys",
        rule="cached_keys",
        aspect=Aspect.HARDWARE,
        fix="register the platform without leaving its keys with Intel",
    ),
    shared.platforms("PPIDs: single machines, for where physical attacks matter", 16),
)
