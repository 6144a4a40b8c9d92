"""The emulated processor of a machine without hardware, on the virtio-serial port ``kluis.psp``.

A request is one byte for its kind, and then:

| kind | request | answer |
|---|---|---|
| 1: report | 96 bytes, as ``SNP_GET_REPORT`` | 4000 bytes, as ``SNP_GET_REPORT`` |
| 2: derived key | 32 bytes, as ``SNP_GET_DERIVED_KEY`` | 64 bytes, as ``SNP_GET_DERIVED_KEY`` |
| 3: certificates | nothing | size (u32, little-endian) and VCEK, ASK, ARK in PEM; size and the CRL in DER |
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from kluis.errors import UnavailableError
from kluis.tee.drivers import ioctl, reports, snp
from kluis.tee.drivers.driver import check_report_data

PORT: Final = "kluis.psp"
NAMES: Final = Path("/sys/class/virtio-ports")
DEVICES: Final = Path("/dev")
REPORT, KEY, CERTIFICATES = b"\1", b"\2", b"\3"
SIZES: Final[Mapping[bytes, int]] = MappingProxyType({REPORT: 96, KEY: 32, CERTIFICATES: 0})
MAX_PART: Final = 64 * 1024
ANSWER_SECONDS: Final = 120.0


class Emulated:
    """The driver over the port; its evidence has an emulated root, which states that there is no hardware.

    Args:
        device: a character device; by default the port, by its name.
        seconds: to wait for an answer.
    """

    name = "emulated"

    def __init__(self, device: Path | None = None, seconds: float = ANSWER_SECONDS) -> None:
        self._device = device
        self._seconds = seconds

    def available(self) -> str | None:
        """Why it cannot be used; None if it can."""
        device = self._device or find()
        return f"{self.name}: no port {PORT}" if device is None else ioctl.missing(self.name, device)

    def kind(self) -> str:
        """``snp``: the evidence is byte for byte that of SEV-SNP."""
        return "snp"

    def endorse(self, report_data: bytes) -> Mapping[str, bytes]:
        """Get a report, its certificates and the CRL."""
        check_report_data(report_data)
        with self._open() as port:
            response = self._ask(port, REPORT, snp.report_request(report_data, 0), snp.REPORT_RESPONSE)
            self._send(port, CERTIFICATES)
            certificates, crl = self._part(port), self._part(port)
        parts = reports.snp_response(self.name, response, report_data, b"", 0)
        return {**parts, "certificates": certificates, "crl": crl}

    def seal_secret(self) -> bytes:
        """The key derived for this guest's policy and measurement; the same at each boot of this guest."""
        with self._open() as port:
            return snp.derived_key(
                self.name, self._ask(port, KEY, snp.key_request(level=0), snp.KEY_RESPONSE)
            )

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
        size = int.from_bytes(self._read(port, 4), "little")
        if not 0 < size <= MAX_PART:
            raise UnavailableError(
                f"{self.name}: part: want 1..{MAX_PART} bytes, got {size}", code="driver_answer"
            )
        return self._read(port, size)

    def _read(self, port: int, size: int) -> bytes:
        poll, data = select.poll(), b""
        poll.register(port, select.POLLIN)
        while len(data) < size:
            ready = poll.poll(self._seconds * 1000)
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
