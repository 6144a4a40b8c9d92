"""The words that a shell offers where an option or an argument takes one of a few."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kluis.evidence import ProtectionLevel


def words(choices: Iterable[str]) -> Callable[[], list[str]]:
    """Offer ``choices``, the same that the parameter's own check reads; Typer keeps those that match."""
    offered = [str(choice) for choice in choices]
    return lambda: list(offered)


levels = words(level for level in ProtectionLevel if level is not ProtectionLevel.NONE)


def protections() -> list[str]:
    """The protections that a machine may lack, as ``kluis doctor`` names them."""
    from kluis.tee.process import linux  # the verifier's commands load no part of the attester

    return sorted(linux.FIXES)
