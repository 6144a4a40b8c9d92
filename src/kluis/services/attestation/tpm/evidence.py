"""What a TPM said, verified: whose quote, over which PCRs and which challenge, and for whose key.

Spec: Microsoft Azure Attestation, "TPM attestation"; version 1's claims as Windows' toolkit writes them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from datetime import datetime
from typing import Final

from kluis.errors import AuthenticityError, KluisError
from kluis.evidence import ProtectionLevel
from kluis.evidence.eventlog.judgement import LogClaims
from kluis.evidence.tpm import key as trust
from kluis.evidence.tpm import quote
from kluis.evidence.tpm.quote import Checked
from kluis.evidence.tpm.tpm import check_log
from kluis.formats import jose
from kluis.formats.tpm import certify, platform_claim, signature
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.pcrs import PCR_COUNT, Values
from kluis.formats.tpm.public import Public
from kluis.services.attestation.faults import InvalidEvidence, InvalidParameter
from kluis.services.attestation.octets import octets
from kluis.services.attestation.platforms import Platforms
from kluis.services.attestation.tpm.messages import (
    Attestation,
    Attestations,
    Certified,
    PlatformClaims,
    Request,
)

__all__ = ["Said", "verify"]

MAX_LOG: Final = 2 << 20
MAX_PART: Final = 16 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """What a TPM said that it did say.

    Attributes:
        level: of the root that vouches for the attestation key; ``none`` where nobody does.
        anchor: its name, or empty.
        certified: whether a certificate vouches for the key.
        ak: DER of the attestation key's SubjectPublicKeyInfo.
        checked: the quote, and the PCRs that it is over.
        log: what the log is worth; None without one.
        certified_area: of the request's key in the TPM, where it was certified.
    """

    level: ProtectionLevel
    anchor: str
    certified: bool
    ak: bytes
    checked: Checked
    log: LogClaims | None
    certified_area: Public | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Parts:
    """One time's evidence, whatever the version."""

    aik_cert: bytes
    ak: bytes
    message: bytes
    signed: bytes
    values: Values
    log: bytes


def verify(request: Request, challenge: bytes, platforms: Platforms, now: datetime) -> Said:
    """Verify what a request says of its TPM.

    1. A certificate, where there is one, vouches for the attestation key, under a root for TPMs.
    2. That key signed the quote, over the values of the request.
    3. The quote is over the request's key and the challenge: SHA-256(key || 0 || challenge); or over the
       challenge, and the attestation key certified the request's key, which has the name of its public area.
    4. The event log, where there is one, replays to the quoted values.

    Raises:
        InvalidEvidence: a step fails.
    """
    try:
        parts = _parts(request.current)
        level, anchor, certified = ProtectionLevel.NONE, "", False
        if parts.aik_cert:  # 1
            key = platforms.attestation_key(parts.aik_cert, now)
            if key.spki != parts.ak:
                raise AuthenticityError(
                    "aik_pub: want the certificate's key, got another", code="key_binding"
                )
            level = ProtectionLevel.VTPM if key.anchor.level.hardware else key.anchor.level
            anchor, certified = key.anchor.name, True
        checked = quote.check(  # 2
            parts.message,
            signature.parse_either(parts.signed),
            parts.values,
            parts.ak,
            context=platforms.context,
        )
        area = _bound(request, challenge, checked, parts.ak, platforms)  # 3
        log = check_log(parts.log, checked) if parts.log else None  # 4
    except InvalidParameter:
        raise
    except KluisError as error:
        raise platforms.invalid("TPM evidence", error) from None
    return Said(level, anchor, certified, parts.ak, checked, log, area)


def _bound(
    request: Request, challenge: bytes, checked: Checked, ak: bytes, platforms: Platforms
) -> Public | None:
    got = checked.quote.extra_data
    certified = request.info.tpm_certify
    want = challenge if certified else hashlib.sha256(request.jwk + b"\0" + challenge).digest()
    if not hmac.compare_digest(got, want):
        what = "the challenge" if certified else "SHA-256 of the request's key, a zero byte and the challenge"
        raise InvalidEvidence(
            f"TPM quote: qualifying data: want {want.hex()}, {what}, got {got.hex() or 'none'}",
            code="runtime_data_binding",
        )
    return None if certified is None else _certified(request, certified, ak, platforms)


def _certified(request: Request, given: Certified, ak: bytes, platforms: Platforms) -> Public:
    message = octets(given.certification, "tpm_certify.certification", most=MAX_PART)
    signed = signature.parse_either(octets(given.signature, "tpm_certify.signature", most=MAX_PART))
    if not quote.signed_by(message, signed, ak, platforms.context):
        raise AuthenticityError("tpm_certify: is not signed by the attestation key", code="sig_tpm")
    area = trust.area_of(octets(given.public, "tpm_certify.public", most=MAX_PART))
    named = certify.parse(message)
    if named.name != area.name or area.spki != request.key.spki:
        raise AuthenticityError("tpm_certify: certifies another key than the request's", code="key_binding")
    return area


def _parts(current: Attestations | PlatformClaims) -> _Parts:
    if isinstance(current, Attestations):
        return _of_attestation(current.current_attestation)
    claim = platform_claim.parse(octets(current.current_claim, "current_claim", most=MAX_LOG))
    # A resumed machine's log is the newer one; what a claim carries of its own is the newest.
    given = current.srtm_resume_log or current.srtm_boot_log
    log = octets(given, "srtm log", most=MAX_LOG) if given else claim.log
    return _Parts(
        aik_cert=octets(current.aik_cert, "aik_cert", most=MAX_PART),
        ak=jose.public_key(current.aik_pub, "aik_pub").spki,
        message=claim.quote,
        signed=claim.signature,
        values={claim.bank: dict(enumerate(claim.values))},
        log=log,
    )


def _of_attestation(given: Attestation) -> _Parts:
    logs = [each for each in given.logs if each.type.upper() == "TCG"]
    if len(logs) > 1:
        raise InvalidParameter(f"logs: want at most one of type TCG, got {len(logs)}")
    return _Parts(
        aik_cert=octets(given.aik_cert, "aik_cert", most=MAX_PART),
        ak=jose.public_key(given.aik_pub, "aik_pub").spki,
        message=octets(given.quote, "quote", most=MAX_PART),
        signed=octets(given.signature, "signature", most=MAX_PART),
        values=_values(given),
        log=octets(logs[0].log, "log", most=MAX_LOG) if logs else b"",
    )


def _values(given: Attestation) -> Values:
    found: dict[HashId, dict[int, bytes]] = {}
    for bank in given.pcrs:
        if bank.algorithm not in (HashId.SHA1, HashId.SHA256) or bank.algorithm in found:
            raise InvalidParameter(f"pcrs.algorithm: want 4 and 11, each once, got {bank.algorithm}")
        held = found.setdefault(HashId(bank.algorithm), {})
        for each in bank.values:
            value = octets(each.digest, f"pcrs.{each.index}", most=64)
            if (
                not 0 <= each.index < PCR_COUNT
                or len(value) != HashId(bank.algorithm).size
                or each.index in held
            ):
                raise InvalidParameter(f"pcrs.{each.index}: want one value of a PCR, 0..{PCR_COUNT - 1}")
            held[each.index] = value
    return found
