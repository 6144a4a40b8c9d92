"""Rehearsals end with their test, and say what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kluis.host.proxy import EnclaveProxy


def test_protects_nothing_and_says_so(enclave: Callable[..., EnclaveProxy], subject: Path) -> None:
    """Level and configuration of a rehearsal say that everything is missing."""
    running = enclave(subject)
    assert running.level == "none"
    assert b'"missing":["everything"]' in running.launch_configuration


def test_own_bodies(enclave: Callable[..., EnclaveProxy], tmp_path: Path) -> None:
    """A host may serve the bodies that the application declares."""
    app = tmp_path / "app.py"
    app.write_text(
        "from kluis.enclave import Enclave\n"
        "app = Enclave('served')\n"
        "@app.ocall\n"
        "def twice(x: int) -> int:\n    return 2 * x\n"
        "@app.ecall\n"
        "def f(x: int) -> int:\n    return twice(x) + 1\n"
    )
    scope: dict[str, object] = {}
    exec(compile(app.read_text(), str(app), "exec"), scope)
    assert enclave(app, ocalls=scope["app"]).f(4) == 9
