"""Shell completion for options and arguments that take one of a few words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kluis.cli.parameters import option
from kluis.evidence import ProtectionLevel


def words(choices: Iterable[str]) -> Callable[[], list[str]]:
    """Offer ``choices``, the same values that the parameter's own check accepts; Typer keeps those that
    match.
    """
    offered = [str(choice) for choice in choices]
    return lambda: list(offered)


levels = words(level for level in ProtectionLevel if level is not ProtectionLevel.NONE)


def protections() -> list[str]:
    """The protections that a machine may not have, as ``kluis doctor`` names them."""
    from kluis.tee.process import linux  # the verifier's commands load no part of the attester

    return sorted(linux.FIXES)


def allow_missing(
    about: str = "Protections that may be missing on this machine.", metavar: str = "NAME"
) -> Any:
    """The option ``--insecure-allow-missing``."""
    return option(about, metavar, "--insecure-allow-missing", complete=protections)
