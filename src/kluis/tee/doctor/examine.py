"""Run the whole examination, in the order of the table."""

from __future__ import annotations

from kluis.tee.doctor import containers, hardware, kernel, kvm, openness, programs
from kluis.tee.doctor.finding import Finding, Part


def examine(*, boot_seconds: int = 20) -> list[Finding]:
    """Examine everything once, without leaving traces.

    Args:
        boot_seconds: timeout for a kernel's first output under KVM.

    Returns:
        One finding for each check, grouped by part, in the order of :class:`Part`.
    """
    process = [*kernel.probe(), *programs.probe()]
    findings = [
        *process,
        containers.probe(process),
        kvm.probe(boot_seconds),
        *hardware.probe(),
        *openness.probe(),
    ]
    order = list(Part)
    return sorted(findings, key=lambda finding: order.index(finding.part))
