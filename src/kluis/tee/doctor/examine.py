"""The whole examination, in the order of the table."""

from __future__ import annotations

from kluis.tee.doctor import hardware, kernel, kvm, openness, programs
from kluis.tee.doctor.finding import Finding, Part


def examine(*, boot_seconds: int = 20) -> list[Finding]:
    """Look for everything once; nothing stays behind.

    Args:
        boot_seconds: how long a kernel may take to say its first word under KVM.

    Returns:
        One finding a thing looked for, grouped by part, in the order of :class:`Part`.
    """
    found = [
        *kernel.probe(),
        *programs.probe(),
        kvm.probe(boot_seconds),
        *hardware.probe(),
        *openness.probe(),
    ]
    order = list(Part)
    return sorted(found, key=lambda finding: order.index(finding.part))
