"""Messages of the TPM protocol, versions 1 and 2: JSON within base64url within JSON, and a JWS.

Nothing here is verified but that the request's own key signed it. Spec: Microsoft Azure Attestation,
"TPM attestation", "VBS attestation protocol".
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import msgspec

from kluis.errors import KluisError
from kluis.evidence import signatures
from kluis.evidence.engine import OPENSSL
from kluis.formats import jose
from kluis.formats.x509 import KeyKind, PublicKey, Scheme
from kluis.services.attestation.faults import InvalidParameter
from kluis.services.attestation.octets import json_object, octets

__all__ = ["Attestation", "KeyInfo", "Request", "parse"]

MAX_JWS: Final = 3 << 20
TYPES: Final = {"attreq": 1, "attreqv2": 2}
KINDS: Final = ("basic", "vbs", "vsm")
MOST_CLAIMS: Final = 64
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
    """What a TPM says of one time, in version 2."""

    logs: list[Log] = []
    aik_cert: str = ""
    aik_pub: dict[str, Any]
    pcrs: list[Bank]
    quote: str
    signature: str


class Attestations(msgspec.Struct, kw_only=True):
    """What a TPM says, in version 2: now, and of the boot."""

    current_attestation: Attestation
    boot_attestation: Attestation | None = None


class PlatformClaims(msgspec.Struct, kw_only=True):
    """What a TPM says, in version 1."""

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


class KeyInfo(msgspec.Struct, kw_only=True):
    """How the request's key is bound to the TPM: by the quote, or by a certification."""

    tpm_quote: dict[str, Any] | None = None
    tpm_certify: Certified | None = None


class RequestKey(msgspec.Struct, kw_only=True):
    """The request's key, in version 2; the bytes of ``jwk`` as they were sent count."""

    jwk: msgspec.Raw
    info: KeyInfo


class CustomClaim(msgspec.Struct, kw_only=True):
    """A claim that the client makes of itself."""

    name: str
    value: str | int | bool
    value_type: str | None = None


class Data(msgspec.Struct, kw_only=True):
    """What the request says."""

    rp_id: str | None = None
    rp_data: str | None = None
    challenge: str
    service_context: str
    tpm_att_data: msgspec.Raw
    attest_key: msgspec.Raw = msgspec.Raw(b"null")
    request_key: RequestKey | None = None
    other_keys: list[Any] = []
    custom_claims: list[CustomClaim] = []


class Enclosed(msgspec.Struct, kw_only=True):
    """The same, inside what a VBS enclave reports; the bytes of ``report_signed`` as they were sent count."""

    report_signed: msgspec.Raw
    vsm_report: str


class _Payload(msgspec.Struct, kw_only=True):
    att_type: str
    att_data: msgspec.Raw


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request whose own key signed it.

    Attributes:
        data: what it says.
        version: 1 or 2.
        jwk: the request's key, the very bytes that were sent.
        key: the same, read.
        info: how it is bound to the TPM.
        current: what the TPM says now: version 2, or version 1's claims.
        vsm_report: of a VBS enclave; empty without.
        reported: the very bytes that a VBS enclave reports on; empty without.
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
    """Read a request, and see that its own key signed it.

    Raises:
        InvalidParameter: it is none, or another key signed it.
    """
    if len(jws) > MAX_JWS:
        raise InvalidParameter(f"request: want at most {MAX_JWS} characters, got {len(jws)}")
    parts = jws.split(".")
    if len(parts) != 3:
        raise InvalidParameter(f"request: want three parts, got {len(parts)}")
    header = json_object(octets(parts[0], "request header", most=4096), "request header")
    version = TYPES.get(str(header.get("typ", "")).lower())
    if version is None:
        raise InvalidParameter(f"request typ: want attReq or attReqV2, got {str(header.get('typ'))[:32]!a}")
    payload = octets(parts[1], "request payload", most=MAX_JWS)
    json_object(payload, "request payload")
    said = _decoded(payload, _Payload, "payload")
    kind = said.att_type.lower()
    if kind not in KINDS:
        raise InvalidParameter(f"att_type: want one of {', '.join(KINDS)}, got {said.att_type[:32]!a}")
    raw, report = bytes(said.att_data), b""
    if kind != "basic":
        enclosed = _decoded(raw, Enclosed, "att_data")
        raw = bytes(enclosed.report_signed)
        report = octets(enclosed.vsm_report, "vsm_report", most=64 * 1024)
    data = _decoded(raw, Data, "att_data")
    jwk, info = _key_of(data, version)
    try:
        key = jose.parse_jwk(jwk, "request key")
    except KluisError as error:
        raise InvalidParameter(error.message) from None
    _check(header.get("alg"), key, octets(parts[2], "request signature", most=1024), jws.rpartition(".")[0])
    if len(data.custom_claims) > MOST_CLAIMS:
        raise InvalidParameter(f"custom_claims: want at most {MOST_CLAIMS}, got {len(data.custom_claims)}")
    current: Attestations | PlatformClaims
    if version == 2:
        current = _decoded(bytes(data.tpm_att_data), Attestations, "tpm_att_data")
    else:
        current = _decoded(bytes(data.tpm_att_data), PlatformClaims, "tpm_att_data")
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
        return bytes(data.attest_key), KeyInfo(tpm_quote={})
    key = data.request_key
    if key is None:
        raise InvalidParameter("request_key: want one, got none")
    if (key.info.tpm_quote is None) is (key.info.tpm_certify is None):
        raise InvalidParameter("request_key.info: want tpm_quote or tpm_certify")
    return bytes(key.jwk), key.info


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


def _decoded(data: bytes, kind: type[Any], what: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"{what}: {str(error)[:200]}") from None
