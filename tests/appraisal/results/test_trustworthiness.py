"""The trustworthiness vector: an aspect without a rule has no number, and the status is never better."""

from __future__ import annotations

import pytest

from kluis.appraisal import Aspect, Rule, Tier
from kluis.appraisal.results import trustworthiness
from kluis.evidence.levels import ProtectionLevel


def _rule(aspect: Aspect | None, ok: bool, affirms: bool = True) -> Rule:
    return Rule.of("a", ok, want="x", got="y", fix="z", aspect=aspect, affirms=affirms)


@pytest.mark.parametrize(
    ("number", "tier"),
    [
        (0, Tier.NONE),
        (1, Tier.NONE),
        (-1, Tier.NONE),
        (2, Tier.AFFIRMING),
        (31, Tier.AFFIRMING),
        (-2, Tier.AFFIRMING),
        (-32, Tier.AFFIRMING),
        (32, Tier.WARNING),
        (95, Tier.WARNING),
        (-33, Tier.WARNING),
        (-96, Tier.WARNING),
        (96, Tier.CONTRAINDICATED),
        (127, Tier.CONTRAINDICATED),
        (-97, Tier.CONTRAINDICATED),
        (-128, Tier.CONTRAINDICATED),
    ],
)
def test_tiers(number: int, tier: Tier) -> None:
    """Numbers fall into the tiers of the specification."""
    assert trustworthiness.tier(number) is tier


def test_labels_and_numbers() -> None:
    """CBOR labels are 0..7 in order; tiers are 0, 2, 32 and 96."""
    assert [aspect.label for aspect in Aspect] == list(range(8))
    assert {tier.value: tier.number for tier in Tier} == {
        "none": 0,
        "affirming": 2,
        "warning": 32,
        "contraindicated": 96,
    }


def test_vector() -> None:
    """One failed rule refuses its aspect, whatever else is met; an aspect without a rule is absent."""
    rules = [
        _rule(Aspect.HARDWARE, True),
        _rule(Aspect.EXECUTABLES, True),
        _rule(Aspect.EXECUTABLES, False),
        _rule(Aspect.EXECUTABLES, True),
        _rule(Aspect.INSTANCE_IDENTITY, True, affirms=False),
        _rule(None, False),
    ]
    found = trustworthiness.vector(rules, ProtectionLevel.VTPM, vulnerable=False)
    assert dict(found) == {Aspect.EXECUTABLES: 96, Aspect.HARDWARE: 2}
    with pytest.raises(TypeError):
        found[Aspect.EXECUTABLES] = 3  # type: ignore[index]


def test_known_vulnerabilities() -> None:
    """A platform that its vendor does not rate up to date has hardware with known weaknesses."""
    met = [_rule(Aspect.HARDWARE, True)]
    assert trustworthiness.vector(met, ProtectionLevel.VTPM, vulnerable=True) == {Aspect.HARDWARE: 32}
    assert trustworthiness.vector([], ProtectionLevel.VTPM, vulnerable=True) == {}
    failed = [_rule(Aspect.HARDWARE, False)]
    assert trustworthiness.vector(failed, ProtectionLevel.VTPM, vulnerable=True) == {Aspect.HARDWARE: 96}


@pytest.mark.parametrize(
    ("ok", "numbers"), [(True, {Aspect.RUNTIME_OPAQUE: 32}), (False, {Aspect.RUNTIME_OPAQUE: 96})]
)
def test_memory_is_not_affirmed_by_a_rule(ok: bool, numbers: dict[Aspect, int]) -> None:
    """What keeps memory in is the level's to say; a rule about it can only refuse."""
    rules = [_rule(Aspect.RUNTIME_OPAQUE, ok)]
    assert trustworthiness.vector(rules, ProtectionLevel.PROCESS, vulnerable=False) == numbers


@pytest.mark.parametrize("level", ProtectionLevel)
def test_memory(level: ProtectionLevel) -> None:
    """Memory is opaque where hardware encrypts it, isolated where software does, else visible."""
    found = trustworthiness.vector([], level, vulnerable=False).get(Aspect.RUNTIME_OPAQUE)
    if level is ProtectionLevel.VTPM:
        assert found is None
    elif level in (ProtectionLevel.NONE, ProtectionLevel.PROCESS_USER):
        assert found == 96
    else:
        assert found == (2 if level.hardware and level is not ProtectionLevel.HARDWARE_NITRO else 32)
