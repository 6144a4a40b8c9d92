"""Events of the boot and of the running system for policies: JSON, with data only if they are proven.

Spec: Microsoft Azure Attestation, "Policy version 1.2"; "Examples of an attestation policy for TPM endpoint":
EV_EFI_VARIABLE, EV_EVENT_TAG and IMA_MEASUREMENT_EVENT have the shapes that their queries compare. For IMA's
records they name KernelVersion, Keyring and CertificateSubject; Kluis defines the other members.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509

from kluis.errors import FormatError
from kluis.evidence.eventlog.judgement import Judged, LogClaims, Proof
from kluis.formats.encoding import b64
from kluis.formats.eventlog.event_data import parse_variable
from kluis.formats.eventlog.event_type import EventType, name_of
from kluis.formats.eventlog.ima import Record
from kluis.formats.tpm.algorithm import HashId
from kluis.hashes import sha256
from kluis.services.attestation.guest import windows
from kluis.services.attestation.tpm.evidence import Time

HASHES: Final = {HashId.SHA1: "SHA1", HashId.SHA256: "SHA256"}
IMA: Final = 0x14
KERNEL_VERSION: Final = "kernel_version"
_VARIABLES: Final = (
    EventType.EFI_VARIABLE_DRIVER_CONFIG,
    EventType.EFI_VARIABLE_BOOT,
    EventType.EFI_VARIABLE_BOOT2,
    EventType.EFI_VARIABLE_AUTHORITY,
)


def events(time: Time) -> dict[str, Any]:
    """The events of one time, in order: of the boot, then of the running system."""
    entries: list[dict[str, Any]] = []
    for each in time.log.events if time.log else ():
        event = each.event
        # A separator counts under any type: policies compare the events before the first one.
        kind = EventType.SEPARATOR if each.closes else event.kind
        entry: dict[str, Any] = {
            "EventSeq": len(entries),
            "EventType": int(kind),
            "EventTypeString": name_of(kind),
            "PcrIndex": event.index,
            "Digests": {HASHES[HashId(kind)]: value.hex() for kind, value in event.digests if kind in HASHES},
        }
        if each.proof is Proof.DATA and time.log and (processed := _processed_data(each, time.log)):
            entry["ProcessedData"] = processed
        entries.append(entry)
    for record in time.ima.records:
        entry = {
            "EventSeq": len(entries),
            "EventType": IMA,
            "EventTypeString": "IMA_MEASUREMENT_EVENT",
            "PcrIndex": record.register,
            "Digests": _digests(record, time.ima.hash),
        }
        if not record.violated:
            entry["ProcessedData"] = _measurement(record)
        entries.append(entry)
    return {"Events": entries}


def _processed_data(judged: Judged, log: LogClaims) -> Mapping[str, Any]:
    event = judged.event
    if event.kind in _VARIABLES:
        try:
            variable = parse_variable(event.data)
        except FormatError:
            return {}
        return {
            # In capitals, because published policies compare it so.
            "VariableGuid": variable.vendor.upper(),
            "UnicodeName": variable.name,
            "VariableData": b64.encode_url(variable.value),
        }
    if event.kind == EventType.EVENT_TAG:
        return windows.event_members(event, log) or {}
    if event.kind == EventType.SEPARATOR:
        return {"Value": b64.encode_url(event.data)}
    return {}


def _digests(record: Record, proven: HashId) -> dict[str, str]:
    digests = {HASHES[HashId.SHA1]: record.digest.hex()}
    if proven is HashId.SHA256 and not record.violated:
        digests[HASHES[proven]] = sha256(record.hashed).hex()
    return digests


def _measurement(record: Record) -> Mapping[str, Any]:
    algorithm, digest = record.measured
    members: dict[str, Any] = {"TemplateName": record.template}
    if algorithm:
        members |= {"HashAlgorithm": algorithm, "Digest": digest.hex()}
    if not record.buffer:
        return members | ({"FileName": record.name} if record.name else {})
    if record.name == KERNEL_VERSION:
        return members | {"KernelVersion": record.buffer.rstrip(b"\0").decode("utf-8", "replace")}
    if (subject := _subject(record.buffer)) is not None:
        return members | {"Keyring": record.name, "CertificateSubject": subject}
    return members | {"Name": record.name, "RawData": b64.encode_url(record.buffer)}


def _subject(data: bytes) -> str | None:
    """The subject of a certificate, in RFC 4514's form; None for other bytes."""
    try:
        return x509.load_der_x509_certificate(data).subject.rfc4514_string()
    except (ValueError, TypeError, x509.InvalidVersion):
        return None
