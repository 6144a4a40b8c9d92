"""``--insecure-allow-missing``: protections that a machine may not have, named as in ``kluis doctor``."""

from __future__ import annotations

from kluis.errors import UsageError
from kluis.tee.process import linux


def allowed(given: list[str] | None) -> frozenset[str]:
    """The names given: each option has one, or several separated by commas.

    Raises:
        UsageError: a name is not a protection: the intended one would not be allowed.
    """
    names = frozenset(name for one in given or () for name in one.split(",") if name)
    if more := sorted(names - set(linux.FIXES)):
        known = ", ".join(sorted(linux.FIXES))
        raise UsageError(
            f"--insecure-allow-missing: want some of {known}, got {more[0][:32]!a}", hint="kluis doctor"
        )
    return names
