"""Parse the JSON of NVIDIA's attestation SDK: reports and their chains. Nothing here is verified.

Spec: NVIDIA attestation SDK 2026-05, "serialized evidence": a list of objects whose members
``evidence`` and ``certificate`` are base64 of the report and of PEM. Confidential Containers
guest-components 0.14, ``attester``, ``nvidia``: the same in ``device_evidence_list``, without the nonce.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen

MAX_SIZE: Final = 4 << 20
MAX_DEVICES: Final = 64
_WHAT: Final = "NVIDIA SDK evidence"
_COCO: Final = "CoCo NVIDIA evidence"
_LIST: Final = "device_evidence_list"
_COCO_KNOWN: Final = {"arch", "uuid", "evidence", "certificate"}
_KNOWN: Final = {"version", "arch", "nonce", "vbios_version", "driver_version", "evidence", "certificate"}


@frozen
class Device:
    """One device's report.

    Attributes:
        report: the report.
        chain: PEM, leaf first.
        nonce: 32 bytes, the stated nonce of the report; None if it is not stated.
    """

    report: bytes
    chain: bytes
    nonce: bytes | None


def matches(data: bytes) -> bool:
    """Whether bytes look like such a list."""
    return data[:1] == b"[" and b'"arch"' in data[:4096] and b'"evidence"' in data


def matches_coco(data: bytes) -> bool:
    """Whether bytes look like such a list of Confidential Containers."""
    return data[:1] == b"{" and b'"device_evidence_list"' in data[:64]


def parse(data: bytes) -> tuple[Device, ...]:
    """Read the devices, at most 64.

    Raises:
        FormatError: malformed, or an unknown member.
    """
    value = jcs.loads(data, _WHAT, max_size=MAX_SIZE, max_depth=4)
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_DEVICES:
        raise FormatError(f"{_WHAT}: want a list of 1..{MAX_DEVICES} devices", code="bad_type")
    return tuple(_device(Members(item, f"{_WHAT}[{index}]"), _KNOWN) for index, item in enumerate(value))


def parse_coco(data: bytes) -> tuple[Device, ...]:
    """Read the devices of Confidential Containers' list, at most 64.

    Raises:
        FormatError: malformed, or an unknown member.
    """
    value = Members(jcs.loads(data, _COCO, max_size=MAX_SIZE, max_depth=4), _COCO)
    value.only((_LIST,))
    return tuple(_device(each, _COCO_KNOWN) for each in value.objects(_LIST, most=MAX_DEVICES))


def only(devices: tuple[Device, ...]) -> Device:
    """Return the only device.

    Raises:
        UnsupportedError: several devices, or none.
    """
    if len(devices) != 1:
        raise UnsupportedError(
            f"{_WHAT}: want 1 device, got {len(devices)}",
            hint="each device has separate evidence: verify one entry of the list at a time",
            code="bad_length",
        )
    return devices[0]


def _device(value: Members, known: set[str]) -> Device:
    unknown = sorted(set(value.entries(most=16)) - known)
    if unknown:
        raise FormatError(f"{value.what}: does not know member {unknown[0]!a}", code="bad_type")
    return Device(
        report=b64.decode(value.text("evidence"), f"{value.what}.evidence"),
        chain=b64.decode(value.text("certificate"), f"{value.what}.certificate"),
        nonce=value.hex("nonce", 32) if "nonce" in known else None,
    )
