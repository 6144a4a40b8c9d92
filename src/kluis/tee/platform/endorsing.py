"""Have this machine's TEE endorse the root of the platform that runs in it.

Anyone who is root in a machine can have its TEE endorse any key. So an endorsement is worth what the
machine's measurements tell about the software that runs there.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Final, Protocol

from kluis.formats import x509
from kluis.formats.kluis import machine, runtime_data
from kluis.formats.kluis.endorsement import Endorsement
from kluis.formats.kluis.machine import MachineConfiguration
from kluis.tee.driver import Driver

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Endorsable(Protocol):
    """A platform that this process may give orders to."""

    def root_pem(self) -> bytes:
        """The root certificate, PEM."""

    def status(self) -> dict[str, Any]:
        """Its status."""

    def order(self, op: str, **order: Any) -> dict[str, Any]:
        """Carry out an order of upkeep."""


def endorse(
    platform: Endorsable,
    driver: Driver,
    *,
    only: bytes | None = None,
    release: str = "",
    debug: bool = False,
    missing: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Get evidence over the key of a platform's root, and have the platform publish it in its collateral.

    Args:
        platform: on this machine.
        driver: of this machine's TEE.
        only: the image id of the only image that this machine runs, 32 bytes; None if it may run any.
        release: of the guest; empty if nobody measured one.
        debug: whether the machine lets its host look inside.
        missing: protections that the machine around the platform does not have.

    Returns:
        The platform's status.

    Raises:
        UnavailableError: the TEE refuses, or the platform is gone.
        PolicyError: this process may not give the platform orders.
    """
    (root,) = x509.parse_pem(platform.root_pem(), "root")
    document = MachineConfiguration(
        root=machine.name_of(root.spki),
        boot=uuid.UUID(BOOT_ID.read_text().strip()).bytes,
        debug=debug,
        missing=tuple(sorted({*platform.status()["missing"], *missing})),
        only=only,
        release=release,
    ).runtime_data()
    parts = driver.endorse(runtime_data.report_data(document))
    made = Endorsement(kind=driver.kind(), runtime_data=document, parts=parts).encode()
    return platform.order("endorse", endorsement=made.decode())
