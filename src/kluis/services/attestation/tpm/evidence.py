"""What a TPM said, verified: whose quote, over which PCRs and which challenge, and for whose key.

Spec: Microsoft Azure Attestation, "TPM attestation", "TPM and VBS enclave attestation protocol". Quotes over
SHA-1, which old attestation keys of Windows sign, are refused: nothing binds a machine by SHA-1 any more.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime

from kluis.errors import AuthenticityError, KluisError
from kluis.evidence import ProtectionLevel
from kluis.evidence.context import Context
from kluis.evidence.eventlog import ima as ima_log
from kluis.evidence.eventlog.ima import Proven
from kluis.evidence.eventlog.judgement import LogClaims
from kluis.evidence.tpm import quote
from kluis.evidence.tpm.quote import Checked
from kluis.evidence.tpm.tpm import check_log
from kluis.formats.eventlog import ima
from kluis.formats.tpm import signature
from kluis.services.attestation.evidence.platforms import Platforms, refusal
from kluis.services.attestation.faults import InvalidParameter
from kluis.services.attestation.tpm.keys import BoundKey, other_keys, request_key
from kluis.services.attestation.tpm.messages import Request
from kluis.services.attestation.tpm.parts import Parts, parts_of


@dataclasses.dataclass(frozen=True, slots=True)
class Time:
    """What a TPM said of one time.

    Attributes:
        checked: the quote, and the PCRs that it is over.
        log: what the event log is worth; None without one.
        ima: records of Linux while it ran, that the quote proves.
    """

    checked: Checked
    log: LogClaims | None
    ima: Proven


@dataclasses.dataclass(frozen=True, slots=True)
class TpmEvidence:
    """What a TPM said that it did say.

    Attributes:
        level: of the root that vouches for the attestation key; ``none`` where nobody does.
        anchor: its name, or empty.
        certified: whether a certificate vouches for the key.
        ak: DER of the attestation key's SubjectPublicKeyInfo.
        now: what it said of now.
        boot: of the boot, where the machine has resumed since.
        key: the request's.
        others: keys beside it.
    """

    level: ProtectionLevel
    anchor: str
    certified: bool
    ak: bytes
    now: Time
    boot: Time | None
    key: BoundKey
    others: tuple[BoundKey, ...]


def verify(request: Request, challenge: bytes, platforms: Platforms, now: datetime) -> TpmEvidence:
    """Verify what a request says of its TPM.

    1. A certificate, where there is one, vouches for the attestation key, under a root for TPMs.
    2. That key signed the quote, over the values of the request.
    3. The event logs, where there are some, replay to the quoted values; so do IMA's, at one of its records.
    4. The quote is over the challenge, with the request's key or beside its certification
       (:func:`keys.request_key`); further keys are certified, or called unbound.
    5. What is said of the boot, where it is: the same key quoted it earlier, over values to which its logs
       replay, and the TPM was not reset between.

    Raises:
        InvalidEvidence: a step fails.
        InvalidParameter: a part is malformed.
    """
    try:
        parts, before = parts_of(request.current)
        level, anchor, certified = ProtectionLevel.NONE, "", False
        if parts.aik_cert:  # 1
            key = platforms.attestation_key(parts.aik_cert, now)
            if key.spki != parts.ak:
                raise AuthenticityError(
                    "aik_pub: want the certificate's key, got another", code="key_binding"
                )
            level = ProtectionLevel.VTPM if key.anchor.level.hardware else key.anchor.level
            anchor, certified = key.anchor.name, True
        current = _time(parts, platforms.context)  # 2, 3
        quoted = current.checked.quote.extra_data
        bound = request_key(request, challenge, quoted, parts.ak, platforms.context)  # 4
        others = other_keys(request.data.other_keys, challenge, parts.ak, platforms.context)
        boot = None if before is None else _before(before, parts, current, platforms.context)  # 5
    except InvalidParameter:
        raise
    except KluisError as error:
        raise refusal("TPM evidence", error) from None
    return TpmEvidence(level, anchor, certified, parts.ak, current, boot, bound, others)


def _time(parts: Parts, context: Context) -> Time:
    signed = signature.parse_either(parts.signed)
    checked = quote.check(parts.message, signed, parts.values, parts.ak, context=context)
    log = check_log(parts.logs[0], checked.values, *parts.logs[1:]) if parts.logs else None
    records = ima.parse(b"".join(parts.ima))
    return Time(checked, log, ima_log.proven(records, checked.values) if records else Proven())


def _before(parts: Parts, current: Parts, now: Time, context: Context) -> Time:
    if parts.ak != current.ak:
        raise AuthenticityError("boot: want the same attestation key, got another", code="key_binding")
    earlier = _time(parts, context)
    then, since = earlier.checked.quote.clock, now.checked.quote.clock
    # Restarts are what resuming is; a reset is another boot. Keys obscure the counts, each by one number.
    if then.reset_count != since.reset_count or then.milliseconds > since.milliseconds:
        raise AuthenticityError(
            "boot: want a quote of this boot, before the current one, got one of another boot or later",
            code="pcr_boot",
        )
    return earlier
