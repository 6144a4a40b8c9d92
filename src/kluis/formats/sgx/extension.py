"""Parse the SGX extension of a PCK certificate, which describes the platform. Nothing here is verified.

Spec: Intel "SGX PCK Certificate and CRL Profile Specification", "SGX Extension",
OID 1.2.840.113741.1.13.1: a SEQUENCE of (identifier, value), in any order.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding import der
from kluis.frozen import frozen

OID: Final = "1.2.840.113741.1.13.1"
COMPONENTS: Final = 16
_TCB_ORDER: Final = tuple(range(1, 19))
_WHAT: Final = "SGX extension"


@frozen
class Configuration:
    """The configuration of a multi-package platform; only Platform CA certificates have it."""

    dynamic_platform: bool
    cached_keys: bool
    smt_enabled: bool


@frozen(kw_only=True)
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
        order: of sub-identifiers, so that writing produces the same bytes.
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
    """Parse the extension's value.

    Raises:
        FormatError: not DER, an entry missing, repeated, unknown or out of range.
    """
    usual = _USUAL.fullmatch(data)
    if usual is not None:
        extension = _of_usual(usual, len(data))
        if extension is not None:
            return extension
    top = _entries(der.parse(data, _WHAT), _WHAT, _TOP, required=5)
    tcb = _entries(top[2], f"{_WHAT}.2", _TCB, required=18)
    return SgxExtension(
        ppid=top[1].octets(16, f"{_WHAT}.1"),
        components=tuple([tcb[i].integer(255, f"{_WHAT}.2") for i in _COMPONENT_RANGE]),
        pcesvn=tcb[17].integer(0xFFFF, f"{_WHAT}.2.17"),
        cpusvn=tcb[18].octets(16, f"{_WHAT}.2.18"),
        pceid=top[3].octets(2, f"{_WHAT}.3"),
        fmspc=top[4].octets(6, f"{_WHAT}.4"),
        sgx_type=top[5].integer(2, f"{_WHAT}.5", der.ENUMERATED),
        platform_instance_id=top[6].octets(16, f"{_WHAT}.6") if 6 in top else None,
        configuration=_configuration(top[7]) if 7 in top else None,
        order=tuple(top),
        tcb_order=tuple(tcb),
    )


def _configuration(value: der.Element) -> Configuration:
    what = f"{_WHAT}.7"
    flags = _entries(value, what, _FLAGS, required=3)
    if tuple(flags) != (1, 2, 3):
        raise FormatError(f"{what}: entries are out of order", code="bad_encoding")
    return Configuration(
        dynamic_platform=flags[1].boolean(what),
        cached_keys=flags[2].boolean(what),
        smt_enabled=flags[3].boolean(what),
    )


def _names(under: str, count: int) -> dict[bytes, int]:
    return {der.oid(f"{OID}.{under}{index}"): index for index in range(1, count + 1)}


_TOP: Final = _names("", 7)
_TCB: Final = _names("2.", 18)
_FLAGS: Final = _names("7.", 3)
_COMPONENT_RANGE: Final = range(1, COMPONENTS + 1)


def _pair(suffix: str, value: bytes) -> bytes:
    return der.element(der.SEQUENCE, der.oid(f"{OID}.{suffix}"), value)


def _entries(
    sequence: der.Element, what: str, names: dict[bytes, int], *, required: int
) -> dict[int, der.Element]:
    pairs = sequence.pairs(what)
    entries: dict[int, der.Element] = {}
    for oid, value in pairs:
        index = names.get(oid)
        if index is None:
            raise FormatError(f"{what}: entry {oid.hex()} is not known", code="bad_type")
        entries[index] = value
    if len(entries) != len(pairs):
        raise FormatError(f"{what}: an entry appears twice", code="duplicate_key")
    for index in range(1, required + 1):
        if index not in entries:
            raise FormatError(f"{what}: entry {index} is missing", code="truncated")
    return entries


# Intel writes the entries in order, so one pattern reads what the lines above read in any order. Lengths that
# the pattern cannot check are checked separately.
def _oid_pattern(suffix: str) -> bytes:
    return re.escape(der.oid(f"{OID}.{suffix}"))


def _svn(index: int) -> bytes:
    name = _oid_pattern(f"2.{index}")
    return rb"(\x30(?:\x10%s\x02\x01[\x00-\x7f]|\x11%s\x02\x02\x00[\x80-\xff]))" % (name, name)


def _pcesvn() -> bytes:
    name = _oid_pattern("2.17")
    two, three = rb"(?:\x00[\x80-\xff]|[\x01-\x7f].)", rb"\x00[\x80-\xff]."
    return rb"(\x30(?:\x10%s\x02\x01[\x00-\x7f]|\x11%s\x02\x02%s|\x12%s\x02\x03%s))" % (
        name,
        name,
        two,
        name,
        three,
    )


_USUAL: Final = re.compile(
    rb"\x30\x82(?P<all>..)"
    + rb"\x30\x1e%s\x04\x10(?P<ppid>.{16})" % _oid_pattern("1")
    + rb"\x30\x82(?P<outer>..)%s\x30\x82(?P<inner>..)" % _oid_pattern("2")
    + b"".join(map(_svn, _COMPONENT_RANGE))
    + _pcesvn()
    + rb"\x30\x1f%s\x04\x10(?P<cpusvn>.{16})" % _oid_pattern("2.18")
    + rb"\x30\x10%s\x04\x02(?P<pceid>..)" % _oid_pattern("3")
    + rb"\x30\x14%s\x04\x06(?P<fmspc>.{6})" % _oid_pattern("4")
    + rb"\x30\x0f%s\x0a\x01(?P<type>[\x00-\x02])" % _oid_pattern("5")
    + rb"(?:\x30\x1e%s\x04\x10(?P<instance>.{16})" % _oid_pattern("6")
    + rb"\x30\x44%s\x30\x36" % _oid_pattern("7")
    + b"".join(rb"\x30\x10%s\x01\x01([\x00\xff])" % _oid_pattern(f"7.{index}") for index in range(1, 4))
    + rb")?",
    re.DOTALL,
)
_SHORT_ORDER: Final = (1, 2, 3, 4, 5)
_LONG_ORDER: Final = (1, 2, 3, 4, 5, 6, 7)


def _of_usual(usual: re.Match[bytes], size: int) -> SgxExtension | None:
    """The extension as the pattern matched it; None if a length does not fit."""
    whole, ppid, outer, inner, *svns = usual.groups()
    pcesvn, cpusvn, pceid, fmspc, sgx_type, instance, *flags = svns[COMPONENTS:]
    entries = usual.end("cpusvn") - usual.end("inner")
    lengths = (whole + outer + inner, size - 4, entries + 16, entries)
    if lengths[0] != b"".join(length.to_bytes(2, "big") for length in lengths[1:]) or entries < 0x100:
        return None
    return SgxExtension(
        ppid=ppid,
        components=tuple([svn[-1] for svn in svns[:COMPONENTS]]),
        pcesvn=int.from_bytes(pcesvn[17:], "big"),
        cpusvn=cpusvn,
        pceid=pceid,
        fmspc=fmspc,
        sgx_type=sgx_type[0],
        platform_instance_id=instance,
        configuration=Configuration(*[flag == b"\xff" for flag in flags]) if instance else None,
        order=_LONG_ORDER if instance else _SHORT_ORDER,
    )
