"""Recognize evidence, wrappers, certificates, revocation lists, event logs and collateral by their bytes.

The strict parser of its format reads each input, so recognized data are well formed. Nothing is verified: no
signature, no date.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.evidence.wrappers import envelope
from kluis.evidence.wrappers import unwrap as wrappers
from kluis.evidence.wrappers.bound import EVENT_LOG
from kluis.formats import x509
from kluis.formats.cca import endorsements as cca_endorsements
from kluis.formats.cca import token as cca_token
from kluis.formats.cca.platform import Platform
from kluis.formats.cca.realm import Realm
from kluis.formats.cca.token import Token, message
from kluis.formats.encoding import armor, b64, jcs
from kluis.formats.encoding.armor import Armor
from kluis.formats.eventlog import ima, ima_text
from kluis.formats.eventlog import log as event_log
from kluis.formats.hcl import report as hcl
from kluis.formats.hcl import runtime as hcl_runtime
from kluis.formats.hcl.endorsements import AzureEndorsements
from kluis.formats.ietf import cmw, cmw_cbor, corim, jose
from kluis.formats.ietf.cmw import Collection
from kluis.formats.ietf.corim import Corim
from kluis.formats.kluis import evidence_file
from kluis.formats.kluis.endorsement import Endorsement
from kluis.formats.kluis.evidence_file import EvidenceFile
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.formats.kluis.runtime_data import RuntimeData
from kluis.formats.nitro.document import Document
from kluis.formats.nvidia import report as nvidia
from kluis.formats.nvidia.endorsements import NvidiaEndorsements
from kluis.formats.sgx import collateral as sgx_collateral
from kluis.formats.sgx import quote as dcap
from kluis.formats.sgx import tcb_info
from kluis.formats.snp import endorsements as snp_endorsements
from kluis.formats.snp import response as snp
from kluis.formats.tdx import tdreport
from kluis.formats.tpm import attest, credential, pcrs, public, signature
from kluis.formats.tpm.credential import Credential
from kluis.formats.tpm.endorsements import TpmEndorsements
from kluis.formats.wrappers import dstack, eat, nvtrust, tsm
from kluis.formats.x509.structure import Structure, structure_of
from kluis.frozen import frozen

MAX_DEPTH: Final = 4
MAX_CERTIFICATES: Final = 8
# Size limit of a JSON document: no parser of one accepts more.
MAX_DOCUMENT: Final = 16 << 20
_AZURE: Final = re.compile(rb'\{\s{0,64}"(?:ak|snp|tdx)"\s{0,64}:')
_PCRS: Final = re.compile(rb'\{\s{0,64}"(?:sha\d{1,8}|0x\w{1,8}|\d{1,8})"\s{0,64}:')
_QUOTED: Final = attest.GENERATED.to_bytes(4, "big") + attest.QUOTE.to_bytes(2, "big")
_COSE: Final = (b"\x84", b"\xd2")
_LOG_AT: Final = 32
_MAX_REGISTER: Final = 23


@frozen(kw_only=True)
class Found:
    """Recognized data. Nothing in it is verified.

    Attributes:
        name: of the format, for messages: ``SGX quote v3``.
        size: in bytes, without armor.
        value: the parsed value; bytes if there is no parser.
        armor: the encodings around it, outermost first.
        within: its parts, by label.
    """

    name: str
    size: int
    value: Any
    armor: tuple[Armor, ...] = ()
    within: tuple[tuple[str, Found], ...] = ()


@frozen
class Jwt:
    """A JSON web token: an attestation service's statement, not evidence.

    Attributes:
        header: the JSON members.
        claims: the JSON members; None if they contain numbers that parsers disagree on.
    """

    header: dict[str, jcs.Json]
    claims: dict[str, jcs.Json] | None


class _Kind(NamedTuple):
    """How one kind is recognized and parsed."""

    name: str
    matches: Callable[[bytes], bool]
    read: Callable[[bytes], Any]


def sniff(data: bytes) -> Found:
    """Recognize bytes and parse them, in any encoding.

    Args:
        data: at most 64 MiB.

    Raises:
        FormatError: malformed.
        UnsupportedError: an unknown kind (code ``bad_magic``), or an unsupported version.
    """
    opened = armor.open_armor(data)
    return dataclasses.replace(_sniff(opened.data, 0), armor=opened.armor)


def _sniff(data: bytes, depth: int) -> Found:
    if depth > MAX_DEPTH:
        raise FormatError(f"input: is wrapped more than {MAX_DEPTH} deep", code="too_deep")
    enveloped = _envelope(data, depth)
    if enveloped is not None:
        return enveloped
    unwrapped = None if eat.matches_jwt(data) else wrappers.peel(data)
    if unwrapped is not None:
        parts = [("evidence", _part(unwrapped.inner, depth))]
        if data[:1] in (b"0", b"-"):
            parts.append(("certificate", _certificates(data)))
        parts += [(b.what, _part(b.value, depth)) for b in unwrapped.bounds if b.what == EVENT_LOG]
        return Found(name=unwrapped.name, size=len(data), value=unwrapped, within=tuple(parts))
    if data[:1] == b"-" or structure_of(data) is not None:
        return _certificates(data)
    for kind in (*_BINARY, *_DOCUMENTS):
        if kind.matches(data):
            value = kind.read(data)
            return Found(
                name=_name(value) or kind.name, size=len(data), value=value, within=_within(value, depth)
            )
    raise UnsupportedError("input: is of no kind known here", code="bad_magic")


def _envelope(data: bytes, depth: int) -> Found | None:
    """A container for any evidence, with each of its parts; an empty token is not an envelope."""
    if eat.matches(data):
        if eat.matches_jwt(data) and not eat.carries(data):
            return None
        token = eat.parse(data)
        parts = {where: token_part.part for where, token_part in token.held.items()}
        return _describe_parts(f"EAT ({token.form})", data, token, parts, depth)
    if evidence_file.matches(data):
        file, members = EvidenceFile.parse(data), Collection.parse(data).parts
        documents = {name: part for name, part in members.items() if name != "image"}
        return _describe_parts("Kluis evidence file", data, file, documents, depth)
    if cmw.matches(data) and not tsm.matches(data):
        collection = Collection.parse(data)
        return _describe_parts("CMW collection", data, collection, collection.parts, depth)
    if cmw.matches_record(data):
        record = cmw.Part.parse(data)
        return _describe_parts("CMW record", data, record, {"content": record}, depth)
    if cmw_cbor.matches(data) or envelope.is_collection(data):
        message = cmw_cbor.parse(data)
        if isinstance(message, cmw_cbor.Record):
            return _describe_parts("CMW record", data, message.part, {"content": message.part}, depth)
        return _describe_parts("CMW collection", data, message, message.parts, depth)
    return None


def by_name(parts: Mapping[Any, cmw.Part]) -> dict[str, cmw.Part]:
    """Parts by readable labels: in CBOR a number and the text of its digits are two labels."""
    plain = len(set(map(str, parts))) == len(parts)
    return {str(label) if plain else ascii(label): part for label, part in parts.items()}


def _describe_parts(
    name: str, data: bytes, value: object, parts: Mapping[Any, cmw.Part], depth: int
) -> Found:
    within = tuple((name, _part(part.value, depth)) for name, part in by_name(parts).items())
    return Found(name=name, size=len(data), value=value, within=within)


def _name(value: object) -> str | None:
    """The stated name of a value, with its version; None if the kind has only one name."""
    match value:
        case dcap.Quote():
            return value.name
        case snp.Response():
            return value.report.NAME
        case _:
            return None


def _part(data: bytes, depth: int) -> Found:
    """A part of something else: if it cannot be parsed, its bytes and the reason."""
    try:
        return _sniff(data, depth + 1)
    except KluisError as error:
        text = "bytes" if error.code == "bad_magic" else f"bytes that cannot be read: {error.message}"
        return Found(name=text, size=len(data), value=data)


def _within(value: object, depth: int) -> tuple[tuple[str, Found], ...]:
    """Parts of one format within another."""
    match value:
        case dcap.Quote(certification_type=dcap.PCK_CHAIN):
            return (("certificates", _part(value.certification_data.rstrip(b"\0"), depth)),)
        case Document():
            chain = (
                ("certificate", value.certificate),
                *((f"cabundle[{i}]", c) for i, c in enumerate(value.cabundle)),
            )
            return tuple((label, _part(each, depth)) for label, each in chain)
        case Token():
            return (
                ("realm", _token(value.realm, "CCA realm token", Realm.parse)),
                ("platform", _token(value.platform, "CCA platform token", Platform.parse)),
            )
        case hcl.HclReport():
            runtime = Found(
                name="HCL runtime data", size=len(value.runtime), value=hcl_runtime.parse(value.runtime)
            )
            hardware = value.hardware if value.report_type is hcl.ReportType.SNP else b""
            reports = (("hardware report", _part(hardware, depth)),) if hardware else ()
            return (*reports, ("runtime data", runtime))
        case snp.Response(table=table) if table is not None:
            return tuple((f"certificate[{i}]", _part(blob.data, depth)) for i, blob in enumerate(table.blobs))
        case sgx_collateral.Collateral():
            return (
                ("tcb_info", _describe("Intel TCB info", tcb_info.parse_tcb_info, value.tcb_info)),
                (
                    "qe_identity",
                    _describe("Intel enclave identity", tcb_info.parse_identity, value.qe_identity),
                ),
                ("root_ca_crl", _part(value.root_ca_crl, depth)),
                ("pck_crl", _part(value.pck_crl, depth)),
                *((("endorsement", _part(value.endorsement, depth)),) if value.endorsement else ()),
            )
        case Endorsement():
            runtime_data = _describe("Kluis runtime data", RuntimeData.parse, value.runtime_data)
            parts = ((name, _part(part, depth)) for name, part in sorted(value.parts.items()))
            return (("runtime data", runtime_data), *parts)
        case _:
            return ()


def _describe(name: str, read: Callable[[bytes], Any], data: bytes) -> Found:
    return Found(name=name, size=len(data), value=read(data))


def _token(data: bytes, name: str, read: Callable[[bytes], Any]) -> Found:
    return Found(name=name, size=len(data), value=read(message(data, name).payload))


def _certificates(data: bytes) -> Found:
    if data[:1] == b"-":
        ders = x509.split_pem(data, "certificate", MAX_CERTIFICATES)
        certificates = [_describe("X.509 certificate", _certificate, each) for each in ders]
        chain = tuple((f"[{index}]", each) for index, each in enumerate(certificates))
        return Found(name="certificate chain", size=len(data), value=ders, within=chain)
    match structure_of(data):
        case Structure.CRL:
            return _describe("X.509 CRL", lambda each: x509.parse_crl(each, "CRL"), data)
        case Structure.PUBLIC_KEY:
            return _describe("public key", _public_key, data)
        case _:
            return _describe("X.509 certificate", _certificate, data)


def _certificate(data: bytes) -> x509.Certificate:
    return x509.parse(data, "certificate")


def _public_key(data: bytes) -> x509.PublicKey:
    return x509.parse_public_key(data, "public key")


def _jwt(data: bytes) -> Jwt:
    header, claims, _ = (b64.decode_url(part.decode(), "JWT") for part in data.split(b"."))
    read = jcs.loads(header, "JWT header", max_depth=8)
    try:
        members = jcs.loads(claims, "JWT claims")
    except FormatError:
        members = None
    if not isinstance(read, dict):
        raise FormatError("JWT header: want an object", code="bad_type")
    return Jwt(read, members if isinstance(members, dict) else None)


def _signed_document(member: str, read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    return lambda data: read(sgx_collateral.split_signed(data, member)[0])


def _members(*names: str) -> Callable[[bytes], bool]:
    """Whether JSON has object members of these names near its start."""
    marks = [f'"{name}"'.encode() for name in names]
    return lambda data: data[:1] == b"{" and len(data) <= MAX_DOCUMENT and all(mark in data for mark in marks)


def _is_log(data: bytes) -> bool:
    """Whether bytes start like an event log: with its signature, or with an event of a register."""
    if data[_LOG_AT : _LOG_AT + 13] == event_log.SPEC_ID[:13]:
        return True
    size = int.from_bytes(data[28:32], "little")
    register, kind = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
    return 32 + size <= len(data) and register <= _MAX_REGISTER and (kind <= 0x12 or kind >> 8 == 0x800000)


def _is_corim(data: bytes) -> bool:
    """Whether bytes start like a manifest: with its own tag, or signed and with its media type."""
    return corim.matches(data) and (not corim.matches_signed(data) or b"rim+cbor" in data[:256])


_BINARY: Final = (
    _Kind(nvidia.WHAT, nvidia.matches, nvidia.Report.parse),
    _Kind("HCL report", hcl.matches, hcl.parse),
    _Kind("TDREPORT", tdreport.matches, tdreport.TdReportStruct.parse),
    _Kind("TPM quote", lambda data: data[:6] == _QUOTED, attest.parse),
    _Kind("SEV-SNP report", snp.matches_signed, snp.parse),
    _Kind("DCAP quote", dcap.begins, dcap.parse),
    _Kind("CCA token", cca_token.matches, Token.parse),
    _Kind("CoRIM", _is_corim, Corim.parse),
    _Kind("AWS Nitro document", lambda data: data[:1] in _COSE, Document.parse),
    _Kind("TPM credential", credential.matches, Credential.parse),
    _Kind("TPM storage key", public.matches_storage, public.parse_storage),
    _Kind("TPM public area", lambda data: data[:2] in (b"\0\1", b"\0\x23"), public.parse),
    _Kind("TPM signature", lambda data: data[:2] in (b"\0\x14", b"\0\x16", b"\0\x18"), signature.parse),
    _Kind(ima.WHAT, ima.matches, ima.parse),
    _Kind(ima_text.WHAT, ima_text.matches, ima_text.parse),
    _Kind("event log", _is_log, event_log.parse),
)
_DOCUMENTS: Final = (
    _Kind("JSON web token", eat.matches_jwt, _jwt),
    _Kind("dstack event log", dstack.matches_log, dstack.parse_log),
    _Kind("NVIDIA SDK evidence", nvtrust.matches, nvtrust.parse),
    _Kind("Azure endorsements", lambda data: _AZURE.match(data) is not None, AzureEndorsements.from_json),
    _Kind("Intel collateral", _members("tcb_info", "qe_identity"), sgx_collateral.Collateral.from_json),
    _Kind("Intel TCB info", _members("tcbInfo"), _signed_document("tcbInfo", tcb_info.parse_tcb_info)),
    _Kind(
        "Intel enclave identity",
        _members("enclaveIdentity"),
        _signed_document("enclaveIdentity", tcb_info.parse_identity),
    ),
    _Kind("Kluis endorsement", _members("kind", "parts", "runtime_data"), Endorsement.parse),
    _Kind("Kluis runtime data", _members("purpose", "image_id", "payload"), RuntimeData.parse),
    _Kind("Kluis launch configuration", _members("heap_bytes", "grants"), LaunchConfiguration.parse),
    _Kind("HCL runtime data", _members("keys", "vm-configuration"), hcl_runtime.parse),
    _Kind("JSON web key", _members("kty", "crv"), lambda data: jose.parse_jwk(data, "JSON web key")),
    _Kind("NVIDIA endorsements", _members("ocsp"), NvidiaEndorsements.from_json),
    _Kind("CCA endorsements", _members("cpak"), cca_endorsements.Endorsements.from_json),
    _Kind("THIM answer", _members("vcekCert", "certificateChain"), snp_endorsements.Endorsements.from_thim),
    _Kind("SNP endorsements", _members("vek"), snp_endorsements.Endorsements.from_json),
    _Kind("TPM endorsements", _members("certificate", "chain"), TpmEndorsements.from_json),
    _Kind("PCR values", lambda data: _PCRS.match(data) is not None, pcrs.parse),
)
