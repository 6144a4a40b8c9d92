"""Parse messages of the TPM protocol, versions 1 and 2: JSON within base64url within JSON, and a JWS.

Only the signature by the request's own key is verified. Spec: Microsoft Azure Attestation, "Trusted Platform
Module (TPM) and Virtualization based Security(VBS) enclave attestation protocol", of 15 April 2025.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kluis.errors import KluisError
from kluis.evidence import signatures
from kluis.evidence.engine import OPENSSL
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.formats.ietf import jose
from kluis.formats.x509 import KeyKind, PublicKey, Scheme
from kluis.frozen import frozen
from kluis.services.attestation.faults import InvalidParameter
from kluis.services.attestation.octets import decode_base64, json_object

MAX_JWS: Final = 3 << 20
TYPES: Final = {"attreq": 1, "attreqv2": 2}
KINDS: Final = ("basic", "vbs", "vsm")
MOST_CLAIMS: Final = 64
MOST_OTHER_KEYS: Final = 2
_SCHEMES: Final = {
    ("PS256", KeyKind.RSA): Scheme.PS256,
    ("RS256", KeyKind.RSA): Scheme.RS256,
    ("ES256", KeyKind.P256): Scheme.ES256,
}


class Log(msgspec.Struct):
    """One log of events.

    Attributes:
        type: ``TCG`` or ``IMA``.
        log: base64url.
    """

    type: str
    log: str


class Value(msgspec.Struct):
    """One PCR's value, base64url."""

    index: int
    digest: str


class Bank(msgspec.Struct):
    """The values of a bank, by the hash's identifier."""

    algorithm: int
    values: list[Value]


class Attestation(msgspec.Struct, kw_only=True):
    """A TPM's statement about one time, in version 2."""

    logs: list[Log] = []
    aik_cert: str = ""
    aik_pub: dict[str, Any]
    pcrs: list[Bank]
    quote: str
    signature: str


class Attestations(msgspec.Struct, kw_only=True):
    """A TPM's statements, in version 2: about now, and about the boot."""

    current_attestation: Attestation
    boot_attestation: Attestation | None = None


class PlatformClaims(msgspec.Struct, kw_only=True):
    """A TPM's statements, in version 1."""

    srtm_boot_log: str = ""
    srtm_resume_log: str = ""
    drtm_boot_log: str = ""
    drtm_resume_log: str = ""
    aik_cert: str = ""
    aik_pub: dict[str, Any]
    current_claim: str
    boot_claim: str = ""


class Certified(msgspec.Struct, kw_only=True):
    """A key that the attestation key certified, base64url each."""

    public: str
    certification: str
    signature: str


class Quoted(msgspec.Struct, kw_only=True):
    """A key that the quote covers, with this hash."""

    hash_alg: str = "sha-256"


class KeyInfo(msgspec.Struct, kw_only=True):
    """How a key is bound to the TPM: by the quote, by a certification, or not at all."""

    tpm_quote: Quoted | None = None
    tpm_certify: Certified | None = None


class Key(msgspec.Struct, kw_only=True):
    """A key, in version 2; the bytes of ``jwk`` are used unchanged."""

    jwk: msgspec.Raw
    info: KeyInfo | None = None


class CustomClaim(msgspec.Struct, kw_only=True):
    """A client's claim about itself."""

    name: str
    value: str | int | bool
    value_type: str | None = None


class Data(msgspec.Struct, kw_only=True):
    """The data of the request."""

    rp_id: str | None = None
    rp_data: str | None = None
    challenge: str
    service_context: str
    tpm_att_data: msgspec.Raw
    attest_key: msgspec.Raw = msgspec.Raw(b"null")
    request_key: Key | None = None
    other_keys: list[Key] = []
    custom_claims: list[CustomClaim] = []


class EnclaveReport(msgspec.Struct):
    """A VBS enclave's report, base64url."""

    report: str


class VsmReport(msgspec.Struct):
    """Version 2's wrapper around it."""

    enclave: EnclaveReport


class Enclosed(msgspec.Struct, kw_only=True):
    """The same, within the data of a VBS enclave's report; the bytes of ``report_signed`` are used unchanged.

    In version 1, ``vsm_report`` is the text of a report; in version 2, it is an object.
    """

    report_signed: msgspec.Raw
    vsm_report: str | VsmReport


class _Payload(msgspec.Struct, kw_only=True):
    att_type: str
    att_data: msgspec.Raw


@frozen(kw_only=True)
class Request:
    """A request, signed by its own key.

    Attributes:
        data: its content.
        version: 1 or 2.
        jwk: the request's key, the exact bytes sent.
        key: the same, parsed.
        info: how it claims to be bound to the TPM; absent in version 1.
        current: the TPM's statement about now: version 2, or version 1's claims.
        vsm_report: of a VBS enclave; empty without one.
        reported: the exact bytes that a VBS enclave reports on; empty without one.
    """

    data: Data
    version: int
    jwk: bytes
    key: PublicKey
    info: KeyInfo
    current: Attestations | PlatformClaims
    vsm_report: bytes
    reported: bytes


def parse(jws: str) -> Request:
    """Parse a request, and check that its own key signed it.

    Raises:
        InvalidParameter: not a request, or another key signed it.
    """
    if len(jws) > MAX_JWS:
        raise InvalidParameter(f"request: want at most {MAX_JWS} characters, got {len(jws)}")
    parts = jws.split(".")
    if len(parts) != 3:
        raise InvalidParameter(f"request: want three parts, got {len(parts)}")
    header = json_object(decode_base64(parts[0], "request header", most=4096), "request header")
    version = TYPES.get(str(header.get("typ", "")).lower())
    if version is None:
        raise InvalidParameter(f"request typ: want attReq or attReqV2, got {str(header.get('typ'))[:32]!a}")
    payload = decode_base64(parts[1], "request payload", most=MAX_JWS)
    json_object(payload, "request payload")
    body = _decode(payload, _Payload, "payload")
    kind = body.att_type.lower()
    if kind not in KINDS:
        raise InvalidParameter(f"att_type: want one of {', '.join(KINDS)}, got {body.att_type[:32]!a}")
    raw, report = bytes(body.att_data), b""
    if kind != "basic":
        enclosed = _decode(raw, Enclosed, "att_data")
        raw = bytes(enclosed.report_signed)
        report_member = enclosed.vsm_report
        text = report_member if isinstance(report_member, str) else report_member.enclave.report
        report = decode_base64(text, "vsm_report", most=64 * 1024)
    data = _decode(raw, Data, "att_data")
    jwk, info = _key_of(data, version)
    try:
        key = jose.parse_jwk(jwk, "request key")
    except KluisError as error:
        raise InvalidParameter(error.message) from None
    _check(
        header.get("alg"),
        key,
        decode_base64(parts[2], "request signature", most=1024),
        jws.rpartition(".")[0],
    )
    if len(data.other_keys) > MOST_OTHER_KEYS:
        raise InvalidParameter(f"other_keys: want at most {MOST_OTHER_KEYS}, got {len(data.other_keys)}")
    if len(data.custom_claims) > MOST_CLAIMS:
        raise InvalidParameter(f"custom_claims: want at most {MOST_CLAIMS}, got {len(data.custom_claims)}")
    current: Attestations | PlatformClaims
    if version == 2:
        current = _decode(bytes(data.tpm_att_data), Attestations, "tpm_att_data")
    else:
        current = _decode(bytes(data.tpm_att_data), PlatformClaims, "tpm_att_data")
    return Request(
        data=data,
        version=version,
        jwk=jwk,
        key=key,
        info=info,
        current=current,
        vsm_report=report,
        reported=raw if report else b"",
    )


def _key_of(data: Data, version: int) -> tuple[bytes, KeyInfo]:
    if version == 1:
        if bytes(data.attest_key) == b"null":
            raise InvalidParameter("attest_key: want a JWK, got none")
        return bytes(data.attest_key), KeyInfo()
    key = data.request_key
    if key is None:
        raise InvalidParameter("request_key: want one, got none")
    info = key.info or KeyInfo()
    if (info.tpm_quote is None) is (info.tpm_certify is None):
        raise InvalidParameter("request_key.info: want tpm_quote or tpm_certify")
    return bytes(key.jwk), info


def _check(algorithm: object, key: PublicKey, signature: bytes, signed: str) -> None:
    scheme = _SCHEMES.get((algorithm, key.kind)) if isinstance(algorithm, str) else None
    if scheme is None:
        wanted = " or ".join(name for name, kind in _SCHEMES if kind is key.kind) or "another key"
        raise InvalidParameter(f"request alg: want {wanted}, got {str(algorithm)[:32]!a}")
    try:
        loaded = OPENSSL.key(key.spki, scheme)
        signatures.check_raw_by(loaded, signature, signed.encode(), scheme, "request", code="sig_token")
    except ValueError as error:
        raise InvalidParameter(f"request key: {error}") from None
    except KluisError as error:
        raise InvalidParameter(error.message) from None


def _decode(data: bytes, kind: type[Any], what: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        raise InvalidParameter(f"{what}: {str(error)[:200]}") from None
