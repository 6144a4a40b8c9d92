"""Runtime data and init-time data: client data that the evidence is bound to.

The evidence contains the SHA-256 of the bytes as sent, so they are hashed unchanged. Spec: Microsoft Azure
Attestation, "RuntimeData", "InitTimeData".
"""

from __future__ import annotations

import hmac
from typing import Any, Final

import msgspec

from kluis.evidence import Claims, SnpClaims, TdxClaims, Tee
from kluis.formats.encoding import b64
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.services.attestation.faults import InvalidEvidence, InvalidParameter
from kluis.services.attestation.octets import decode_base64, json_object

MAX_BYTES: Final = 256 * 1024


class Data(msgspec.Struct):
    """Data in a request.

    Attributes:
        data: base64url.
        dataType: ``JSON`` or ``Binary``, in any case.
    """

    data: str | None = None
    dataType: str | None = None  # noqa: N815 - as it is on the wire


@frozen
class Bound:
    """Data sent with evidence.

    Attributes:
        raw: the bytes.
        value: the decoded JSON; None for binary data.
    """

    raw: bytes
    value: dict[str, Any] | None

    @property
    def text(self) -> str:
        """The bytes in base64url."""
        return b64.encode_url(self.raw)


def read(data: Data | None, what: str) -> Bound | None:
    """Read a client's data; empty data count as absent, because some clients always send them.

    Raises:
        InvalidParameter: not base64, of an unknown type, or invalid JSON.
    """
    if data is None or not data.data:
        return None
    raw = decode_base64(data.data, f"{what}.data", most=MAX_BYTES)
    kind = (data.dataType or "Binary").lower()
    if kind == "json":
        return Bound(raw, json_object(raw, f"{what}.data"))
    if kind != "binary":
        raise InvalidParameter(f"{what}.dataType: want JSON or Binary, got {data.dataType!a:.40}")
    return Bound(raw, None)


def check_runtime(claims: Claims, bound: Bound | None) -> None:
    """Refuse runtime data that the evidence is not bound to.

    The first 32 bytes of report data are their SHA-256. The other 32 are zero in an SNP report; on SGX and
    TDX the application chooses them.

    Raises:
        InvalidEvidence: code ``runtime_data_binding``.
    """
    if bound is None:
        return
    want, got = sha256(bound.raw), claims.report_data
    whole = want + bytes(32) if claims.tee is Tee.SNP else want
    if not hmac.compare_digest(got[: len(whole)], whole):
        raise InvalidEvidence(
            f"runtimeData: want report data {want.hex()}, the SHA-256 of the data, got {got.hex()}",
            hint="hash the very bytes that are sent, before they are encoded",
            code="runtime_data_binding",
        )


def check_init_time(claims: Claims, bound: Bound | None) -> None:
    """Refuse init-time data that the evidence is not bound to, by CONFIGID, HOST_DATA or MRCONFIGID.

    Raises:
        InvalidEvidence: code ``init_time_data_binding``.
    """
    if bound is None:
        return
    want = sha256(bound.raw)
    name, got = _configuration_field(claims)
    if got is None:
        raise InvalidEvidence(
            f"initTimeData: want {name} to hold {want.hex()}, got none: this platform has no such field",
            hint="CONFIGID needs key separation and sharing (KSS), on in the enclave's attributes",
            code="init_time_data_binding",
        )
    if not hmac.compare_digest(got[:32], want):
        raise InvalidEvidence(
            f"initTimeData: want {name} {want.hex()}, the SHA-256 of the data, got {got[:32].hex()}",
            code="init_time_data_binding",
        )


def _configuration_field(claims: Claims) -> tuple[str, bytes | None]:
    match claims.vendor:
        case SnpClaims(host_data=data):
            return "host data", data
        case TdxClaims(mrconfigid=data):
            return "MRCONFIGID", data
        case _:
            return "CONFIGID", claims.config_id
