"""The policy table of Arm CCA realms.

Spec: draft-ffm-rats-cca-token, "Realm Claims", "Platform Claims".
"""

from __future__ import annotations

import re
from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.fields import Field, of
from kluis.appraisal.policy.structured import DIGESTS, Registers
from kluis.appraisal.policy.tees import shared
from kluis.appraisal.policy.values import Value
from kluis.appraisal.policy.wants import Form, OneOf
from kluis.evidence.cca.token import CcaClaims
from kluis.hashes import Algorithm, Digest

ALGORITHMS: Final[dict[int, Algorithm]] = {32: "sha256", 48: "sha384", 64: "sha512"}
NAME: Final = r"[A-Za-z0-9_.-]{1,64}"


def _components(claims: CcaClaims) -> Value:
    """Firmware components by kind; unnamed components and those of other vendors are left out."""
    digests: dict[str, Digest] = {}
    for part in claims.components:
        if part.kind is None or part.kind in digests or not re.fullmatch(NAME, part.kind, re.ASCII):
            return None
        digests[part.kind] = Digest(ALGORITHMS[len(part.measurement)], part.measurement)
    return digests


FIELDS: Final = (
    shared.measurements("RIM: what the realm began with", *DIGESTS),
    shared.registers("REMs: what it extended", r"rem[0-3]"),
    Field(
        key="personalization",
        form=Form(OneOf, sizes=(64,)),
        claim=of(CcaClaims, lambda c: c.personalization_value),
        about="RPV, 64 bytes that the host chose",
        rule="personalization",
        aspect=Aspect.CONFIGURATION,
        fix="make the realm with the value that the policy names",
    ),
    Field(
        key="implementation_ids",
        form=Form(OneOf, sizes=(32,)),
        claim=of(CcaClaims, lambda c: c.implementation_id),
        about="kinds of platform",
        rule="implementation_id",
        aspect=Aspect.HARDWARE,
        fix="run it on a platform that the policy names",
    ),
    Field(
        key="firmware",
        form=Form(Registers, pattern=NAME),
        claim=of(CcaClaims, _components),
        about="measurements of the platform's firmware, by what each part is",
        rule="firmware",
        aspect=Aspect.HARDWARE,
        fix="update the platform's firmware to what the policy names",
    ),
    shared.platforms("instance ids: single platforms", 33),
)
