"""Claims of TPMs, for policies: what was proven of key and boot, and the log and PCRs as JSON.

Spec: Microsoft Azure Attestation, "Claim sets", "TPM attestation"; "Policy version 1.2", events and pcrs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kluis.errors import FormatError
from kluis.evidence.anchors import EMULATED
from kluis.evidence.eventlog.judgement import Judged, LogClaims, Proof
from kluis.formats import b64
from kluis.formats.eventlog import sipa
from kluis.formats.eventlog.event_data import parse_variable
from kluis.formats.eventlog.event_type import EventType, name_of
from kluis.formats.eventlog.sipa import Sipa
from kluis.formats.runtime_data import base64url
from kluis.formats.tpm.algorithm import HashId
from kluis.services.attestation.boot import boot_of
from kluis.services.attestation.claims.platform import EMULATED_CLAIM, PROTECTION
from kluis.services.attestation.tpm.evidence import Said
from kluis.services.attestation.tpm.messages import Request

__all__ = ["READ_ONLY", "request_key", "tpm_claims"]

READ_ONLY: Final = frozenset({"pcrs"})
_VARIABLES: Final = (
    EventType.EFI_VARIABLE_DRIVER_CONFIG,
    EventType.EFI_VARIABLE_BOOT,
    EventType.EFI_VARIABLE_BOOT2,
    EventType.EFI_VARIABLE_AUTHORITY,
)
_HASHES: Final = {HashId.SHA1: "SHA1", HashId.SHA256: "SHA256"}


def tpm_claims(said: Said, request: Request) -> dict[str, Any]:
    """What the service says of a TPM to a policy. A token has none of it but what a policy issues."""
    boot = boot_of(said.log)
    measured = boot.windows is not None and boot.readable
    found: dict[str, Any] = {
        "x-ms-attestation-type": "tpm",
        "aikValidated": said.certified,
        "aikPubHash": b64.encode(hashlib.sha256(said.ak).digest()),
        "tpmVersion": 2,
        "secureBootEnabled": boot.secure_boot is True,
        "iommuEnabled": boot.known_on(Sipa.HYPERVISOR_IOMMU_POLICY),
        # Windows measures its modes whatever they are: only of a start that it measured is anything known.
        "bootDebuggingDisabled": measured and not boot.perhaps_on(Sipa.BOOT_DEBUGGING),
        "notSafeMode": measured and not boot.perhaps_on(Sipa.SAFE_MODE),
        "notWinPE": measured and not boot.perhaps_on(Sipa.WIN_PE),
        "vbsEnabled": boot.known_on(Sipa.VSM_REQUIRED),
        "events": _events(said.log),
        "pcrs": _pcrs(said),
        "x-ms-tpm-request-key": request_key(said, request),
        PROTECTION: str(said.level),
    }
    if said.anchor.startswith(EMULATED):
        found[EMULATED_CLAIM] = True
    return found


def request_key(said: Said, request: Request) -> dict[str, Any]:
    """The request's key, and how it is bound to the TPM."""
    info: dict[str, Any] = {"tpm_quote": {"hash_alg": "sha-256"}}
    if said.certified_area is not None:
        area = said.certified_area
        info = {
            "tpm_certify": {
                "name_alg": int(area.name_hash),
                "obj_attr": area.attributes,
                "auth_policy": base64url(area.policy),
            }
        }
    return {"jwk": msgspec.json.decode(request.jwk), "info": info}


def _pcrs(said: Said) -> dict[str, Any]:
    by_index: dict[int, dict[str, str]] = {}
    for bank, values in said.checked.values.items():
        if bank in _HASHES:
            for index, value in values.items():
                by_index.setdefault(index, {})[_HASHES[bank]] = value.hex()
    return {"PCRs": [{"Index": index, "Digests": by_index[index]} for index in sorted(by_index)]}


def _events(log: LogClaims | None) -> dict[str, Any]:
    """The log's events; data are told only where a digest proves them."""
    found: list[dict[str, Any]] = []
    for number, each in enumerate(log.events if log else ()):
        event = each.event
        told: dict[str, Any] = {
            "EventSeq": number,
            "EventType": event.kind,
            "EventTypeString": name_of(event.kind),
            "PcrIndex": event.index,
            "Digests": {
                _HASHES[HashId(kind)]: value.hex() for kind, value in event.digests if kind in _HASHES
            },
        }
        if each.proof is Proof.DATA and (processed := _processed(each)):
            told["ProcessedData"] = processed
        found.append(told)
    return {"Events": found}


def _processed(judged: Judged) -> Mapping[str, Any]:
    event = judged.event
    try:
        if event.kind in _VARIABLES:
            variable = parse_variable(event.data)
            return {
                # In capitals, as policies that are published compare it.
                "VariableGuid": variable.vendor.upper(),
                "UnicodeName": variable.name,
                "VariableData": base64url(variable.value),
            }
        if event.kind == EventType.EVENT_TAG and sipa.matches(event.data):
            return {
                "Events": [
                    {"EventType": kind, "EventTypeString": _sipa_name(kind), "Value": base64url(value)}
                    for kind, value in sipa.events(event.data)
                    if not kind & 0x40000000
                ]
            }
    except FormatError:
        return {}
    if event.kind == EventType.SEPARATOR:
        return {"Value": base64url(event.data)}
    return {}


def _sipa_name(kind: int) -> str:
    return f"SIPAEVENT_{Sipa(kind).name}" if kind in set(Sipa) else f"{kind:#010x}"
