"""The trustworthiness vector: one number for each aspect of the attester.

Spec: draft-ietf-rats-ar4si, "Trustworthiness Claims". All numbers come from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from kluis.appraisal.aspects import Aspect, Tier
from kluis.appraisal.results.rule import Rule
from kluis.evidence.levels import ProtectionLevel

AFFIRMED: Final[Mapping[Aspect, int]] = MappingProxyType(
    {
        Aspect.INSTANCE_IDENTITY: 2,  # recognized, and not known to be compromised
        Aspect.CONFIGURATION: 2,  # known and approved
        Aspect.EXECUTABLES: 3,  # only approved ones were loaded at boot: that is what is measured
        Aspect.HARDWARE: 2,  # genuine and supported
    }
)
REFUSED: Final[Mapping[Aspect, int]] = MappingProxyType(
    {
        Aspect.INSTANCE_IDENTITY: 97,  # not recognized, and it should be
        Aspect.CONFIGURATION: 96,  # not supported
        Aspect.EXECUTABLES: 96,  # contraindicated
        Aspect.HARDWARE: 96,  # recognized, and contraindicated
        Aspect.RUNTIME_OPAQUE: 96,  # visible to the host
    }
)
# This number makes no statement about an aspect, like leaving the aspect out.
NO_CLAIM: Final = 0
KNOWN_VULNERABILITIES: Final = 32
ENCRYPTED, ISOLATED, VISIBLE = 2, 32, 96

# A TPM makes no statement about memory, so it has no number.
OPAQUE: Final[Mapping[ProtectionLevel, int]] = MappingProxyType(
    {
        ProtectionLevel.NONE: VISIBLE,
        ProtectionLevel.PROCESS_USER: VISIBLE,
        ProtectionLevel.PROCESS: ISOLATED,
        ProtectionLevel.VM: ISOLATED,
        ProtectionLevel.HARDWARE_NITRO: ISOLATED,
        **{
            level: ENCRYPTED
            for level in ProtectionLevel
            if level.hardware and level is not ProtectionLevel.HARDWARE_NITRO
        },
    }
)


def tier(number: int) -> Tier:
    """The tier of one number of the vector, -128..127."""
    match number:
        case -1 | 0 | 1:
            return Tier.NONE
        case _ if 2 <= number <= 31 or -32 <= number <= -2:
            return Tier.AFFIRMING
        case _ if 32 <= number <= 95 or -96 <= number <= -33:
            return Tier.WARNING
        case _:
            return Tier.CONTRAINDICATED


def vector(rules: Iterable[Rule], level: ProtectionLevel, *, vulnerable: bool) -> Mapping[Aspect, int]:
    """Compute the numbers from the rules.

    An aspect is affirmed if a rule that restricts it is met, and none fails. An aspect without such a rule
    has no number: it must not count as affirmed.

    Args:
        rules: of one appraisal, all of them.
        level: reported as ``runtime-opaque``.
        vulnerable: whether the platform has weaknesses that its vendor lists and the policy accepts.
    """
    tiers: dict[Aspect, int] = {}
    for rule in rules:
        if rule.aspect is None:
            continue
        if not rule.ok:
            tiers[rule.aspect] = REFUSED[rule.aspect]
        elif rule.affirms and rule.aspect in AFFIRMED:
            tiers.setdefault(rule.aspect, AFFIRMED[rule.aspect])
    if vulnerable and tiers.get(Aspect.HARDWARE) == AFFIRMED[Aspect.HARDWARE]:
        tiers[Aspect.HARDWARE] = KNOWN_VULNERABILITIES
    if level in OPAQUE:
        tiers[Aspect.RUNTIME_OPAQUE] = max(OPAQUE[level], tiers.get(Aspect.RUNTIME_OPAQUE, 0))
    return MappingProxyType({aspect: tiers[aspect] for aspect in Aspect if aspect in tiers})
