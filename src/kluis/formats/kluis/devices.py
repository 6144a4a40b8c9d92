"""The devices of a machine, as software that its TEE measured states them. Nothing here is verified.

It is the payload of runtime data of purpose ``devices``, whose hash the processor's evidence binds:

    {"devices": [{"device_nonce": hex, "nonce": hex}], "version": 1}

Canonical JSON (RFC 8785). A GPU's report contains two nonces: that of its requester, and one of the device,
which nobody else chooses. Together they name one report. So a report of another machine's GPU is not named,
although anyone can request one over the same nonce.
"""

from __future__ import annotations

from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from kluis.frozen import frozen

MAX_SIZE: Final = 16 * 1024
MAX_DEVICES: Final = 64
NONCE_SIZE: Final = 32
NO_IMAGE: Final = bytes(32)
_WHAT: Final = "devices"


@frozen
class NamedReport:
    """One report of a device.

    Attributes:
        nonce: of the requester, 32 bytes.
        device_nonce: of the device, 32 bytes.
    """

    nonce: bytes
    device_nonce: bytes


@frozen
class Devices:
    """The document: 1 to 64 reports, each of another device."""

    reports: tuple[NamedReport, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.reports) <= MAX_DEVICES or len(set(self.reports)) != len(self.reports):
            raise FormatError(f"{_WHAT}: want 1..{MAX_DEVICES} reports, none twice", code="bad_length")

    def encode(self) -> bytes:
        """Write the document."""
        listed = [
            {"nonce": each.nonce.hex(), "device_nonce": each.device_nonce.hex()} for each in self.reports
        ]
        return jcs.dumps({"version": 1, "devices": listed})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a document in its one canonical form.

        Raises:
            UnsupportedError: another version.
            FormatError: not canonical, a member missing, unknown or of the wrong kind.
        """
        value = Members(jcs.loads_canonical(data, _WHAT, max_size=MAX_SIZE), _WHAT)
        value.only(("devices", "version"))
        value.version(1)
        return cls(tuple(map(_report, value.objects("devices", most=MAX_DEVICES))))

    def runtime_data(self, nonce: bytes) -> bytes:
        """The document for the processor's report data: runtime data of purpose ``devices``.

        Args:
            nonce: the relying party's, at most 64 bytes.
        """
        return RuntimeData(
            purpose=Purpose.DEVICES, image_id=NO_IMAGE, nonce=nonce, payload=self.encode()
        ).encode()


def _report(value: Members) -> NamedReport:
    value.only(("device_nonce", "nonce"))
    return NamedReport(
        nonce=value.hex("nonce", NONCE_SIZE, lower=True),
        device_nonce=value.hex("device_nonce", NONCE_SIZE, lower=True),
    )
