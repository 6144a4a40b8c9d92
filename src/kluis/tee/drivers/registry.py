"""All drivers, chosen by detection or by name; never one in the place of another."""

from __future__ import annotations

from typing import Final

from kluis.errors import UnavailableError, unknown
from kluis.tee.driver import Driver
from kluis.tee.drivers.aws import Aws
from kluis.tee.drivers.azure import Azure
from kluis.tee.drivers.emulated import Emulated
from kluis.tee.drivers.google import Google
from kluis.tee.drivers.snp import Snp
from kluis.tee.drivers.tdx import Tdx
from kluis.tee.drivers.tpm import TpmDriver
from kluis.tee.drivers.tsm import Tsm


def all_drivers() -> tuple[Driver, ...]:
    """Every driver, in the order of detection: what proves more comes first.

    The emulated processor is before Azure: with a vTPM its evidence is Azure's, and no metadata service runs.

    AWS's instances with SEV-SNP may have a NitroTPM, too: its document does not state that the memory is
    encrypted.
    """
    return Google(), Tsm(), Snp(), Tdx(), Aws(), Emulated(), Azure(), TpmDriver()


NAMES: Final = tuple(driver.name for driver in all_drivers())


def detect(drivers: tuple[Driver, ...] | None = None) -> Driver | None:
    """The first driver that is available on this machine; None if none is.

    Args:
        drivers: to choose from, in order; by default all.
    """
    for driver in all_drivers() if drivers is None else drivers:
        if driver.available() is None:
            return driver
    return None


def by_name(name: str, drivers: tuple[Driver, ...] | None = None) -> Driver:
    """The driver called ``name``.

    Raises:
        UsageError: there is no such driver.
        UnavailableError: it cannot be used on this machine; states the reason.
    """
    known = {driver.name: driver for driver in (all_drivers() if drivers is None else drivers)}
    driver = known.get(name)
    if driver is None:
        raise unknown("driver", name, known)
    if reason := driver.available():
        raise UnavailableError(
            f"driver {name}: {reason}",
            hint="kluis doctor lists the drivers that are available",
            code="driver_absent",
        )
    return driver
