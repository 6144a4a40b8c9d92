"""What was recognised, as lines of 80 columns for people and as values for ``--json``.

Fields are shown in the order and under the names of their formats; bytes as hex, times in UTC.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from kluis.evidence.sniff import Found, Jwt
from kluis.evidence.wrappers.unwrap import Unwrapped
from kluis.formats import runtime_data, x509
from kluis.formats.cmw import Collection
from kluis.formats.eventlog.event_type import name_of
from kluis.formats.eventlog.log import EventLog
from kluis.formats.hcl.report import HclReport
from kluis.formats.nitro.document import Document
from kluis.formats.nvidia.opaque import Field
from kluis.formats.nvidia.report import Report as NvidiaReport
from kluis.formats.sgx.quote import Quote
from kluis.formats.sgx.report import Flag, ReportBody
from kluis.formats.sgx.tcb_info import Identity, TcbInfo
from kluis.formats.snp.response import Response
from kluis.formats.tdx.report import Attribute, TdReport
from kluis.formats.tpm import attest
from kluis.formats.tpm.public import Attribute as KeyAttribute
from kluis.formats.tpm.public import Public
from kluis.formats.wrappers import dstack
from kluis.hashes import sha256

WIDTH: Final = 80
_MOST_NAME: Final = 24
_MOST_ITEMS: Final = 64
_MOST_BYTES: Final = 64
_ZEROS: Final = re.compile(r"(?:00){8,}")
_MARK: Final = b"KLUIS-NO-HARDWAR"

Fields = dict[str, Any]


def value(found: Found) -> Fields:
    """What was recognised, for JSON: its fields stand beside what it is."""
    return {
        "kind": found.name,
        "size": found.size,
        "armor": [each.value for each in found.armor],
        "fields": json(fields(found)),
        "within": {label: value(each) for label, each in found.within},
    }


def lines(found: Found, label: str = "", indent: int = 0) -> Iterator[str]:
    """What was recognised, for people: one field a line, parts set in below."""
    pad = " " * indent
    rows = [("kind", found.name), ("size", f"{found.size} bytes")]
    if found.armor:
        rows.append(("arrived as", ", ".join(found.armor)))
    if label:
        yield f"{pad}{label}:"
        indent, pad = indent + 2, pad + "  "
    rows += [(name, _shown(item)) for name, item in _flat(fields(found))]
    width = min(max(len(name) for name, _ in rows), _MOST_NAME)
    for name, text in rows:
        yield from _row(name, text, pad, width)
    for part, each in found.within:
        yield ""
        yield from lines(each, part, indent)


def fields(found: Found) -> Fields:
    """The fields of one thing, without those of its parts."""
    for kind, show in _SHOWN:
        if isinstance(found.value, kind):
            return show(found.value)
    return _plain(found.value)


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
        shown["note"] = "says of itself that no hardware made it"
    return shown


def _td(body: TdReport) -> Fields:
    shown = _plain(body)
    attributes = shown.pop("td_attributes")
    named = [flag.name for flag in Attribute if flag & attributes]
    return {**shown, "td_attributes": hex(attributes), "flags": named, "xfam": hex(body.xfam)}


def _snp(response: Response) -> Fields:
    report = response.report
    return {
        **_plain(report, leave_out=("r", "s")),
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
        "serials": [hex(serial) for serial in sorted(crl.revoked)[:_MOST_ITEMS]],
        "signed_by": crl.scheme.value,
    }


def _key(key: x509.PublicKey) -> Fields:
    return {"key": key.kind.name, "key_sha256": sha256(key.spki), "bits": key.bits}


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
        "clock": _plain(quote.clock),
        "selections": {each.bank.label: list(each.indices) for each in quote.selections},
        "pcr_digest": quote.pcr_digest,
    }


def _tpm_public(area: Public) -> Fields:
    return {
        "name": area.name,
        "attributes": [flag.name for flag in KeyAttribute if flag & area.attributes],
        "policy": area.policy,
        "key_sha256": sha256(area.spki),
        "key": _plain(area.key),
    }


def _event_log(log: EventLog) -> Fields:
    counted = Counter(name_of(event.kind) for event in log.events)
    registers = Counter(event.index for event in log.events)
    return {
        "crypto_agile": log.agile,
        "algorithms": [f"{number:#06x}" for number, _ in log.algorithms],
        "events": len(log.events),
        "registers": {str(index): count for index, count in sorted(registers.items())},
        "types": dict(counted.most_common()),
    }


def _dstack_log(events: tuple[dstack.Event, ...]) -> Fields:
    runtime = {event.name: event.payload for event in events if event.runtime}
    registers = {f"rtmr{index}": item for index, item in sorted(dstack.replay(events).items())}
    return {"events": len(events), "runtime_events": runtime, "replay": registers}


def _hcl(report: HclReport) -> Fields:
    return {
        "version": report.header.version,
        "report_type": report.report_type.name,
        "hash": report.hash,
        "runtime_size": len(report.runtime),
        "padding": report.padding,
    }


def _tcb_info(info: TcbInfo) -> Fields:
    shown = _plain(info, leave_out=("levels", "module", "modules"))
    return {**shown, "modules": [module.id for module in info.modules], **_levels(info)}


def _identity(identity: Identity) -> Fields:
    return {**_plain(identity, leave_out=("levels",)), **_levels(identity)}


def _levels(document: TcbInfo | Identity) -> Fields:
    newest = max((level.date for level in document.levels), default=None)
    counted = Counter(level.status for level in document.levels)
    return {"levels": len(document.levels), "newest_level": newest, "statuses": dict(counted)}


def _unwrapped(unwrapped: Unwrapped) -> Fields:
    return {"binds": [bound.what for bound in unwrapped.bounds]}


def _collection(collection: Collection) -> Fields:
    types = {label: part.media_type for label, part in collection.parts.items()}
    return {"type": collection.type, "media_types": types}


def _runtime(runtime: runtime_data.RuntimeData) -> Fields:
    return {
        "purpose": runtime.purpose,
        "image_id": runtime.image_id,
        "nonce": runtime.nonce,
        "keys": [dict(key) for key in runtime.keys],
        "payload_bytes": len(runtime.payload),
        "payload": runtime.payload,
    }


def _jwt(token: Jwt) -> Fields:
    note = "says what a service found: a result, and no evidence"
    return {"note": note, "header": token.header, "claims": token.claims}


def _bytes(data: bytes) -> Fields:
    return {"begins": data[:_MOST_BYTES]}


_SHOWN: Final[tuple[tuple[type, Callable[[Any], Fields]], ...]] = (
    (Quote, _quote),
    (Response, _snp),
    (x509.Certificate, _certificate),
    (x509.Crl, _crl),
    (x509.PublicKey, _key),
    (NvidiaReport, _nvidia),
    (Document, _nitro),
    (attest.Quote, _tpm_quote),
    (Public, _tpm_public),
    (EventLog, _event_log),
    (HclReport, _hcl),
    (TcbInfo, _tcb_info),
    (Identity, _identity),
    (Unwrapped, _unwrapped),
    (Collection, _collection),
    (runtime_data.RuntimeData, _runtime),
    (Jwt, _jwt),
    (bytes, _bytes),
)


def _plain(item: Any, *, leave_out: Iterable[str] = ()) -> Fields:
    """The fields of a structure as they are declared, or a mapping's entries, or a list's count."""
    if isinstance(item, tuple) and item and isinstance(item[0], dstack.Event):
        return _dstack_log(item)
    if dataclasses.is_dataclass(item):
        names = [field.name for field in dataclasses.fields(item) if field.name not in leave_out]
        return {name: getattr(item, name) for name in names}
    if isinstance(item, Mapping):
        return {str(getattr(key, "label", key)): each for key, each in item.items()}
    return {"parts": len(item)}


def json(item: Any) -> Any:
    """A field as JSON has it: bytes as hex, times in UTC, structures as objects, at most 64 items of each."""
    match item:
        case bytes() | bytearray():
            return bytes(item).hex()
        case datetime():
            return item.strftime("%Y-%m-%dT%H:%M:%SZ")
        case enum.Enum():
            return item.name
        case bool() | int() | str() | None:
            return item
        case Mapping():
            return {
                str(getattr(key, "label", key)): json(each) for key, each in list(item.items())[:_MOST_ITEMS]
            }
        case list() | tuple() | frozenset():
            return [json(each) for each in list(item)[:_MOST_ITEMS]]
        case _ if dataclasses.is_dataclass(item):
            return json(_plain(item))
        case _:
            return str(item)


def _flat(shown: Fields, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in shown.items():
        read = json(item)
        if isinstance(read, dict):
            yield from _flat(read, f"{prefix}{name}.")
        else:
            yield prefix + name, read


def _shown(item: Any) -> str:
    match item:
        case bool():
            return "yes" if item else "no"
        case None | "":
            return "none"
        case list():
            return ", ".join(map(str, item)) or "none"
        case str() if _ZEROS.fullmatch(item):
            return f"zeros ({len(item) // 2} bytes)"
        case _:
            return str(item)


def _row(name: str, text: str, pad: str, width: int) -> Iterator[str]:
    """A name and what it says, in 80 columns; hex and lists go on below."""
    room = max(WIDTH - len(pad) - width - 2, 16)
    safe = "".join(letter if letter.isprintable() else "?" for letter in text)
    first, *more = textwrap.wrap(safe, room, break_on_hyphens=False) or [""]
    if len(name) > width:
        yield f"{pad}{name}"
        yield f"{pad}{'':<{width}}  {first}".rstrip()
    else:
        yield f"{pad}{name:<{width}}  {first}".rstrip()
    for line in more:
        yield f"{pad}{'':<{width}}  {line}"
