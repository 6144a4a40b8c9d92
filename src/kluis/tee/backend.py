"""Interfaces of a backend that launches enclaves, and of a launched enclave.

A backend launches images and states its root. It does not depend on the verification of its evidence, and a
verifier does not depend on backends.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Running(Protocol):
    """A running enclave.

    Attributes:
        image_id: 32 bytes.
        level: protection level of this launch.
        launch_configuration: canonical JSON; its SHA-512 is CONFIGID in evidence.
        debug: whether its memory can be read from outside.
        pid: of its process, on the machine where it runs.
        slowness: how many times longer than this machine the one where it runs may take.
        calls, control: sockets or streams to it.
    """

    image_id: bytes
    level: str
    launch_configuration: bytes
    debug: bool
    pid: int
    slowness: float
    calls: Any
    control: Any

    def kill(self) -> None:
        """End it now."""

    def wait(self, timeout: float | None = None) -> tuple[int, str] | None:
        """Wait for its end; return exit status and last output, or None after ``timeout`` seconds."""


class Backend(Protocol):
    """Launches images in one kind of TEE."""

    def launch(
        self,
        path: Path | str,
        *,
        allow_missing: frozenset[str] = frozenset(),
        sockets: Mapping[str, socket.socket] | None = None,
    ) -> Running:
        """Start the image at ``path``.

        Args:
            path: of the image.
            allow_missing: names of protections that the machine may do without.
            sockets: by grant, such as ``listen:web``; the enclave gets a duplicate of each.

        Raises:
            KluisError: the image cannot be launched; with the reason.
        """

    def root_pem(self) -> bytes:
        """The root certificate for its enclaves' evidence, PEM."""

    def collateral(self) -> bytes:
        """Fresh collateral, JSON in the format of ``dcap-qvl``."""

    def status(self) -> dict[str, Any]:
        """Its status: level, version, missing protections, enclaves."""
