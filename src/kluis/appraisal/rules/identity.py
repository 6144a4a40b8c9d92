"""Rules on the code, its launch and its machine, from the table of the evidence's TEE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.fields import Field
from kluis.appraisal.policy.model import ByImage, BySigner, Identity, Release
from kluis.appraisal.policy.structured import Masked, Registers
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.values import Value, either, format_value
from kluis.appraisal.policy.wants import REFERENCE, Any, AtLeast, AtMost, Exactly, OneOf, Want
from kluis.appraisal.results.rule import Rule
from kluis.evidence.model import Claims
from kluis.hashes import Digest

NONE_GIVEN: Final = "pass the vendor's reference values for it: --reference FILE"


def identity_rules(claims: Claims, identity: Identity) -> Iterator[Rule]:
    """One rule for every field; only a refusal if the policy has no table for this TEE."""
    match identity:
        case ByImage(image_ids=image_ids):
            yield _judge(
                "measurement",
                OneOf(image_ids),
                claims.measurement.value,
                fix="kluis diff lists the changes between two images",
            )
        case BySigner() as by:
            signer = claims.signer.value if claims.signer else None
            fix = "sign the image with the key that the policy names"
            yield _judge("signer", OneOf(by.signers), signer, fix=fix)
            fix = "this is another product of the same signer"
            yield _judge("product_id", Exactly(by.product_id), claims.product_id, fix=fix)
            yield _judge("svn", AtLeast(by.min_svn), claims.svn, fix="run a newer version of the image")
        case _:
            for part in within(claims):
                wants = identity.tables.get(part.tee, {})
                for field in TABLES[part.tee] if wants else ():
                    yield _by_field(field, wants[field.key], part)
                if releases := identity.releases.get(part.tee):
                    yield _of_one_release(releases, part)


def _of_one_release(releases: Sequence[Release], claims: Claims) -> Rule:
    """Check that every value belongs to a release whose values the evidence meets in full."""
    got = {field.key: field.claim(claims) for field in TABLES[claims.tee]}
    fitting = [each for each in releases if all(want.meets(got[key]) for key, want in each.wants.items())]
    named = frozenset[tuple[str, str]]().union(*(each.things for each in releases))
    return Rule.of(
        "release",
        named.issubset(frozenset[tuple[str, str]]().union(*(each.things for each in fitting))),
        want=f"all values of {either({each.name for each in releases})}",
        got=either({each.name for each in fitting}) or "none of them whole",
        fix="run one complete release: parts of several were never released together",
        aspect=Aspect.EXECUTABLES,
    )


def within(claims: Claims) -> Iterator[Claims]:
    """The claims, and those of the hardware inside if the evidence is composite."""
    yield claims
    hardware = getattr(claims.vendor, "hardware", None)
    if isinstance(hardware, Claims):
        yield hardware


def _by_field(field: Field, want: Want, claims: Claims) -> Rule:
    fix = NONE_GIVEN if want is REFERENCE else field.fix
    return _judge(field.rule, want, field.claim(claims), fix=fix, aspect=field.aspect)


def _judge(name: str, want: Want, got: Value, *, fix: str, aspect: Aspect = Aspect.EXECUTABLES) -> Rule:
    ok = want.meets(got)
    text = format_value(got)
    if isinstance(want, Masked) and isinstance(got, int):
        text = f"{got:#x}"  # as the bits that are wanted are written
    if isinstance(want, AtMost):
        text = f"{text} s" if got is not None else text
    if isinstance(want, Registers) and isinstance(got, Mapping):
        names = want.failing(got) or want.values
        text = format_value({each: d for each, d in got.items() if each in names and isinstance(d, Digest)})
        want = Registers({each: want.values[each] for each in names})
    return Rule.of(
        name, ok, want=str(want), got=text, fix=fix, aspect=aspect, affirms=not isinstance(want, Any)
    )
