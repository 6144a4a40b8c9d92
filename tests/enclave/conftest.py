"""Rehearsed enclaves for these tests, and the application they run."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.testing.plugin import enclave, evil_host, other_platform
from kluis.testing.rehearsal import RehearsalPlatform
from tests.enclave.hosted.serving import APP, Served
from tests.launching import rehearsal_platform

__all__ = ["enclave", "evil_host", "other_platform", "rehearsal_platform"]


@pytest.fixture(scope="session")
def subject() -> Path:
    """The application with one function for each thing that the boundary must hold."""
    return Path(__file__).parent / "subject" / "app.py"


@pytest.fixture(scope="module")
def served(rehearsal_platform: RehearsalPlatform) -> Iterator[Served]:
    """The hosted application, on a socket, for all tests of a module; no test outlasts its patience."""
    yield from _served(rehearsal_platform)


@pytest.fixture(scope="module")
def hasty(rehearsal_platform: RehearsalPlatform) -> Iterator[Served]:
    """The same, for clients that are slow: it waits two seconds for anything, and one for a head."""
    yield from _served(rehearsal_platform, "hasty")


def _served(rehearsal_platform: RehearsalPlatform, *argv: str) -> Iterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        enclave = rehearsal_platform.launch(APP, sockets={"listen:web": listener}, argv=argv)
        try:
            yield Served(enclave, listener)
        finally:
            enclave.close()
