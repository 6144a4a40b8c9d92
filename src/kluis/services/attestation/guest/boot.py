"""Determine how a machine was booted, to the extent that an event log and the quoted PCRs prove it.

Only proven events are read: those with a digest over their data, in a register that the TPM quoted. Anything
else is unknown, and reported as the worse alternative. Spec: TCG "PC Client Platform Firmware Profile";
Windows SDK, ``wbcl.h``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from kluis.errors import FormatError
from kluis.evidence.eventlog.judgement import Judged, LogClaims, Proof
from kluis.formats.eventlog import sipa
from kluis.formats.eventlog.event_data import parse_variable
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.sipa import Sipa
from kluis.frozen import frozen
from kluis.services.attestation.guest.windows import measured_events
from kluis.services.attestation.settings import VARIABLES

_POLICY: Final = 7
_TOLD: Final = frozenset(
    {
        Sipa.ELAM_AGGREGATION, Sipa.BOOTDEBUGGING, Sipa.OSKERNELDEBUG, Sipa.CODEINTEGRITY, Sipa.TESTSIGNING,
        Sipa.SAFEMODE, Sipa.WINPE, Sipa.HYPERVISOR_IOMMU_POLICY, Sipa.HYPERVISOR_DEBUG, Sipa.FLIGHTSIGNING,
        Sipa.VBS_VSM_REQUIRED, Sipa.VBS_HVCI_POLICY,
    }
)  # fmt: skip
_VENDORS: Final = {
    "PK": "8be4df61-93ca-11d2-aa0d-00e098032b8c",
    "KEK": "8be4df61-93ca-11d2-aa0d-00e098032b8c",
    "db": "d719b2cb-3d3a-4596-a3bc-dad00e67656f",
    "dbx": "d719b2cb-3d3a-4596-a3bc-dad00e67656f",
}


@frozen
class Boot:
    """The proven facts about a boot.

    Attributes:
        secure_boot: whether firmware enforced signatures; None if nothing proves it.
        variables: SHA-256 of the values of PK, KEK, db and dbx, if one event proves each.
        windows: the largest value of each of Windows' events during its boot; None if none was measured.
        readable: whether all of Windows' measurements are proven and understood.
        late: the largest value of each event that a running system measured as if it were Windows' boot.
    """

    secure_boot: bool | None
    variables: Mapping[str, bytes]
    windows: Mapping[int, int] | None
    readable: bool = True
    late: Mapping[int, int] = dataclasses.field(default_factory=dict)

    def all_known_good(self, good: Mapping[str, frozenset[bytes]], *names: str) -> bool:
        """Whether each of these variables has one of the operator's known good values."""
        return all(self.variables.get(name) in good.get(name, ()) for name in names)

    def known_on(self, event: Sipa) -> bool:
        """Whether Windows is proven to have measured this as on."""
        return self.readable and self.value(event) > 0

    def perhaps_on(self, event: Sipa) -> bool:
        """Whether Windows may have measured this as on: it did, or its measurements cannot be read."""
        return not self.readable or self.value(event) > 0 or self.late.get(event, 0) > 0

    def value(self, event: Sipa) -> int:
        """The largest value of an event; 0 if there is none."""
        return self.windows.get(event, 0) if self.windows else 0


def boot_of(log: LogClaims | None) -> Boot:
    """Read a log that was checked against quoted PCRs."""
    if log is None:
        return Boot(None, {}, None)
    windows, readable, late = _windows(log)
    return Boot(log.secure_boot, _variables(log.events), windows, readable, late)


def _variables(events: Iterable[Judged]) -> dict[str, bytes]:
    hashes: dict[str, list[bytes]] = {}
    for each in events:
        if each.register != _POLICY or each.proof is not Proof.DATA or each.after_separator:
            continue
        if each.event.kind != EventType.EFI_VARIABLE_DRIVER_CONFIG:
            continue
        try:
            variable = parse_variable(each.event.data)
        except FormatError:
            continue
        if variable.name in VARIABLES and variable.vendor == _VENDORS[variable.name]:
            hashes.setdefault(variable.name, []).append(hashlib.sha256(variable.value).digest())
    return {name: values[0] for name, values in hashes.items() if len(values) == 1}


def _windows(log: LogClaims) -> tuple[dict[int, int] | None, bool, dict[int, int]]:
    early: dict[int, int] = {}
    late: dict[int, int] = {}
    seen = False
    for each in measured_events(log):
        seen = seen or each.early
        if each.nodes is None:
            return early if seen else None, False, late
        flags = early if each.early else late
        try:
            for kind, value in sipa.flat(each.nodes):
                if kind in _TOLD:
                    number = 1 if kind == Sipa.ELAM_AGGREGATION else sipa.number(value)
                    flags[kind] = max(flags.get(kind, 0), number)
        except FormatError:
            return early if seen else None, False, late
    return early if seen else None, True, late
