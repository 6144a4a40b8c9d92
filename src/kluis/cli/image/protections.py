"""``--insecure-allow-missing``: protections that a machine may not have, named as in ``kluis doctor``."""

from __future__ import annotations

from typing import Annotated

from kluis.cli import completion
from kluis.errors import unknown
from kluis.tee.process import linux

Missing = Annotated[
    list[str] | None,
    completion.allow_missing(
        "Protections that may be missing on this machine; the evidence states them.", "NAMES"
    ),
]


def parse_protections(words: list[str] | None) -> frozenset[str]:
    """The names given: each option has one, or several separated by commas.

    Raises:
        UsageError: a name is not a protection: the intended one would not be allowed.
    """
    names = frozenset(name for one in words or () for name in one.split(",") if name)
    if more := sorted(names - set(linux.FIXES)):
        raise unknown("--insecure-allow-missing", more[0], sorted(linux.FIXES), "kluis doctor")
    return names
