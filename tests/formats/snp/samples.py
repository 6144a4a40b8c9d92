"""Reports of every version for tests, unsigned, with a different value in every field."""

from __future__ import annotations

from typing import Any, Final

from kluis.formats.snp import report
from kluis.formats.snp.report import Report

CHIP_ID: Final = bytes(range(1, 65))
TCB: Final = bytes((4, 0, 0, 0, 0, 0, 24, 219))

FIELDS: Final[dict[str, Any]] = {
    "version": 2,
    "guest_svn": 7,
    "policy": 0x3001F,
    "family_id": b"f" * 16,
    "image_id": b"i" * 16,
    "vmpl": 0,
    "signature_algo": report.ECDSA_P384,
    "current_tcb": TCB,
    "platform_info": 0x25,
    "flags": 0,
    "report_data": b"d" * 64,
    "measurement": b"m" * 48,
    "host_data": b"h" * 32,
    "id_key_digest": b"k" * 48,
    "author_key_digest": bytes(48),
    "report_id": b"r" * 32,
    "report_id_ma": b"\xff" * 32,
    "reported_tcb": TCB,
    "chip_id": CHIP_ID,
    "committed_tcb": TCB,
    "current_build": 29,
    "current_minor": 55,
    "current_major": 1,
    "committed_build": 29,
    "committed_minor": 55,
    "committed_major": 1,
    "launch_tcb": TCB,
    "r": bytes(48),
    "s": bytes(48),
}
V3: Final = {"cpuid_family": 0x19, "cpuid_model": 0x01, "cpuid_stepping": 1}
V5: Final = {"launch_mit_vector": 0xB, "current_mit_vector": 0xF}


def make(version: int = 3, **changed: Any) -> Report:
    """A report of ``version``, with fields changed."""
    fields = {**FIELDS, "version": version, **(V3 if version > 2 else {}), **(V5 if version > 4 else {})}
    return report.VERSIONS.get(version, report.ReportV5)(**{**fields, **changed})
