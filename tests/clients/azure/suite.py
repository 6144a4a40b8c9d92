"""A suite of real clients under pytest: its scenarios run once a session, and each is a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.clients.azure.serving import Runner, environment, lack, results, served
from tests.serve.served import bring_images

__all__ = ["ended_well", "outcomes_of"]


def outcomes_of(
    folder: Path | None, missing: str, runner: Callable[[Path, Mapping[str, Any]], Runner]
) -> dict[str, dict[str, Any]]:
    """Every scenario's result, by name; skips if there are no clients, or the machine misses something.

    Args:
        folder: where the clients are installed; None if they are not.
        missing: the message in that case.
        runner: starts them, given that folder and the services' addresses.
    """
    if folder is None:
        pytest.skip(missing)
    if lacks := lack():
        pytest.skip(lacks)
    with served(environment() or folder, bring_images) as (told, forger):
        return {result["name"]: result for result in results(runner(folder, told), told, forger)}


def ended_well(name: str, call: str, outcomes: Mapping[str, Mapping[str, Any]]) -> None:
    """Fail if a scenario did not run, or did not end as expected."""
    if name not in outcomes:
        pytest.fail(f"{call}: did not run: the runner ended before", pytrace=False)
    if error := outcomes[name]["error"]:
        pytest.fail(f"{call}\n{error}", pytrace=False)
