"""AWS: an attestation document of the Nitro Security Module, in an enclave or an instance with NitroTPM.

An instance with SEV-SNP also has its report, by driver ``tsm``.

Spec: Linux, ``include/uapi/linux/nsm.h``; AWS "NitroTPM Attestation", with a vendor command of the TPM that
reads the request from an NV index and writes its answer there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from kluis.errors import FormatError, KluisError, UnavailableError
from kluis.formats.encoding.layout import U64, Struct, at, layout
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.command import Authorization, Command
from kluis.formats.tpm.nv import NvAttribute, NvPublic
from kluis.tee.driver import answers, check_equal, check_report_data
from kluis.tee.drivers import ioctl
from kluis.tee.tpm.tpm import Tpm

DEVICE: Final = Path("/dev/nsm")
VENDOR: Final = Path("/sys/class/dmi/id/sys_vendor")
AMAZON: Final = "Amazon EC2"
RAW: Final = 0xC0200A00
BUFFER: Final = 0x0180_4B4E
BUFFER_SIZE: Final = 8192
_ACCESS: Final = NvAttribute.AUTH_READ | NvAttribute.AUTH_WRITE | NvAttribute.NO_DA


@layout("nsm_raw", 32)
class _Messages(Struct):
    request: int = at(0, U64)
    request_size: int = at(8, U64)
    answer: int = at(16, U64)
    answer_size: int = at(24, U64)


class Aws:
    """The driver of AWS.

    Args:
        device: the Nitro Security Module of an enclave.
        tpm: opens an instance's NitroTPM.
        vendor: file with the name of the machine's vendor.
    """

    name = "aws"

    def __init__(
        self, device: Path = DEVICE, tpm: Callable[[], Tpm] = Tpm.open, vendor: Path = VENDOR
    ) -> None:
        self._device = device
        self._tpm = tpm
        self._vendor = vendor

    def available(self) -> str | None:
        """Why it cannot be used; None if it can."""
        try:
            if self.kind() == "nitro":
                return ioctl.missing(self.name, self._device)
            with self._tpm():
                return None
        except KluisError as error:
            return error.message

    def kind(self) -> str:
        """``nitro`` in an enclave, ``nitro-tpm`` in an instance."""
        if self._device.exists():
            return "nitro"
        with contextlib.suppress(OSError):
            if self._vendor.read_text("ascii", "replace").strip() == AMAZON:
                return "nitro-tpm"
        raise UnavailableError(
            f"aws: no {self._device}, and this is no instance of {AMAZON}", code="driver_absent"
        )

    def endorse(self, report_data: bytes) -> Mapping[str, bytes]:
        """Get a document with the report data as its user data."""
        # Every guest imports this driver, and these import all of cryptography.
        from kluis.formats.nitro import nsm
        from kluis.formats.nitro.document import Document

        check_report_data(report_data)
        request = nsm.request_document(report_data)
        answer = (
            self._by_device(request, nsm.MAX_RESPONSE) if self.kind() == "nitro" else self._by_tpm(request)
        )
        with answers(self.name):
            document = nsm.parse_document(answer)
            check_equal(self.name, "user data", report_data, Document.parse(document).user_data)
        return {"document": document}

    def seal_secret(self) -> None:
        """None: the module derives no keys."""
        return

    def _by_device(self, request: bytes, most: int) -> bytes:
        sent, answer = bytearray(request), bytearray(most)
        addressed = _Messages(
            request=ioctl.address(sent),
            request_size=len(sent),
            answer=ioctl.address(answer),
            answer_size=len(answer),
        )
        messages = bytearray(addressed.encode())
        with ioctl.device(self.name, self._device) as descriptor:
            ioctl.send(self.name, descriptor, RAW, messages)
        size = _Messages.parse(bytes(messages)).answer_size
        with answers(self.name):
            if size > len(answer):
                raise FormatError(f"NSM answer: want at most {len(answer)} bytes, got {size}")
        return bytes(answer[:size])

    def _by_tpm(self, request: bytes) -> bytes:
        with answers(self.name), self._tpm() as tpm, _buffer(tpm) as secret:
            tpm.nv_write(BUFFER, request, secret=secret)
            tpm.run(Command.AWS_NSM_REQUEST, (BUFFER, BUFFER), auth=(Authorization(secret=secret),))
            return tpm.nv_read(BUFFER, BUFFER_SIZE, secret=secret)


@contextlib.contextmanager
def _buffer(tpm: Tpm) -> Iterator[bytes]:
    """An NV index for the messages, with a random authorization value; removed at the end."""
    secret = os.urandom(32)
    area = NvPublic(index=BUFFER, name_hash=HashId.SHA256, attributes=_ACCESS, policy=b"", size=BUFFER_SIZE)
    tpm.nv_define(area, secret)
    try:
        yield secret
    finally:
        tpm.nv_undefine(BUFFER)
