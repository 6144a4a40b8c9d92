"""A running enclave as its host sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kluis.errors import EnclaveDied, UsageError
from kluis.host.proxy import EnclaveProxy

Launch = Callable[..., EnclaveProxy]


def test_says_what_it_is(enclave: Launch, subject: Path) -> None:
    """Identity, level and configuration are there, and in its representation."""
    running = enclave(subject)
    assert repr(running) == f"<enclave subject {running.image_id.hex()[:16]} none>"
    assert len(running.image_id) == 32
    assert b'"level":"none"' in running.launch_configuration
    assert running.debug is False
    assert running.pid > 1


def test_by_name(enclave: Launch, subject: Path) -> None:
    """An ecall may be called by a name that is data."""
    running = enclave(subject)
    assert running.call("add", 1, b=5) == 6
    assert running.submit("add", 1).result(300) == 3
    for way in (running.call, running.submit):
        with pytest.raises(UsageError, match=r"^enclave subject: ecall subtract: want one of \['add', "):
            way("subtract", 1)


def test_served_later(enclave: Launch, subject: Path) -> None:
    """An ocall may be served from when it is decorated."""
    running = enclave(subject)

    @running.ocall
    def ask(question: int) -> int:
        return question + 1

    assert running.through(1) == 2


def test_closed_by_with(enclave: Launch, subject: Path) -> None:
    """Leaving the block ends the process; closing twice is no error."""
    with enclave(subject) as running:
        assert running.add(1) == 3
    with pytest.raises(EnclaveDied):
        running.add(1)
    assert running._process.wait(300) is not None
    running.close()
    running.kill()
