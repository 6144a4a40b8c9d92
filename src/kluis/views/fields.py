"""The fields of everything that ``kluis inspect`` shows, in the order and under the names of their formats.

What no function below names is shown as its format declares it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kluis.errors import KluisError
from kluis.evidence.eventlog import ima as replaying_ima
from kluis.evidence.eventlog import replay as replaying
from kluis.evidence.eventlog.replay import Registers
from kluis.evidence.sniff import Jwt, by_name
from kluis.evidence.wrappers.bound import Unwrapped
from kluis.formats import x509
from kluis.formats.cca.token import Token
from kluis.formats.eventlog import ima
from kluis.formats.eventlog.event_type import name_of
from kluis.formats.eventlog.log import Event, EventLog
from kluis.formats.hcl import runtime as hcl_runtime
from kluis.formats.hcl.report import HclReport
from kluis.formats.ietf import cmw_cbor
from kluis.formats.ietf.cmw import Collection, Indicator, Part
from kluis.formats.kluis import runtime_data
from kluis.formats.kluis.evidence_file import EvidenceFile
from kluis.formats.nitro.document import Document
from kluis.formats.nvidia.opaque import Field
from kluis.formats.nvidia.report import Report as NvidiaReport
from kluis.formats.sgx.quote import NO_HARDWARE, Quote
from kluis.formats.sgx.report import Flag, ReportBody
from kluis.formats.sgx.tcb_info import Identity, TcbInfo
from kluis.formats.snp.response import Response
from kluis.formats.tdx.report import Attribute, TdReport
from kluis.formats.tpm import attest
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.public import Attribute as KeyAttribute
from kluis.formats.tpm.public import Public
from kluis.formats.wrappers import dstack
from kluis.formats.wrappers.eat import Eat
from kluis.hashes import sha256

_LAST_CCEL: Final = 4
_MOST_SERIALS: Final = 64
_MOST_BYTES: Final = 64
_MARK: Final = NO_HARDWARE[:16]  # as much as FAMILY_ID has room for

Fields = dict[str, Any]


def fields(value: object) -> Fields:
    """The fields of what a reader gave, without those of its parts."""
    for kind, show in _SHOWN:
        if isinstance(value, kind):
            return show(value)
    return plain(value)


def plain(item: Any, *, leave_out: Iterable[str] = ()) -> Fields:
    """The fields of a structure as they are declared, or a mapping's entries, or a list's count."""
    if isinstance(item, tuple) and item:
        if isinstance(item[0], dstack.Event):
            return _dstack_log(item)
        if isinstance(item[0], ima.Record):
            return _ima_log(item)
    if dataclasses.is_dataclass(item):
        names = [field.name for field in dataclasses.fields(item) if field.name not in leave_out]
        return {name: getattr(item, name) for name in names}
    if isinstance(item, Mapping):
        return {str(getattr(key, "label", key)): each for key, each in item.items()}
    return {"parts": len(item)}


def _quote(quote: Quote) -> Fields:
    body = quote.body
    shown: Fields = {"user_data": quote.header.user_data}
    if isinstance(body, ReportBody):
        shown |= {
            "mrenclave": body.mrenclave,
            "mrsigner": body.mrsigner,
            "product_id": body.isvprodid,
            "svn": body.isvsvn,
            "debug": body.debug,
            "flags": [flag.name for flag in Flag if flag & body.flags],
            "xfrm": hex(body.xfrm),
            "miscselect": body.miscselect,
            "cpusvn": body.cpusvn,
            "config_id": body.configid,
            "config_svn": body.configsvn,
            "family_id": body.isvfamilyid,
            "extended_product_id": body.isvextprodid,
            "report_data": body.report_data,
        }
    else:
        shown |= _td(body)
    shown |= {"certification_type": quote.certification_type, "padding": quote.padding}
    if any(mark.startswith(_MARK) for mark in (quote.header.user_data, shown.get("family_id", b""))):
        shown["note"] = "states that no hardware created it"
    return shown


def _td(body: TdReport) -> Fields:
    shown = plain(body)
    attributes = shown.pop("td_attributes")
    named = [flag.name for flag in Attribute if flag & attributes]
    return {**shown, "td_attributes": hex(attributes), "flags": named, "xfam": hex(body.xfam)}


def _snp(response: Response) -> Fields:
    report = response.report
    return {
        **plain(report, leave_out=("r", "s")),
        "policy": hex(report.policy),
        "signature": report.signature,
        "header": response.header,
    }


def _certificate(certificate: x509.Certificate) -> Fields:
    usage = certificate.usage
    named = {
        "digital signature": usage is not None and usage.digital_signature,
        "certificate sign": usage is not None and usage.key_cert_sign,
        "CRL sign": usage is not None and usage.crl_sign,
    }
    return {
        "common_name": certificate.common_name,
        "serial": hex(certificate.serial),
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "key": certificate.public_key.kind.name,
        "key_sha256": sha256(certificate.spki),
        "signed_by": certificate.scheme.value,
        "ca": certificate.ca,
        "path_length": certificate.path_length,
        "usage": [name for name, on in named.items() if on],
        "self_issued": certificate.issuer == certificate.subject,
        "extensions": list(certificate.extensions),
    }


def _crl(crl: x509.Crl) -> Fields:
    return {
        "this_update": crl.this_update,
        "next_update": crl.next_update,
        "revoked": len(crl.revoked),
        "serials": [hex(serial) for serial in sorted(crl.revoked)[:_MOST_SERIALS]],
        "signed_by": crl.scheme.value,
    }


def key_of(key: x509.PublicKey) -> Fields:
    """A public key."""
    return {"kind": key.kind.name, "sha256": sha256(key.spki), "bits": key.bits}


def _nvidia(report: NvidiaReport) -> Fields:
    opaque = report.opaque
    names = {field.value: field.name.lower() for field in Field}
    known: Fields = {names.get(kind, f"field_{kind}"): item for kind, item in opaque.fields.items()}
    for field in (Field.DRIVER_VERSION, Field.PROJECT, Field.PROJECT_SKU, Field.CHIP_SKU, Field.CHIP_INFO):
        if opaque.get(field) is not None:
            known[field.name.lower()] = opaque.text(field)
    known.pop("msrscnt", None)
    return {
        "nonce": report.nonce,
        "slot": report.slot,
        "device_nonce": report.device_nonce,
        **known,
        "vbios_version": opaque.vbios_version,
        "trailing_bytes": len(report.trailing),
        "measurements": {f"block{number}": item for number, item in report.measurements().items()},
    }


def _nitro(document: Document) -> Fields:
    return {
        "kind_of_document": document.kind.name.lower(),
        "module_id": document.module_id,
        "timestamp_ms": document.timestamp,
        "pcrs": {f"pcr{index}": item for index, item in document.pcrs.items() if any(item)},
        "public_key": document.public_key,
        "user_data": document.user_data,
        "nonce": document.nonce,
    }


def _tpm_quote(quote: attest.Quote) -> Fields:
    return {
        "extra_data": quote.extra_data,
        "qualified_signer": quote.qualified_signer,
        "clock": plain(quote.clock),
        "selections": {each.bank.label: list(each.indices) for each in quote.selections},
        "pcr_digest": quote.pcr_digest,
    }


def _tpm_public(area: Public) -> Fields:
    return {
        "name": area.name,
        "attributes": [flag.name for flag in KeyAttribute if flag & area.attributes],
        "policy": area.policy,
        "key_sha256": sha256(area.spki),
        "key": plain(area.key),
    }


def _event_log(log: EventLog) -> Fields:
    banks = [HashId(number) for number, _ in log.algorithms if number in set(HashId)]
    ccel = banks == [HashId.SHA384] and all(event.index <= _LAST_CCEL for event in log.events)
    return {
        "crypto_agile": log.agile,
        "banks": [bank.label for bank in banks],
        "events": len(log.events),
        "types": dict(Counter(name_of(event.kind) for event in log.events).most_common()),
        "replay": _replay(log, banks, Registers.RTMR if ccel else Registers.PCR),
        "event": {str(number): _event(event, banks) for number, event in enumerate(log.events)},
    }


def _replay(log: EventLog, banks: list[HashId], registers: Registers) -> Fields | str:
    """What the strongest bank's registers would hold, if the log is what was measured."""
    bank = max(banks, key=lambda each: each.size, default=None)
    if bank is None:
        return "no bank that is known"
    try:
        values = replaying.replay(log, bank, registers)
    except KluisError as error:
        return error.message
    return {f"{registers.value}{number}": value for number, value in sorted(values.items())}


def _event(event: Event, banks: list[HashId]) -> str:
    digest = next((value for bank in banks if (value := event.digest(bank))), b"")
    return f"{event.index} {name_of(event.kind)} {digest.hex()[:16] or 'no digest'}"


def _token(token: Token) -> Fields:
    return {"platform_bytes": len(token.platform), "realm_bytes": len(token.realm)}


def _dstack_log(events: tuple[dstack.Event, ...]) -> Fields:
    runtime = {event.name: event.payload for event in events if event.runtime}
    registers = {f"rtmr{index}": item for index, item in sorted(dstack.replay(events).items())}
    return {"events": len(events), "runtime_events": runtime, "replay": registers}


def _ima_log(records: tuple[ima.Record, ...]) -> Fields:
    """What was measured, in order, and what the registers would hold if nothing else was."""
    banks = (HashId.SHA1, HashId.SHA256)
    return {
        "records": len(records),
        "templates": dict(Counter(record.template for record in records).most_common()),
        "violations": sum(record.violated for record in records),
        "replay": {
            f"{bank.label}.pcr{number}": value
            for bank in banks
            for number, value in sorted(replaying_ima.replay(records, bank).items())
        },
        "record": {str(number): _ima_record(record) for number, record in enumerate(records)},
    }


def _ima_record(record: ima.Record) -> str:
    algorithm, digest = record.measured
    measured = f"{algorithm}:{digest.hex()[:16]}" if algorithm else "of a template that is not known here"
    return f"{record.register} {record.name} {measured}"


def _hcl_runtime(runtime: hcl_runtime.RuntimeData) -> Fields:
    return {**plain(runtime, leave_out=("ak",)), "ak_sha256": sha256(runtime.ak)}


def _hcl(report: HclReport) -> Fields:
    return {
        "version": report.header.version,
        "report_type": report.report_type.name,
        "hash": report.hash,
        "runtime_size": len(report.runtime),
        "padding": report.padding,
    }


def _tcb_info(info: TcbInfo) -> Fields:
    shown = plain(info, leave_out=("levels", "module", "modules"))
    return {**shown, "modules": [module.id for module in info.modules], **_levels(info)}


def _identity(identity: Identity) -> Fields:
    return {**plain(identity, leave_out=("levels",)), **_levels(identity)}


def _levels(document: TcbInfo | Identity) -> Fields:
    newest = max((level.date for level in document.levels), default=None)
    counted = Counter(level.status for level in document.levels)
    return {"levels": len(document.levels), "newest_level": newest, "statuses": dict(counted)}


def _fields_of_unwrapped(unwrapped: Unwrapped) -> Fields:
    return {"binds": [bound.what for bound in unwrapped.bounds]}


def _collection(collection: Collection | cmw_cbor.Collection) -> Fields:
    types = {name: part.media_type for name, part in by_name(collection.parts).items()}
    return {"type": collection.type, "media_types": types}


def _record(part: Part) -> Fields:
    names = [flag.name for flag in Indicator if flag & part.indicator] if part.indicator else []
    return {"media_type": part.media_type, "says_it_is": names}


def is_result(value: object) -> bool:
    """Whether a value is a result of a service or a verifier: a token without evidence in it."""
    if isinstance(value, Eat):
        return not value.held and isinstance(value.profile, str) and _EAR in value.profile
    return isinstance(value, Jwt)


def _eat(token: Eat) -> Fields:
    note = "proves nothing by itself: only evidence inside it does"
    if is_result(token):
        note = _FOUND
    return {
        "note": note if token.device is None else f"is a {token.device}, which is not verified here",
        "nonces": [spellings[0] for spellings in token.nonces],
        "ueid": token.ueid,
        "profile": token.profile,
        "media_types": {where: token_held.part.media_type for where, token_held in token.held.items()},
    }


def _runtime(runtime: runtime_data.RuntimeData) -> Fields:
    return {
        "purpose": runtime.purpose,
        "image_id": runtime.image_id,
        "nonce": runtime.nonce,
        "keys": [dict(key) for key in runtime.keys],
        "payload_bytes": len(runtime.payload),
        "payload": runtime.payload,
    }


_EAR: Final = "/ear"  # in the profile of an attestation result, whichever draft's
_FOUND: Final = "contains a service's result, not evidence"


def _evidence_file(file: EvidenceFile) -> Fields:
    return {"image": file.image or "", "note": "the evidence does not prove the name of the image"}


def _jwt(token: Jwt) -> Fields:
    return {"note": _FOUND, "header": token.header, "claims": token.claims}


def _bytes(data: bytes) -> Fields:
    return {"begins": data[:_MOST_BYTES]}


_SHOWN: Final[tuple[tuple[type, Callable[[Any], Fields]], ...]] = (
    (Quote, _quote),
    (Response, _snp),
    (x509.Certificate, _certificate),
    (x509.Crl, _crl),
    (x509.PublicKey, key_of),
    (NvidiaReport, _nvidia),
    (Document, _nitro),
    (attest.Quote, _tpm_quote),
    (Public, _tpm_public),
    (EventLog, _event_log),
    (HclReport, _hcl),
    (hcl_runtime.RuntimeData, _hcl_runtime),
    (Token, _token),
    (TcbInfo, _tcb_info),
    (Identity, _identity),
    (Unwrapped, _fields_of_unwrapped),
    (EvidenceFile, _evidence_file),
    (Collection, _collection),
    (cmw_cbor.Collection, _collection),
    (Part, _record),
    (Eat, _eat),
    (runtime_data.RuntimeData, _runtime),
    (Jwt, _jwt),
    (bytes, _bytes),
)
