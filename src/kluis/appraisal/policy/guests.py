"""Which requirements of a policy's tables identify a machine's guest: its kernel, and all that runs in it.

Firmware extends some registers before the guest runs. The others, the guest extends itself: another guest can
give them the same values. So requirements identify a guest only if they include the registers that contain
its loader and what that loaded, and everything measured before them, which could extend them as it likes.

Spec: TCG "PC Client Platform Firmware Profile", "PCR Usage"; Intel "TDX Virtual Firmware Design Guide",
"Measurement Register Usage in TD".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from kluis.appraisal.policy.structured import Registers
from kluis.appraisal.policy.wants import Any, Want
from kluis.evidence.model import Tee
from kluis.frozen import frozen

# The possible parts of an Azure VM's evidence, apart from the vTPM's.
HARDWARE: Final = (Tee.SNP, Tee.TDX)
# The TEEs of machines, and the key of their tables that contains the guest. What hardware measures first in
# the other TEEs is only firmware.
GUESTS: Final[Mapping[Tee, str]] = MappingProxyType(
    {
        Tee.SNP: "measurements",
        Tee.TDX: "registers",
        Tee.AZURE: "registers",
        Tee.NITRO: "measurements",
        Tee.TPM: "registers",
    }
)
# PCR 4: the loader, or a unified image; 9: what that loaded; 12: a command line in place of the image's own.
_PCRS: Final = ("pcr4", "pcr9", "pcr12")
# RTMR 0: the firmware's configuration, and the host's ACPI tables, whose code the kernel runs; 1: the loader,
# or a unified image; 2: what that loaded, and its command line.
NEEDED: Final[Mapping[Tee, tuple[str, ...]]] = MappingProxyType(
    {Tee.TDX: ("rtmr0", "rtmr1", "rtmr2"), Tee.AZURE: _PCRS, Tee.TPM: _PCRS}
)
# What identifies the firmware or the paravisor below the guest: one of these keys of the table.
_BELOW: Final[Mapping[Tee, tuple[str, ...]]] = MappingProxyType(
    {Tee.SNP: ("measurements", "signers", "author_keys"), Tee.TDX: ("measurements",)}
)

Tables = Mapping[Tee, Mapping[str, Want]]


UNCERTAIN: Final = frozenset({Tee.SNP})
"""TEEs whose measurement contains the guest only if the firmware checks it, which no report states."""


@frozen
class Open:
    """One key that leaves the guest to the machine's operator.

    Attributes:
        tee: of its table.
        key: in the table.
        lacks: the registers that it does not name; empty if the key is ``"any"``.
    """

    tee: Tee
    key: str
    lacks: tuple[str, ...] = ()


def open_keys(tables: Tables, tee: Tee) -> Iterator[Open]:
    """The keys by which a table leaves the guest open; none if it identifies the guest.

    Args:
        tables: of a policy, by TEE.
        tee: whose evidence is accepted as a whole; one of :data:`GUESTS`.
    """
    key = GUESTS[tee]
    want = tables[tee][key]
    if isinstance(want, Any):
        yield Open(tee, key)
    elif isinstance(want, Registers) and (
        lacks := tuple(name for name in NEEDED.get(tee, ()) if name not in want.values)
    ):
        yield Open(tee, key, lacks)
    below = [tee] if tee is Tee.TDX else _hardware(tables) if tee is Tee.AZURE else []
    for each in below:
        if all(isinstance(tables[each][name], Any) for name in _BELOW[each]):
            yield Open(each, _BELOW[each][0])


def _hardware(tables: Tables) -> list[Tee]:
    """The hardware under an Azure VM that the tables accept."""
    accepted = tables[Tee.AZURE]["hardware"]
    return [each for each in HARDWARE if each in tables and accepted.meets(each.value)]
