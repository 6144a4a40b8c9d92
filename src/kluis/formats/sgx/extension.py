"""The SGX extension of a PCK certificate: what the platform is. Nothing here is verified.

Spec: Intel "SGX PCK Certificate and CRL Profile Specification", "SGX Extension",
OID 1.2.840.113741.1.13.1: a SEQUENCE of (identifier, value), in any order.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from kluis.errors import FormatError
from kluis.formats import der

OID: Final = "1.2.840.113741.1.13.1"
COMPONENTS: Final = 16
_TCB_ORDER: Final = tuple(range(1, 19))
_WHAT: Final = "SGX extension"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """How a multi-package platform is set up; Platform CA certificates alone carry it."""

    dynamic_platform: bool
    cached_keys: bool
    smt_enabled: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SgxExtension:
    """The platform's identity and TCB, as the certificate authority states them.

    Attributes:
        ppid: 16 bytes, names the platform.
        components: 16 component SVNs, 0..255 each.
        pcesvn: 0..65535.
        cpusvn: 16 bytes, opaque.
        pceid: 2 bytes.
        fmspc: 6 bytes, names the kind of platform.
        sgx_type: 0 standard, 1 scalable, 2 scalable with integrity.
        platform_instance_id: 16 bytes, or None.
        configuration: or None.
        order: sub-identifiers as they came, so that writing gives the same bytes.
        tcb_order: the same for the TCB's 18 entries.
    """

    ppid: bytes
    components: tuple[int, ...]
    pcesvn: int
    cpusvn: bytes
    pceid: bytes
    fmspc: bytes
    sgx_type: int
    platform_instance_id: bytes | None = None
    configuration: Configuration | None = None
    order: tuple[int, ...] = (1, 2, 3, 4, 5)
    tcb_order: tuple[int, ...] = _TCB_ORDER

    def encode(self) -> bytes:
        """Write the extension's value."""
        tcb = [der.integer(svn) for svn in self.components]
        tcb += [der.integer(self.pcesvn), der.element(der.OCTET_STRING, self.cpusvn)]
        values = {
            1: der.element(der.OCTET_STRING, self.ppid),
            2: der.element(der.SEQUENCE, *(_pair(f"2.{i}", tcb[i - 1]) for i in self.tcb_order)),
            3: der.element(der.OCTET_STRING, self.pceid),
            4: der.element(der.OCTET_STRING, self.fmspc),
            5: der.integer(self.sgx_type, der.ENUMERATED),
        }
        if self.platform_instance_id is not None:
            values[6] = der.element(der.OCTET_STRING, self.platform_instance_id)
        if self.configuration is not None:
            flags = dataclasses.astuple(self.configuration)
            values[7] = der.element(
                der.SEQUENCE, *(_pair(f"7.{i}", der.boolean(flag)) for i, flag in enumerate(flags, 1))
            )
        return der.element(der.SEQUENCE, *(_pair(str(i), values[i]) for i in self.order))


def parse(data: bytes) -> SgxExtension:
    """Read the extension's value.

    Raises:
        FormatError: not DER, an entry missing, repeated, unknown or out of range.
    """
    top = _entries(der.parse(data, _WHAT), "", {1, 2, 3, 4, 5}, {6, 7})
    tcb = _entries(top[2], "2.", set(_TCB_ORDER), set())
    configuration = None
    if 7 in top:
        flags = _entries(top[7], "7.", {1, 2, 3}, set())
        if tuple(flags) != (1, 2, 3):
            raise FormatError(f"{_WHAT}.7: entries are out of order", code="bad_encoding")
        configuration = Configuration(
            dynamic_platform=flags[1].boolean(),
            cached_keys=flags[2].boolean(),
            smt_enabled=flags[3].boolean(),
        )
    return SgxExtension(
        ppid=top[1].octets(16),
        components=tuple(tcb[i].integer(255) for i in range(1, COMPONENTS + 1)),
        pcesvn=tcb[17].integer(0xFFFF),
        cpusvn=tcb[18].octets(16),
        pceid=top[3].octets(2),
        fmspc=top[4].octets(6),
        sgx_type=top[5].integer(2, der.ENUMERATED),
        platform_instance_id=top[6].octets(16) if 6 in top else None,
        configuration=configuration,
        order=tuple(top),
        tcb_order=tuple(tcb),
    )


def _pair(suffix: str, value: bytes) -> bytes:
    return der.element(der.SEQUENCE, der.oid(f"{OID}.{suffix}"), value)


def _entries(
    sequence: der.Element, under: str, required: set[int], optional: set[int]
) -> dict[int, der.Element]:
    names = {f"{OID}.{under}{index}": index for index in required | optional}
    found: dict[int, der.Element] = {}
    for child in sequence.children():
        oid, value = child.pair()
        index = names.get(oid)
        if index is None:
            raise FormatError(f"{_WHAT}: unknown entry {oid}", code="bad_type")
        if index in found:
            raise FormatError(f"{_WHAT}: entry {oid} stands twice", code="duplicate_key")
        found[index] = dataclasses.replace(value, what=f"{_WHAT}.{under}{index}")
    if missing := required - set(found):
        raise FormatError(f"{_WHAT}: entry {under}{min(missing)} is missing", code="truncated")
    return found
