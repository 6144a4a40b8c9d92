"""Find what a project's commands need and this Python environment does not have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_OWN = "kluis"


def missing_packages(requirements: Iterable[str]) -> tuple[str, ...]:
    """The requirements, such as ``fastapi>=0.115``, that no installed distribution meets."""
    return tuple(each for each in requirements if not _is_met(Requirement(each)))


def missing_extras(extras: Iterable[str]) -> tuple[str, ...]:
    """The extras of Kluis of which a requirement is not met."""
    return tuple(extra for extra in extras if not all(map(_is_met, _requirements(extra))))


def _is_met(requirement: Requirement) -> bool:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def _requirements(extra: str) -> Iterator[Requirement]:
    """The requirements of an extra, and of the extras that it names."""
    for line in metadata.requires(_OWN) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        if canonicalize_name(requirement.name) == _OWN:
            for inner in requirement.extras:
                yield from _requirements(inner)
        else:
            yield requirement
