"""Parse an Azure guest's request: JSON in base64url, with nearly every member in base64 again.

Nothing here is verified. Spec: Azure "Guest attestation of confidential VMs", client libraries, protocol 2.0.
The C++ client sends the proof of an SNP guest as base64 of JSON, the Rust client as the JSON itself. Public
areas come with their size (TPM2B_PUBLIC) or bare, and signatures as the bare RSA bytes or as TPMT_SIGNATURE.
The Python client (Azure/cvm-attestation-tools) sends the system's version as text, as in /etc/os-release, and
any JSON object as the payload; its older versions send empty text for it.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.pcrs import PCR_COUNT, Values
from kluis.frozen import frozen
from kluis.services.attestation.faults import InvalidParameter
from kluis.services.attestation.octets import decode_base64, json_object

PROTOCOL: Final = "2.0"
MAX_REQUEST: Final = 3 << 20
MAX_LOG: Final = 2 << 20
MAX_PART: Final = 64 * 1024
MAX_TEXT: Final = 256
MOST_PAYLOAD: Final = 64
_NUMBER: Final = re.compile(r"([0-9]{1,9})(?:\.[0-9.]{0,64})?", re.ASCII)


class _Pcr(msgspec.Struct):
    Index: int
    Digest: str


class _Tpm(msgspec.Struct, kw_only=True):
    AikPub: str
    PcrQuote: str
    PcrSignature: str
    PcrSet: list[int]
    PCRs: list[_Pcr]
    EncKeyPub: str
    EncKeyCertifyInfo: str
    EncKeyCertifyInfoSignature: str
    AikCert: str = ""


class _Proof(msgspec.Struct, kw_only=True):
    SnpReport: str
    VcekCertChain: str


class _Evidence(msgspec.Struct, kw_only=True):
    Proof: str | _Proof = ""
    RunTimeData: str = ""


class _Isolation(msgspec.Struct, kw_only=True):
    Type: str
    Evidence: _Evidence | None = None


class _Request(msgspec.Struct, kw_only=True):
    AttestationProtocolVersion: str
    OSType: str = ""
    OSDistro: str = ""
    OSBuild: str = ""
    OSVersionMajor: int | str = 0
    OSVersionMinor: int | str = 0
    TcgLogs: str = ""
    ClientPayload: dict[str, Any] | str | None = None
    TpmInfo: _Tpm
    IsolationInfo: _Isolation


@frozen(kw_only=True)
class Guest:
    """A parsed request.

    Attributes:
        isolation: ``trustedlaunch``, ``sevsnp`` or ``tdx``.
        proof: of the hardware: JSON of an SNP report and its certificates, or a TD quote; empty without
            hardware.
        runtime: the paravisor's runtime data, JSON; empty without hardware.
        os_type, os_distro, os_build: as stated by the guest.
        os_version: major and minor.
        log: TCG event log; empty without one.
        payload: the client's own, unchanged.
        aik_certificate: DER or PEM; empty without one.
        aik: the attestation key's public area.
        quote, signature: of the PCRs.
        pcr_set: the quoted PCRs, as stated by the client.
        pcrs: their values.
        key: the public area of the key to encrypt the token to.
        certification, certification_signature: of that key, by the attestation key.
    """

    isolation: str
    proof: bytes
    runtime: bytes
    os_type: str
    os_distro: str
    os_build: str
    os_version: tuple[int, int]
    log: bytes
    payload: dict[str, Any]
    aik_certificate: bytes
    aik: bytes
    quote: bytes
    signature: bytes
    pcr_set: tuple[int, ...]
    pcrs: Values
    key: bytes
    certification: bytes
    certification_signature: bytes


def parse(text: str) -> Guest:
    """Parse a request.

    Args:
        text: base64url of JSON.

    Raises:
        InvalidParameter: a member is missing, of the wrong kind, or too large.
    """
    what = "AttestationInfo"
    members = json_object(decode_base64(text, what, most=MAX_REQUEST), what)
    try:
        request = msgspec.convert(members, _Request)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"{what}: {str(error)[:200]}") from None
    if request.AttestationProtocolVersion != PROTOCOL:
        got = request.AttestationProtocolVersion[:16]
        raise InvalidParameter(f"{what}.AttestationProtocolVersion: want {PROTOCOL}, got {got!a}")
    tpm, isolation = request.TpmInfo, request.IsolationInfo
    evidence = isolation.Evidence or _Evidence()
    return Guest(
        isolation=isolation.Type.lower(),
        proof=_proof(evidence.Proof),
        runtime=_part(evidence.RunTimeData, "IsolationInfo.Evidence.RunTimeData"),
        os_type=_text(request.OSType, "OSType"),
        os_distro=_text(request.OSDistro, "OSDistro"),
        os_build=_text(request.OSBuild, "OSBuild"),
        os_version=(
            _number(request.OSVersionMajor, "OSVersionMajor"),
            _number(request.OSVersionMinor, "OSVersionMinor"),
        ),
        log=_part(request.TcgLogs, "TcgLogs", MAX_LOG),
        payload=_payload(request.ClientPayload),
        aik_certificate=_part(tpm.AikCert, "TpmInfo.AikCert"),
        aik=_part(tpm.AikPub, "TpmInfo.AikPub"),
        quote=_part(tpm.PcrQuote, "TpmInfo.PcrQuote"),
        signature=_part(tpm.PcrSignature, "TpmInfo.PcrSignature"),
        pcr_set=tuple(sorted({_index(each, "TpmInfo.PcrSet") for each in tpm.PcrSet})),
        pcrs=_pcrs(tpm.PCRs),
        key=_part(tpm.EncKeyPub, "TpmInfo.EncKeyPub"),
        certification=_part(tpm.EncKeyCertifyInfo, "TpmInfo.EncKeyCertifyInfo"),
        certification_signature=_part(tpm.EncKeyCertifyInfoSignature, "TpmInfo.EncKeyCertifyInfoSignature"),
    )


def _part(text: str, what: str, most: int = MAX_PART) -> bytes:
    return decode_base64(text, what, most=most)


def _proof(proof: str | _Proof) -> bytes:
    if isinstance(proof, _Proof):
        return msgspec.json.encode(proof)
    return _part(proof, "IsolationInfo.Evidence.Proof", 4 * MAX_PART)


def _text(text: str, what: str) -> str:
    try:
        value = decode_base64(text, what, most=MAX_TEXT).decode()
    except UnicodeDecodeError:
        raise InvalidParameter(f"{what}: is not UTF-8") from None
    return value.rstrip("\0")


def _number(part: int | str, what: str) -> int:
    """Parse a part of a version: ``22``, ``"22"``, ``"04"``, or the ``"0.20240401"`` of Azure Linux, as 0."""
    if isinstance(part, int):
        return part
    match = _NUMBER.fullmatch(part)
    if match is None:
        raise InvalidParameter(f"{what}: want a number, got {part[:16]!a}")
    return int(match[1])


def _index(index: int, what: str) -> int:
    if not 0 <= index < PCR_COUNT:
        raise InvalidParameter(f"{what}: want 0..{PCR_COUNT - 1}, got {index}")
    return index


def _pcrs(members: list[_Pcr]) -> Values:
    pcrs: dict[int, bytes] = {}
    for each in members:
        index = _index(each.Index, "TpmInfo.PCRs")
        value = decode_base64(each.Digest, f"TpmInfo.PCRs.{index}", most=64)
        if index in pcrs:
            raise InvalidParameter(f"TpmInfo.PCRs.{index}: want one value, got another")
        if len(value) != HashId.SHA256.size:
            raise InvalidParameter(f"TpmInfo.PCRs.{index}: want one value of 32 bytes, got {len(value)}")
        pcrs[index] = value
    return {HashId.SHA256: pcrs}


def _payload(member: dict[str, Any] | str | None) -> dict[str, Any]:
    payload = member or {}
    if isinstance(payload, str) or len(payload) > MOST_PAYLOAD:
        raise InvalidParameter(f"ClientPayload: want an object of at most {MOST_PAYLOAD} members")
    return payload
