"""The scenarios as they are declared, read without the environment that runs them; and who runs them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.clients.azure import listing
from tests.clients.azure.serving import ROOT, STAMP, Runner

__all__ = ["FOLDER", "declared", "environment", "runner"]

FOLDER: Final = Path(__file__).parent


def declared() -> dict[str, str]:
    """Call of each scenario, by name, in the order of their modules."""
    return {name: call for name, (_, call) in listing.declared(FOLDER).items()}


def environment() -> Path | None:
    """Where ``scripts/setup.sh clients`` installs it; None where it is not there."""
    folder = Path(
        os.environ.get("KLUIS_AZURE_CLI") or f"{ROOT / os.environ.get('KLUIS_VENV', '.venv')}-azure-cli"
    )
    return folder if (folder / STAMP).exists() else None


def runner(folder: Path) -> Runner:
    """The runner of Azure's command line, from its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AZURE_"))}
    return Runner((str(folder / "bin" / "python"), "-B", "-W", "ignore", str(FOLDER / "run.py")), kept)
