"""The emulated processor of a machine without hardware, on the virtio-serial port ``kluis.psp``.

A machine that booted by ``uefi`` has a vTPM, in which the host left what the paravisor of Azure leaves there.
Then the evidence is Azure's, and only the certificates come over the port: it takes the place of Azure's
metadata service.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError
from kluis.formats.kluis.processor_port import CERTIFICATES, KEY, PORT, REPORT, SIZE_BYTES
from kluis.tee.driver import check_report_data
from kluis.tee.drivers import ioctl, reports, snp
from kluis.tee.drivers.azure import Azure
from kluis.tee.tpm import quoting
from kluis.tee.tpm.tpm import Tpm

NAMES: Final = Path("/sys/class/virtio-ports")
DEVICES: Final = Path("/dev")
MAX_PART: Final = 64 * 1024
ANSWER_SECONDS: Final = 120.0


class Emulated:
    """The driver over the port; its evidence has an emulated root, which states that there is no hardware.

    Args:
        device: a character device; by default the port, by its name.
        seconds: to wait for a whole answer.
        tpm: opens the vTPM.
        event_log: of the firmware.
    """

    name = "emulated"

    def __init__(
        self,
        device: Path | None = None,
        seconds: float = ANSWER_SECONDS,
        tpm: Callable[[], Tpm] = Tpm.open,
        event_log: Path = quoting.EVENT_LOG,
    ) -> None:
        self._device = device
        self._seconds = seconds
        self._vtpm = Azure(tpm, event_log=event_log, certificates=self._certificates)

    def available(self) -> str | None:
        """Why it cannot be used; None if it can."""
        device = self._device or find()
        return f"{self.name}: no port {PORT}" if device is None else ioctl.missing(self.name, device)

    def kind(self) -> str:
        """``snp`` or ``azure-snp``: the evidence is byte for byte that of SEV-SNP, or of Azure."""
        return "snp" if self._vtpm.available() else self._vtpm.kind()

    def endorse(self, report_data: bytes) -> Mapping[str, bytes]:
        """Get a report or the vTPM's quote, the certificates and the CRL."""
        check_report_data(report_data)
        if self.kind() != "snp":
            return self._vtpm.endorse(report_data)
        with self._open() as port:
            response = self._ask(port, REPORT, snp.report_request(report_data, 0), snp.REPORT_RESPONSE)
        parts = reports.snp_response(self.name, response, report_data, b"", 0)
        return {**parts, **self._certificates()}

    def seal_secret(self) -> bytes | None:
        """The key derived for this guest's policy and measurement; the same at each boot of this guest.

        None with a vTPM: what is sealed is sealed to it.
        """
        if self.kind() != "snp":
            return None
        with self._open() as port:
            return snp.derived_key(
                self.name, self._ask(port, KEY, snp.key_request(level=0), snp.KEY_RESPONSE)
            )

    def _certificates(self) -> Mapping[str, bytes]:
        with self._open() as port:
            self._send(port, CERTIFICATES)
            return {"certificates": self._part(port), "crl": self._part(port)}

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        device = self._device or find()
        if device is None:
            raise UnavailableError(f"{self.name}: no port {PORT}", code="driver_absent")
        with ioctl.device(self.name, device) as port:
            yield port

    def _ask(self, port: int, kind: bytes, request: bytes, size: int) -> bytes:
        self._send(port, kind + request)
        return self._read(port, size)

    def _send(self, port: int, data: bytes) -> None:
        if os.write(port, data) != len(data):
            raise UnavailableError(f"{self.name}: the port takes no request", code="driver_refused")

    def _part(self, port: int) -> bytes:
        size = int.from_bytes(self._read(port, SIZE_BYTES), "little")
        if not 0 < size <= MAX_PART:
            raise UnavailableError(
                f"{self.name}: part: want 1..{MAX_PART} bytes, got {size}", code="driver_answer"
            )
        return self._read(port, size)

    def _read(self, port: int, size: int) -> bytes:
        poll, data, until = select.poll(), b"", time.monotonic() + self._seconds
        poll.register(port, select.POLLIN)
        while len(data) < size:
            ready = poll.poll(max(until - time.monotonic(), 0) * 1000)
            more = os.read(port, size - len(data)) if ready and ready[0][1] & select.POLLIN else b""
            if not more:
                raise UnavailableError(
                    f"{self.name}: want an answer of {size} bytes, got {len(data)}",
                    hint="the host ended, or answers for no processor",
                    code="driver_refused",
                )
            data += more
        return data


def find(names: Path = NAMES, devices: Path = DEVICES) -> Path | None:
    """The device of the port; None if this machine has none."""
    for entry in sorted(names.iterdir()) if names.is_dir() else ():
        if (entry / "name").read_text().strip() == PORT:
            return devices / entry.name
    return None
