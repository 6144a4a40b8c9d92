"""``--insecure-allow-missing``: protections that a machine may lack, named as ``kluis doctor`` has them."""

from __future__ import annotations

from kluis.errors import unknown
from kluis.tee.process import linux


def allowed(given: list[str] | None) -> frozenset[str]:
    """Names as they were given: each option has one, or several between commas.

    Raises:
        UsageError: a name is no protection's: what was meant would not be allowed.
    """
    names = frozenset(name for one in given or () for name in one.split(",") if name)
    if more := sorted(names - set(linux.FIXES)):
        raise unknown("--insecure-allow-missing", more[0], sorted(linux.FIXES), "kluis doctor")
    return names
