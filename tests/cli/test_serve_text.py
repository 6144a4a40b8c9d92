"""The lines that ``kluis serve`` prints are Python that works where it is pasted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kluis.cli.serve_text import lines_of
from kluis.services.running.plan import Plan
from kluis.services.running.serving import Serving
from tests.services.running.conftest import SERVICES, running, state

__all__ = ["running", "state"]

pytestmark = pytest.mark.slow


def test_pasted(running: Serving, state: Path) -> None:
    """Every client that is made there reaches its service, and no line is wider than a terminal."""
    pytest.importorskip("azure.identity")
    text = lines_of(Plan(services=SERVICES, state=state, port=0, instances=2), running)
    said: dict[str, Any] = {}
    exec(text, said)  # what a person does with it
    assert list(said["keys"].list_properties_of_keys()) == []
    policy, token = said["policies"].get_policy("SgxEnclave")
    assert policy.startswith("version=")
    assert token.issuer == running.addresses["attestation"]
    assert max(len(line) for line in text.splitlines() if str(state) not in line) < 80
