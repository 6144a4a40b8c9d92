"""Open Kluis's own envelope, the evidence file; verifying one loads no other wrapper."""

from __future__ import annotations

from kluis.evidence.wrappers.bound import LAUNCH, RUNTIME_DATA, Bound, Unwrapped
from kluis.formats.kluis import evidence_file
from kluis.formats.kluis.evidence_file import EvidenceFile


def peel(data: bytes) -> Unwrapped | None:
    """Open an evidence file, whose evidence must bind the documents in it; None for other bytes.

    Raises:
        FormatError: malformed.
        UnsupportedError: of a newer version.
    """
    if not evidence_file.matches(data):
        return None
    file = EvidenceFile.parse(data)
    from kluis.formats.kluis import launch, runtime_data  # only Kluis enclaves have these documents

    bounds = []
    if file.runtime_data is not None:
        wanted = (runtime_data.report_data(file.runtime_data),)
        bounds.append(Bound(what=RUNTIME_DATA, value=file.runtime_data, report_data=wanted))
    if file.launch_configuration is not None:
        config_id = launch.config_id(file.launch_configuration)
        bounds.append(Bound(what=LAUNCH, value=file.launch_configuration, config_id=config_id))
    return Unwrapped(evidence_file.WHAT, file.evidence, tuple(bounds), envelope=True)
