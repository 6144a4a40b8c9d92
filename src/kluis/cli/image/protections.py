"""``--insecure-allow-missing``: protections that a machine may not have, named as in ``kluis doctor``."""

from __future__ import annotations

from kluis.errors import unknown
from kluis.tee.process import linux


def parse_protections(given: list[str] | None) -> frozenset[str]:
    """The names given: each option has one, or several separated by commas.

    Raises:
        UsageError: a name is not a protection: the intended one would not be allowed.
    """
    names = frozenset(name for one in given or () for name in one.split(",") if name)
    if more := sorted(names - set(linux.FIXES)):
        raise unknown("--insecure-allow-missing", more[0], sorted(linux.FIXES), "kluis doctor")
    return names
