"""Parse Windows' measurements of its boot (WBCL): events within events. Nothing here is verified.

A tagged event of PCR 11 to 14, or of PCR 17 to 22 after a dynamic launch, contains one event or a container
of events. Each has a type and a size, 4 bytes little-endian each, and a value.

Spec: Windows SDK, ``wbcl.h``, SIPAEVENT types and SIPAEVENT_VSM_IDK_INFO_PAYLOAD. Members have the header's
names, except DRTM_SMM: Microsoft's policies use this name, and the header has DRTM_SMM_LEVEL.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding.reader import Reader
from kluis.formats.x509 import PublicKey
from kluis.frozen import frozen

MAX_EVENTS: Final = 4096
MAX_DEPTH: Final = 4
MAX_MODULUS: Final = 1024
# The header leaves VSM_IDK_ALG_ID undefined; it is 1 in every log that other projects' tools have read.
RSA: Final = 1
_AGGREGATION: Final = 0x40000000
_CLASSES: Final = range(0x0001, 0x000D)


class Sipa(enum.IntEnum):
    """Events, and containers of events (of class 0x4001)."""

    TRUSTBOUNDARY = 0x40010001
    ELAM_AGGREGATION = 0x40010002
    LOADEDMODULE_AGGREGATION = 0x40010003
    KSR_AGGREGATION = 0x40010005
    KSR_SIGNED_MEASUREMENT_AGGREGATION = 0x40010006
    INFORMATION = 0x00020001
    BOOTCOUNTER = 0x00020002
    TRANSFER_CONTROL = 0x00020003
    APPLICATION_RETURN = 0x00020004
    BITLOCKER_UNLOCK = 0x00020005
    EVENTCOUNTER = 0x00020006
    COUNTERID = 0x00020007
    MORBIT_NOT_CANCELABLE = 0x00020008
    APPLICATION_SVN = 0x00020009
    SVN_CHAIN_STATUS = 0x0002000A
    MORBIT_API_STATUS = 0x0002000B
    IDK_GENERATION_STATUS = 0x0002000C
    BOOTDEBUGGING = 0x00040001
    BOOT_REVOCATION_LIST = 0x00040002
    OSKERNELDEBUG = 0x00050001
    CODEINTEGRITY = 0x00050002
    TESTSIGNING = 0x00050003
    DATAEXECUTIONPREVENTION = 0x00050004
    SAFEMODE = 0x00050005
    WINPE = 0x00050006
    PHYSICALADDRESSEXTENSION = 0x00050007
    OSDEVICE = 0x00050008
    SYSTEMROOT = 0x00050009
    HYPERVISOR_LAUNCH_TYPE = 0x0005000A
    HYPERVISOR_PATH = 0x0005000B
    HYPERVISOR_IOMMU_POLICY = 0x0005000C
    HYPERVISOR_DEBUG = 0x0005000D
    DRIVER_LOAD_POLICY = 0x0005000E
    SI_POLICY = 0x0005000F
    HYPERVISOR_MMIO_NX_POLICY = 0x00050010
    HYPERVISOR_MSR_FILTER_POLICY = 0x00050011
    VSM_LAUNCH_TYPE = 0x00050012
    OS_REVOCATION_LIST = 0x00050013
    SMT_STATUS = 0x00050014
    VSM_IDK_INFO = 0x00050020
    FLIGHTSIGNING = 0x00050021
    PAGEFILE_ENCRYPTION_ENABLED = 0x00050022
    VSM_IDKS_INFO = 0x00050023
    HIBERNATION_DISABLED = 0x00050024
    DUMPS_DISABLED = 0x00050025
    DUMP_ENCRYPTION_ENABLED = 0x00050026
    DUMP_ENCRYPTION_KEY_DIGEST = 0x00050027
    LSAISO_CONFIG = 0x00050028
    SBCP_INFO = 0x00050029
    HYPERVISOR_BOOT_DMA_PROTECTION = 0x00050030
    SI_POLICY_SIGNER = 0x00050031
    SI_POLICY_UPDATE_SIGNER = 0x00050032
    NOAUTHORITY = 0x00060001
    AUTHORITYPUBKEY = 0x00060002
    FILEPATH = 0x00070001
    IMAGESIZE = 0x00070002
    HASHALGORITHMID = 0x00070003
    AUTHENTICODEHASH = 0x00070004
    AUTHORITYISSUER = 0x00070005
    AUTHORITYSERIAL = 0x00070006
    IMAGEBASE = 0x00070007
    AUTHORITYPUBLISHER = 0x00070008
    AUTHORITYSHA1THUMBPRINT = 0x00070009
    IMAGEVALIDATED = 0x0007000A
    MODULE_SVN = 0x0007000B
    MODULE_PLUTON = 0x0007000C
    ELAM_KEYNAME = 0x00090001
    ELAM_CONFIGURATION = 0x00090002
    ELAM_POLICY = 0x00090003
    ELAM_MEASURED = 0x00090004
    VBS_VSM_REQUIRED = 0x000A0001
    VBS_SECUREBOOT_REQUIRED = 0x000A0002
    VBS_IOMMU_REQUIRED = 0x000A0003
    VBS_MMIO_NX_REQUIRED = 0x000A0004
    VBS_MSR_FILTERING_REQUIRED = 0x000A0005
    VBS_MANDATORY_ENFORCEMENT = 0x000A0006
    VBS_HVCI_POLICY = 0x000A0007
    VBS_MICROSOFT_BOOT_CHAIN_REQUIRED = 0x000A0008
    VBS_DUMP_USES_AMEROOT = 0x000A0009
    VBS_VSM_NOSECRETS_ENFORCED = 0x000A000A
    KSR_SIGNATURE = 0x000B0001
    DRTM_STATE_AUTH = 0x000C0001
    DRTM_SMM = 0x000C0002
    DRTM_AMD_SMM_HASH = 0x000C0003
    DRTM_AMD_SMM_SIGNER_KEY = 0x000C0004


@frozen
class Node:
    """One event.

    Attributes:
        kind: its type, a :class:`Sipa` if it is known.
        value: bytes.
        within: the events in a container.
    """

    kind: int
    value: bytes
    within: tuple[Node, ...] = ()


def matches(data: bytes) -> bool:
    """Whether the data of a tagged event start like Windows' own: others also tag events in these PCRs."""
    return len(data) >= 8 and int.from_bytes(data[:4], "little") >> 16 & 0x3FFF in _CLASSES


def tree(data: bytes) -> tuple[Node, ...]:
    """Every event, with the contents of each container.

    Raises:
        FormatError: a size that does not fit, more than 4096 events, or containers 5 deep.
    """
    return _within(data, 0, [0])


def events(data: bytes) -> list[tuple[int, bytes]]:
    """Every event as type and value; a container comes before its contents.

    Raises:
        FormatError: as for :func:`tree`.
    """
    return list(flat(tree(data)))


def flat(nodes: tuple[Node, ...]) -> Iterator[tuple[int, bytes]]:
    """The type and value of each event; a container comes before its contents."""
    for node in nodes:
        yield node.kind, node.value
        yield from flat(node.within)


def number(value: bytes) -> int:
    """An event's value as a number: little-endian, at most 8 bytes.

    Raises:
        FormatError: it is longer.
    """
    if len(value) > 8:
        raise FormatError(f"WBCL: want a number of at most 8 bytes, got {len(value)}", code="bad_length")
    return int.from_bytes(value, "little")


def identity_key(value: bytes) -> PublicKey:
    """Parse the key of VSM_IDK_INFO or VSM_IDKS_INFO.

    Algorithm, bits of the modulus, bytes of exponent and modulus, each 4 bytes little-endian; exponent and
    modulus, big-endian.

    Raises:
        FormatError: not an RSA key, or sizes that do not fit.
    """
    r = Reader(value, "IDK")
    algorithm, bits, e_size, n_size = (r.u32(name) for name in ("algorithm", "bits", "e", "n"))
    if algorithm != RSA or not 1 <= e_size <= 8 or not 1 <= n_size <= MAX_MODULUS:
        raise FormatError("IDK: want an RSA key", code="bad_type")
    exponent, modulus = int.from_bytes(r.take(e_size, "e"), "big"), int.from_bytes(r.take(n_size, "n"), "big")
    r.end()
    if modulus.bit_length() != bits:
        raise FormatError(
            f"IDK: want a modulus of {bits} bits, got {modulus.bit_length()}", code="bad_length"
        )
    return PublicKey.of_rsa(modulus, exponent)


def _within(data: bytes, depth: int, count: list[int]) -> tuple[Node, ...]:
    if depth > MAX_DEPTH:
        raise FormatError(f"WBCL: nested more than {MAX_DEPTH} deep", code="too_deep")
    r = Reader(data, "WBCL")
    nodes: list[Node] = []
    while r.left:
        if count[0] == MAX_EVENTS:
            raise FormatError(f"WBCL: more than {MAX_EVENTS} events", code="too_large")
        count[0] += 1
        kind = r.u32("type")
        value = r.take(r.u32("size"), "value")
        within = _within(value, depth + 1, count) if kind & _AGGREGATION else ()
        nodes.append(Node(kind, value, within))
    return tuple(nodes)
