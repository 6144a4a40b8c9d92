"""A TPM's statement about one time, in either version of the protocol, as bytes. Nothing here is verified."""

from __future__ import annotations

from typing import Final

from kluis.formats.ietf import jose
from kluis.formats.tpm import platform_claim
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.pcrs import PCR_COUNT, Values
from kluis.frozen import frozen
from kluis.services.attestation.faults import InvalidParameter
from kluis.services.attestation.octets import decode_base64
from kluis.services.attestation.tpm.messages import Attestation, Attestations, PlatformClaims

MAX_LOG: Final = 2 << 20
MAX_PART: Final = 16 * 1024
MOST_LOGS: Final = 8


@frozen
class Parts:
    """One time's evidence.

    Attributes:
        aik_cert: DER or PEM; empty without one.
        ak: DER of the attestation key's SubjectPublicKeyInfo.
        message: TPMS_ATTEST.
        signed: its signature.
        values: of PCRs.
        logs: event logs, in the order of their measurements.
        ima: logs of the running Linux, in the order of their measurements.
    """

    aik_cert: bytes
    ak: bytes
    message: bytes
    signed: bytes
    values: Values
    logs: tuple[bytes, ...]
    ima: tuple[bytes, ...] = ()


def parts_of(attestation: Attestations | PlatformClaims) -> tuple[Parts, Parts | None]:
    """The statement about now, and the one about the boot if that is another time.

    Raises:
        InvalidParameter: a part is not base64url, too large, or repeated.
        KluisError: a claim or a key is malformed.
    """
    if isinstance(attestation, Attestations):
        boot = attestation.boot_attestation
        return _parts_of_attestation(
            attestation.current_attestation
        ), None if boot is None else _parts_of_attestation(boot)
    # A resumed machine's PCRs are from its resume: the boot's logs belong to the boot claim.
    boots = (attestation.srtm_boot_log, attestation.drtm_boot_log)
    resumed = (attestation.srtm_resume_log, attestation.drtm_resume_log)
    now = _parts_of_claim(
        attestation, "current_claim", attestation.current_claim, resumed if any(resumed) else boots
    )
    if not attestation.boot_claim:
        return now, None
    return now, _parts_of_claim(attestation, "boot_claim", attestation.boot_claim, boots)


def _parts_of_claim(claims: PlatformClaims, name: str, text: str, logs: tuple[str, ...]) -> Parts:
    claim = platform_claim.parse(decode_base64(text, name, most=MAX_LOG))
    events = tuple(decode_base64(log, "log", most=MAX_LOG) for log in logs if log)
    return Parts(
        aik_cert=decode_base64(claims.aik_cert, "aik_cert", most=MAX_PART),
        ak=jose.public_key(claims.aik_pub, "aik_pub").spki,
        message=claim.quote,
        signed=claim.signature,
        values={claim.bank: dict(enumerate(claim.values))},
        logs=events or ((claim.log,) if claim.log else ()),
    )


def _parts_of_attestation(attestation: Attestation) -> Parts:
    if len(attestation.logs) > MOST_LOGS:
        raise InvalidParameter(f"logs: want at most {MOST_LOGS}, got {len(attestation.logs)}")
    logs: dict[str, list[bytes]] = {"TCG": [], "IMA": []}
    for each in attestation.logs:
        kind = each.type.upper()
        if kind not in logs:
            raise InvalidParameter(f"logs.type: want TCG or IMA, got {each.type[:16]!a}")
        logs[kind].append(decode_base64(each.log, "log", most=MAX_LOG))
    return Parts(
        aik_cert=decode_base64(attestation.aik_cert, "aik_cert", most=MAX_PART),
        ak=jose.public_key(attestation.aik_pub, "aik_pub").spki,
        message=decode_base64(attestation.quote, "quote", most=MAX_PART),
        signed=decode_base64(attestation.signature, "signature", most=MAX_PART),
        values=_values(attestation),
        logs=tuple(logs["TCG"]),
        ima=tuple(logs["IMA"]),
    )


def _values(attestation: Attestation) -> Values:
    banks: dict[HashId, dict[int, bytes]] = {}
    for bank in attestation.pcrs:
        if bank.algorithm not in (HashId.SHA1, HashId.SHA256) or bank.algorithm in banks:
            raise InvalidParameter(f"pcrs.algorithm: want 4 and 11, each once, got {bank.algorithm}")
        values = banks.setdefault(HashId(bank.algorithm), {})
        for each in bank.values:
            if not 0 <= each.index < PCR_COUNT:
                raise InvalidParameter(f"pcrs.index: want 0..{PCR_COUNT - 1}, got {each.index}")
            value, size = (
                decode_base64(each.digest, f"pcrs.{each.index}", most=64),
                HashId(bank.algorithm).size,
            )
            if each.index in values:
                raise InvalidParameter(f"pcrs.{each.index}: want one value, got another")
            if len(value) != size:
                raise InvalidParameter(f"pcrs.{each.index}: want a value of {size} bytes, got {len(value)}")
            values[each.index] = value
    return banks
