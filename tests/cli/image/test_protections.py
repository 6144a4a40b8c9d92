"""Missing protections, as each command that starts enclaves accepts them."""

from __future__ import annotations

import pytest

from kluis.cli.image import protections
from kluis.cli.main import run
from kluis.errors import UsageError

NAMED = frozenset({"landlock", "secret-memory"})


@pytest.mark.parametrize(
    "given", [["landlock", "secret-memory"], ["landlock,secret-memory"], ["secret-memory,", "landlock"]]
)
def test_names(given: list[str]) -> None:
    """Each option has one name, or several between commas."""
    assert protections.parse_protections(given) == NAMED


def test_none() -> None:
    """By default nothing may be missing."""
    assert protections.parse_protections(None) == frozenset()


@pytest.mark.parametrize("given", [["landlok"], ["landlock", "LANDLOCK"], ["landlock mdwe"]])
def test_no_name(given: list[str]) -> None:
    """A name that is no protection's is refused with those that there are."""
    with pytest.raises(UsageError, match=r"--insecure-allow-missing: want one of .*landlock.*, got "):
        protections.parse_protections(given)


def test_services_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """``kluis serve`` refuses one before anything is built."""
    assert run(["serve", "all", "--insecure-allow-missing=landlok"]) == 2
    assert "got 'landlok'" in capsys.readouterr().err
