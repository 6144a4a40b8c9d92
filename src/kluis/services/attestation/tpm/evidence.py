"""Verify a TPM's statement: the quote's key, its PCRs and challenge, and the request's keys.

Spec: Microsoft Azure Attestation, "TPM attestation", "TPM and VBS enclave attestation protocol". Quotes over
SHA-1, which old attestation keys of Windows sign, are refused: SHA-1 is no longer collision resistant.
"""

from __future__ import annotations

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
from kluis.frozen import frozen
from kluis.services.attestation.evidence.platforms import Platforms, refusal
from kluis.services.attestation.faults import InvalidParameter
from kluis.services.attestation.tpm.keys import BoundKey, other_keys, request_key
from kluis.services.attestation.tpm.messages import Request
from kluis.services.attestation.tpm.parts import Parts, parts_of


@frozen
class Time:
    """A TPM's verified statement about one time.

    Attributes:
        checked: the quote and its PCRs.
        log: the result of checking the event log; None without one.
        ima: records of the running Linux that the quote proves.
    """

    checked: Checked
    log: LogClaims | None
    ima: Proven


@frozen
class TpmEvidence:
    """The verified statements of a TPM.

    Attributes:
        level: of the attestation key's root; ``none`` if nothing certifies the key.
        anchor: name of the root, or empty.
        certified: whether a certificate certifies the key.
        ak: DER of the attestation key's SubjectPublicKeyInfo.
        now: its statement about now.
        boot: its statement about the boot, if the machine has resumed since.
        key: the request's key.
        others: further keys.
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
    """Verify a request's statements about its TPM.

    1. A certificate, if there is one, certifies the attestation key, under a root for TPMs.
    2. That key signed the quote, over the values of the request.
    3. The quote covers the challenge, together with the request's key or with that key's certification
       (:func:`keys.request_key`). Further keys are certified, or reported as unbound.
    4. The event logs, if there are any, replay to the quoted values; so do IMA's, at one of its records.
    5. The statement about the boot, if there is one: the same key quoted it earlier, over values to which its
       logs replay, and the TPM was not reset between.

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
        quoted = current.checked.quote
        bound = request_key(request, challenge, quoted, parts.ak, platforms.context)  # 4
        others = other_keys(request.data.other_keys, challenge, quoted, parts.ak, platforms.context)
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
    return Time(checked, log, ima_log.prove_records(records, checked.values) if records else Proven())


def _before(parts: Parts, current: Parts, now: Time, context: Context) -> Time:
    if parts.ak != current.ak:
        raise AuthenticityError("boot: want the same attestation key, got another", code="key_binding")
    earlier = _time(parts, context)
    then, since = earlier.checked.quote.clock, now.checked.quote.clock
    # Resuming counts as a restart; a reset is another boot. A key obscures both counts, each by one number.
    if then.reset_count != since.reset_count or then.milliseconds > since.milliseconds:
        raise AuthenticityError(
            "boot: want a quote of this boot, before the current one, got one of another boot or later",
            code="pcr_boot",
        )
    return earlier
