"""The scenarios as the modules in JavaScript declare them, read without Node; and who runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.clients.azure.serving import ROOT, STAMP, Runner

__all__ = ["FOLDER", "declared", "environment", "runner"]

FOLDER: Final = Path(__file__).parent
_DECLARED: Final = re.compile(r'^scenario\(\s*"(\w+)",\s*("(?:[^"\\]|\\.)*"),', re.MULTILINE)


def declared() -> dict[str, str]:
    """Call of each scenario, by name, in the order of their modules."""
    found: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.js")):
        for name, call in _DECLARED.findall(path.read_text()):
            if name in found:
                raise ValueError(f"scenario: want each name once, got {name} twice")
            found[name] = json.loads(call)
    return found


def environment() -> Path | None:
    """Where ``scripts/setup.sh clients`` installs them; None where they or Node are not there."""
    folder = Path(
        os.environ.get("KLUIS_AZURE_JS") or f"{ROOT / os.environ.get('KLUIS_VENV', '.venv')}-azure-js"
    )
    return folder if (folder / STAMP).exists() and shutil.which("node") else None


def runner(folder: Path, told: Mapping[str, Any]) -> Runner:
    """The runner of Azure's clients for JavaScript.

    Args:
        folder: where they are installed.
        told: of the services; Node gets the authority of their TLS before it starts.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NODE_", "AZURE_"))}
    given = {"NODE_PATH": str(folder / "node_modules"), "NODE_EXTRA_CA_CERTS": str(told["ca"])}
    return Runner(("node", "--no-warnings", str(FOLDER / "run.js")), {**kept, **given})
