"""Windows' measurements of its boot, to the extent that an event log and the quoted PCRs prove them.

Windows closes its registers with a separator when it starts; a running system wrote any later event. Any
kernel can measure the same values as Windows, so a policy that relies on them must also check the boot:
secure boot, and PCRs. Spec: Windows SDK, ``wbcl.h``. The separator's data, "WBCL", are those that public
tools print; no recorded log was available, so other separators also close a register here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from kluis.errors import FormatError
from kluis.evidence.eventlog.judgement import LogClaims, Proof
from kluis.formats.encoding import b64
from kluis.formats.eventlog import sipa
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.log import Event
from kluis.formats.eventlog.sipa import Node, Sipa
from kluis.frozen import frozen

REGISTERS: Final = (*range(11, 15), *range(17, 23))
_SEPARATORS: Final = (b"WBCL", bytes(4), b"\xff" * 4, b"\1\0\0\0")
_FLAGS: Final = frozenset(
    {
        Sipa.BOOTDEBUGGING, Sipa.OSKERNELDEBUG, Sipa.CODEINTEGRITY, Sipa.TESTSIGNING, Sipa.SAFEMODE,
        Sipa.WINPE, Sipa.HYPERVISOR_DEBUG, Sipa.FLIGHTSIGNING, Sipa.PAGEFILE_ENCRYPTION_ENABLED,
        Sipa.HIBERNATION_DISABLED, Sipa.DUMPS_DISABLED, Sipa.DUMP_ENCRYPTION_ENABLED,
        Sipa.HYPERVISOR_BOOT_DMA_PROTECTION, Sipa.IMAGEVALIDATED, Sipa.VBS_VSM_REQUIRED,
        Sipa.VBS_SECUREBOOT_REQUIRED, Sipa.VBS_IOMMU_REQUIRED, Sipa.VBS_MMIO_NX_REQUIRED,
        Sipa.VBS_MSR_FILTERING_REQUIRED, Sipa.VBS_MANDATORY_ENFORCEMENT,
        Sipa.VBS_MICROSOFT_BOOT_CHAIN_REQUIRED,
    }
)  # fmt: skip
_BARE: Final = frozenset({Sipa.APPLICATION_SVN, Sipa.MODULE_SVN})
_NUMBERS: Final = frozenset(
    {
        Sipa.BOOTCOUNTER, Sipa.TRANSFER_CONTROL, Sipa.APPLICATION_RETURN, Sipa.BITLOCKER_UNLOCK,
        Sipa.EVENTCOUNTER, Sipa.SVN_CHAIN_STATUS, Sipa.DATAEXECUTIONPREVENTION, Sipa.OSDEVICE,
        Sipa.HYPERVISOR_LAUNCH_TYPE, Sipa.HYPERVISOR_IOMMU_POLICY, Sipa.DRIVER_LOAD_POLICY,
        Sipa.VSM_LAUNCH_TYPE, Sipa.SMT_STATUS, Sipa.LSAISO_CONFIG, Sipa.IMAGESIZE, Sipa.VBS_HVCI_POLICY,
        Sipa.DRTM_SMM,
    }
)  # fmt: skip
_TEXTS: Final = frozenset(
    {
        Sipa.SYSTEMROOT, Sipa.HYPERVISOR_PATH, Sipa.FILEPATH, Sipa.AUTHORITYISSUER, Sipa.AUTHORITYPUBLISHER,
        Sipa.ELAM_KEYNAME,
    }
)  # fmt: skip
_LISTS: Final = frozenset(
    {
        Sipa.ELAM_AGGREGATION, Sipa.LOADEDMODULE_AGGREGATION, Sipa.KSR_AGGREGATION,
        Sipa.KSR_SIGNED_MEASUREMENT_AGGREGATION, Sipa.SI_POLICY,
    }
)  # fmt: skip
# The only named value that Microsoft's policies compare.
_HVCI_ON: Final = (Sipa.VBS_HVCI_POLICY, 1, "HypervisorEnforcedCodeIntegrityEnable")
_KNOWN: Final = frozenset(int(each) for each in Sipa)


@frozen
class Measured:
    """A tagged event that Windows measured.

    Attributes:
        nodes: its contents; None if the digest does not cover it, or it cannot be read.
        early: whether its register was still open.
    """

    nodes: tuple[Node, ...] | None
    early: bool


def measured_events(log: LogClaims | None) -> Iterator[Measured]:
    """The Windows events in a log, in order."""
    if log is None:
        return
    fine = {hashlib.new(log.bank.label, data).digest() for data in _SEPARATORS}
    closed: set[int | None] = set()
    for each in log.events:
        event = each.event
        if each.register not in REGISTERS:
            continue
        # By its digest as well: no digest covers a type, so the keeper of the log may have changed it.
        if event.kind == EventType.SEPARATOR or event.digest(log.bank) in fine:
            closed.add(each.register)
        if event.kind == EventType.EVENT_TAG and sipa.matches(event.data):
            good = each.proof is Proof.DATA and _over_all(event, log)
            yield Measured(_tree(event.data) if good else None, each.register not in closed)


def event_members(event: Event, log: LogClaims) -> dict[str, Any] | None:
    """The content of a Windows event in the form that policies read, if its digest covers it; None for other
    events.

    Containers are objects, or lists of objects if a boot has many. Flags are booleans; numbers are in
    ``Value``, other bytes in ``RawData``. A usually single value that occurs twice is a list. Spec: Microsoft
    Azure Attestation, "Policy version 1.2", "Examples of an attestation policy for TPM endpoint": the names
    and shapes that their queries compare. Kluis defines the shapes of other events.
    """
    if not sipa.matches(event.data) or not _over_all(event, log):
        return None
    nodes = _tree(event.data)
    return None if nodes is None else _object(nodes)


def _over_all(event: Event, log: LogClaims) -> bool:
    # Other systems hash only a tagged event's value: the keeper of the log can then choose its first bytes.
    return event.digest(log.bank) == hashlib.new(log.bank.label, event.data).digest()


def _tree(data: bytes) -> tuple[Node, ...] | None:
    try:
        return sipa.tree(data)
    except FormatError:
        return None


def _object(nodes: tuple[Node, ...]) -> dict[str, Any]:
    members: dict[str, list[Any]] = {}
    lists: set[str] = set()
    for node in nodes:
        known = node.kind in _KNOWN
        name = f"EVENT_{Sipa(node.kind).name}" if known else f"EVENT_{node.kind:#010x}"
        members.setdefault(name, []).append(_value(node))
        if node.kind in _LISTS:
            lists.add(name)
    return {
        name: values if name in lists or len(values) > 1 else values[0] for name, values in members.items()
    }


def _value(node: Node) -> Any:
    kind, value = node.kind, node.value
    if node.within:
        return _object(node.within)
    if kind in _FLAGS and len(value) == 1:
        return value != b"\0"
    if kind in _BARE and len(value) <= 8:
        return sipa.number(value)
    if kind in _NUMBERS and len(value) <= 8:
        number = sipa.number(value)
        named, wanted, text = _HVCI_ON
        return {"Value": number} | ({"String": text} if (kind, number) == (named, wanted) else {})
    if kind in _TEXTS:
        return value.decode("utf-16-le", "replace").rstrip("\0")
    return {"RawData": b64.encode_url(value)}
