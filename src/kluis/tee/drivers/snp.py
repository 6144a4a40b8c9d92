"""SEV-SNP by ``/dev/sev-guest``, for kernels without configfs-tsm; and its derived key.

Spec: Linux, ``include/uapi/linux/sev-guest.h``; AMD 56860, SEV-SNP Firmware ABI, "MSG_REPORT_REQ",
"MSG_KEY_REQ"; AMD 56421, GHCB, "SNP Extended Guest Request".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError
from kluis.formats.encoding.layout import U8, U32, U64, Struct, at, layout
from kluis.tee.driver import check_report_data
from kluis.tee.drivers import ioctl, reports

DEVICE: Final = Path("/dev/sev-guest")
GET_REPORT: Final = 0xC0205300
GET_DERIVED_KEY: Final = 0xC0205301
GET_EXT_REPORT: Final = 0xC0205302
REPORT_RESPONSE: Final = 4000
KEY_RESPONSE: Final = 64
KEY_SIZE: Final = 32
# Linux takes no larger table.
TABLE_SIZE: Final = 16 * 1024
_VERSION: Final = 1
# The guest's policy and launch measurement: another guest, or this one in debug mode, gets another key.
_SELECTED: Final = 1 << 0 | 1 << 3


@layout("snp_guest_request_ioctl", 32)
class _Outer(Struct):
    version: int = at(0, U8)
    request: int = at(8, U64)
    response: int = at(16, U64)
    error: int = at(24, U64)


@layout("snp_report_req", 96)
class _Report(Struct):
    report_data: bytes = at(0, 64)
    level: int = at(64, U32)


@layout("snp_ext_report_req", 112)
class _Extended(_Report):
    table: int = at(96, U64)
    table_size: int = at(104, U32)


@layout("snp_derived_key_req", 32)
class _Key(Struct):
    selected: int = at(8, U64)
    level: int = at(16, U32)


class Snp:
    """The driver over ``/dev/sev-guest``.

    Args:
        device: of the kernel.
        privilege_level: VMPL to request, 0..3.
    """

    name = "snp"

    def __init__(self, device: Path = DEVICE, privilege_level: int = 0) -> None:
        self._device = device
        self._level = privilege_level

    def available(self) -> str | None:
        """Why it cannot be used; None if it can."""
        return ioctl.missing(self.name, self._device)

    def kind(self) -> str:
        """``snp``."""
        return "snp"

    def endorse(self, report_data: bytes) -> Mapping[str, bytes]:
        """Get a report, with the host's certificates if it has any."""
        check_report_data(report_data)
        table = bytearray(TABLE_SIZE)
        extended = _Extended(
            report_data=report_data, level=self._level, table=ioctl.address(table), table_size=len(table)
        )
        try:
            response = self._send(GET_EXT_REPORT, extended.encode(), REPORT_RESPONSE)
        except UnavailableError as error:
            if error.code != "driver_refused":
                raise
            # A host may refuse extended requests, or have a larger table: the report is enough.
            table = bytearray()
            plain = report_request(report_data, self._level)
            response = self._send(GET_REPORT, plain, REPORT_RESPONSE)
        return reports.snp_response(self.name, response, report_data, bytes(table), self._level)

    def seal_secret(self) -> bytes:
        """The key that the processor derives from its chip's key, the guest's policy and its measurement.

        It changes with the processor's TCB.
        """
        return derived_key(self.name, self._send(GET_DERIVED_KEY, key_request(self._level), KEY_RESPONSE))

    def _send(self, request: int, structure: bytes, size: int) -> bytes:
        argument, response = bytearray(structure), bytearray(size)
        addresses = {"request": ioctl.address(argument), "response": ioctl.address(response)}
        outer = bytearray(_Outer(version=_VERSION, error=0, **addresses).encode())
        with ioctl.device(self.name, self._device) as descriptor:
            ioctl.send(self.name, descriptor, request, outer)
        return bytes(response)


def report_request(report_data: bytes, level: int) -> bytes:
    """The request for a report over 64 bytes, at a privilege level: 96 bytes."""
    return _Report(report_data=report_data, level=level).encode()


def key_request(level: int) -> bytes:
    """The request for the key of this guest, at a privilege level: 32 bytes."""
    return _Key(selected=_SELECTED, level=level).encode()


def derived_key(name: str, response: bytes) -> bytes:
    """The key in the firmware's answer of 64 bytes.

    Raises:
        UnavailableError: the firmware refuses.
    """
    status = int.from_bytes(response[:4], "little")
    key = response[KEY_RESPONSE - KEY_SIZE :]
    if status or not any(key):
        raise UnavailableError(
            f"{name}: derived key: the firmware refuses, status {status}", code="driver_refused"
        )
    return key
