"""Policy fields that several TEEs have, under the same key and the same rule."""

from __future__ import annotations

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.fields import Field
from kluis.appraisal.policy.structured import Registers
from kluis.appraisal.policy.wants import AtLeast, Form, Named, OneOf


def measurements(about: str, *sizes: int) -> Field:
    """The accepted code."""
    return Field(
        key="measurements",
        form=Form(OneOf, sizes=sizes, referenced=True),
        claim=lambda claims: claims.measurement.value,
        about=about,
        rule="measurement",
        aspect=Aspect.EXECUTABLES,
        fix="run the code that the policy names, or name this one after reading what it is",
    )


def signers(about: str, *sizes: int) -> Field:
    """The accepted signers of the code."""
    return Field(
        key="signers",
        form=Form(OneOf, sizes=sizes),
        claim=lambda claims: claims.signer.value if claims.signer else None,
        about=about,
        rule="signer",
        aspect=Aspect.EXECUTABLES,
        fix="sign the code with the key that the policy names",
    )


def min_svn(about: str, most: int) -> Field:
    """The code's security version."""
    return Field(
        key="min_svn",
        form=Form(AtLeast, most=most),
        claim=lambda claims: claims.svn,
        about=about,
        rule="svn",
        aspect=Aspect.EXECUTABLES,
        fix="run a newer version of the code",
    )


def registers(about: str, pattern: str, drafted: str | None = None) -> Field:
    """The accepted values of registers extended at run time."""
    return Field(
        key="registers",
        form=Form(Registers, pattern=pattern, drafted=drafted, referenced=True),
        claim=lambda claims: claims.registers,
        about=about,
        rule="registers",
        aspect=Aspect.EXECUTABLES,
        fix="compare the event log with the one that the expected values came from",
    )


def config_ids(about: str, *sizes: int) -> Field:
    """The accepted launch configurations."""
    return Field(
        key="config_ids",
        form=Form(OneOf, sizes=sizes),
        claim=lambda claims: claims.config_id,
        about=about,
        rule="config_id",
        aspect=Aspect.CONFIGURATION,
        fix="start it with the configuration that the policy names",
    )


def family_ids(about: str, *sizes: int) -> Field:
    """The accepted product families, as named by the signer."""
    return Field(
        key="family_ids",
        form=Form(OneOf, sizes=sizes),
        claim=lambda claims: claims.family_id,
        about=about,
        rule="family_id",
        aspect=Aspect.CONFIGURATION,
        fix="start the product that the policy names",
    )


def products(about: str, *known: str, fmspcs: bool = False) -> Field:
    """The accepted product lines of hardware."""
    return Field(
        key="products",
        form=Form(Named, known=known, fmspcs=fmspcs),
        claim=lambda claims: claims.platform.product,
        about=about,
        rule="product",
        aspect=Aspect.HARDWARE,
        fix="run it on hardware that the policy names",
    )


def platforms(about: str, *sizes: int) -> Field:
    """The accepted single machines."""
    return Field(
        key="platforms",
        form=Form(OneOf, sizes=sizes),
        claim=lambda claims: claims.platform.id,
        about=about,
        rule="platform",
        aspect=Aspect.INSTANCE_IDENTITY,
        fix="run it on a machine that the policy names, or add this machine after checking where it is",
        drafted=False,
    )
