"""HCL reports made by hand."""

from __future__ import annotations

import json
from typing import Any

from kluis.formats.encoding import b64
from kluis.formats.hcl.report import HASHES, MAGIC, HclReport, Header, ReportType, Request

MODULUS = (1 << 2047) + 12345


def runtime_json(modulus: int = MODULUS, **changes: Any) -> bytes:
    """Runtime data of one attestation key and a configuration; a change of None takes a member out."""
    key = {"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": "AQAB"}
    key["n"] = b64.encode_url(modulus.to_bytes((modulus.bit_length() + 7) // 8, "big"))
    value: dict[str, Any] = {
        "keys": [key],
        "vm-configuration": {"console-enabled": False, "secure-boot": True, "vmUniqueId": "A"},
        "user-data": "00" * 64,
    }
    value.update({name.replace("_", "-"): change for name, change in changes.items()})
    return json.dumps({name: item for name, item in value.items() if item is not None}).encode()


def hcl_report(
    hardware: bytes = bytes(1184),
    runtime: bytes | None = None,
    kind: int = ReportType.SNP,
    *,
    hash_type: int = 1,
    version: int = 1,
    request_version: int = 1,
    padding: int = 100,
) -> HclReport:
    """A report around a hardware report and runtime data."""
    held = runtime_json() if runtime is None else runtime
    request = Request(
        data_size=20 + len(held),
        version=request_version,
        report_type=kind,
        hash_type=hash_type,
        runtime_size=len(held),
    )
    header = Header(magic=MAGIC, version=version, report_size=1236 + len(held), request_type=2, status=0)
    return HclReport(
        header=header,
        hardware=hardware.ljust(1184, b"\0"),
        request=request,
        report_type=ReportType(kind) if kind in set(ReportType) else ReportType.SNP,
        hash=HASHES.get(hash_type, "sha256"),
        capabilities=b"caps" if request_version == 2 else b"",
        runtime=held,
        padding=padding,
    )
