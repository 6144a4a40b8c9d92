"""Verify TPM quotes and return their claims.

Spec: TCG "TPM 2.0 Library Part 1: Architecture", "Attestation"; the steps are numbered once, here
and where they are made, and each has a forged case in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from kluis.errors import AuthenticityError, UnavailableError, UnsupportedError
from kluis.evidence.context import Context
from kluis.evidence.eventlog import judgement
from kluis.evidence.eventlog.judgement import LogClaims
from kluis.evidence.eventlog.replay import Registers
from kluis.evidence.model import Claims
from kluis.evidence.tpm import key as trust
from kluis.evidence.tpm import quote
from kluis.evidence.tpm.activation import Activated
from kluis.evidence.tpm.claims import KIND as KIND
from kluis.evidence.tpm.claims import claims, vendor_claims
from kluis.evidence.tpm.key import TrustedKey
from kluis.evidence.tpm.quote import Checked
from kluis.evidence.verified import Verified, mint
from kluis.formats.eventlog import log as event_log
from kluis.formats.ietf import cmw
from kluis.formats.tpm import pcrs, signature
from kluis.formats.tpm.algorithm import ECDSA, HashId
from kluis.formats.tpm.endorsements import TpmEndorsements
from kluis.formats.tpm.public import Public
from kluis.formats.tpm.signature import EcdsaSignature, Signature

PARTS: Final = ("tpm_quote", "tpm_signature", "pcrs")
OPTIONAL: Final = ("event_log", "tpm_public")
_NONE: Final = TpmEndorsements()
_STRONGEST_FIRST: Final = (HashId.SHA512, HashId.SHA384, HashId.SHA256, HashId.SHA1)


def matches(data: bytes) -> bool:
    """Whether ``data`` starts like a collection, and has a TPM quote and no report of a TEE."""
    return cmw.matches(data) and b'"tpm_quote":[' in data and b'"hcl_report":[' not in data


def verify(
    data: bytes, *, context: Context, collateral: TpmEndorsements | Activated | None, now: datetime
) -> Verified[Claims]:
    """Verify one TPM quote with its PCR values and, if there is one, its event log.

    1. The collection has the parts ``tpm_quote`` (TPMS_ATTEST), ``tpm_signature`` (TPMT_SIGNATURE) and
       ``pcrs``, may have ``tpm_public`` (the AK's public area) and ``event_log``, and no others.
    2. A public area, the attester's or the one that the relying party expects, is that of a restricted
       signing key that the TPM generated.
    3. The attestation key is trusted. Either a certificate chain certifies it (:func:`key.verify_ak`), or it
       was activated in the TPM of a certified endorsement key (:mod:`activation`), or the relying party named
       the key itself, and not as a TEE's. All public areas are of that same key.
    4. The signature is of the scheme that the area names.
    5. The quote is that key's, and the PCR values are the quoted ones (:func:`quote.check`).
    6. The event log replays to the quoted values, explains every register that firmware closes, and reports
       no failed firmware.

    Appraisal compares the nonce, the PCRs and their values.

    Args:
        data: the collection.
        context: the trusted roots and the rest of the verifier's state.
        collateral: endorsements of the key; None if the relying party named it as a root.
        now: aware.

    Raises:
        FormatError: a part is malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
        FreshnessError: a certificate or CRL is expired or not yet valid.
        UnavailableError: nothing certifies the key, or an issuer is missing.
    """
    parts = cmw.Collection.parse(data).values(PARTS, OPTIONAL)  # 1
    endorsements = collateral or _NONE
    signed = signature.parse(parts["tpm_signature"])
    areas = [trust.area_of(parts["tpm_public"])] if "tpm_public" in parts else []
    if isinstance(endorsements, Activated):
        areas.append(endorsements.area)
    elif endorsements.public is not None:
        areas.append(trust.area_of(endorsements.public))
    for area in areas:  # 2
        trust.check_area(area)
    try:
        key = _find_key(parts["tpm_quote"], signed, areas, endorsements, context, now)  # 3
    except UnavailableError:
        # Refuse a quote that its own bytes contradict, before looking at any endorsement.
        unvouched = quote.check_unvouched(parts["tpm_quote"], signed, pcrs.parse(parts["pcrs"]))
        if unvouched is not None:
            _check_log(parts, unvouched)
        raise
    for area in areas:
        _check_same(area, key, signed)  # 3, 4
    values = pcrs.parse(parts["pcrs"])
    checked = quote.check(parts["tpm_quote"], signed, values, key.spki, context=context)  # 5
    log = _check_log(parts, checked)  # 6
    vendor = vendor_claims(
        checked, key.spki, certified=key if key.chain else None, area=areas[-1] if areas else None, log=log
    )
    return mint(
        claims(
            checked,
            vendor,
            level=key.anchor.level,
            anchor=key.anchor.name,
            issued=min((crl.this_update for crl in key.crls), default=None),
            until=key.valid_until,
            now=now,
        )
    )


def _check_log(parts: Mapping[str, bytes], checked: Checked) -> LogClaims | None:
    return check_log(parts["event_log"], checked.values) if "event_log" in parts else None


def _find_key(
    message: bytes,
    signed: Signature,
    areas: list[Public],
    endorsements: TpmEndorsements | Activated,
    context: Context,
    now: datetime,
) -> TrustedKey:
    if isinstance(endorsements, Activated):
        return endorsements.key(context, now)
    if endorsements.certificate is not None:
        return trust.verify_ak(endorsements, context=context, now=now)
    if areas:
        return trust.match_named(areas[0].spki, context)
    *others, last = trust.named_keys(context)
    for anchor in others:
        if quote.signed_by(message, signed, anchor.spki, context):
            return TrustedKey(spki=anchor.spki, anchor=anchor)
    return TrustedKey(spki=last.spki, anchor=last)


def _check_same(area: Public, key: TrustedKey, signed: Signature) -> None:
    if area.spki != key.spki:
        raise AuthenticityError("AK: the public area is of another key", code="key_binding")
    if area.key.scheme is None:
        return
    scheme = ECDSA if isinstance(signed, EcdsaSignature) else signed.scheme
    if (area.key.scheme, area.key.hash) != (scheme, signed.hash):
        raise AuthenticityError(
            f"{KIND}: want a signature of the AK's scheme {area.key.scheme:#x}, got {scheme:#x} "
            f"over {signed.hash.label}",
            code="sig_tpm",
        )


def check_log(data: bytes, values: pcrs.Values, *more: bytes) -> LogClaims:
    """Step 6: check an event log against the quoted PCRs, in the strongest bank that both have.

    Args:
        data: the log.
        values: PCRs that a quote proves, by bank.
        more: logs that follow it, such as that of a dynamic launch.

    Raises:
        FormatError: the log is malformed.
        AuthenticityError: it does not replay, or reports failed firmware.
        UnsupportedError: it has no digests for any quoted bank.
    """
    log = event_log.join([event_log.parse(each) for each in (data, *more)])
    declared = dict(log.algorithms)
    bank = next((b for b in _STRONGEST_FIRST if b in values and b in declared), None)
    if bank is None:
        raise UnsupportedError(
            f"event log: want digests of {[bank.label for bank in values]}, "
            f"got those of {[f'{algorithm:#06x}' for algorithm in declared]}",
            code="event_log",
        )
    judged = judgement.judge(log, bank, Registers.PCR, values[bank])
    if judged.failed:
        raise AuthenticityError(
            f"event log: PCRs {sorted(judged.failed)} tell that firmware failed", code="event_log"
        )
    if not judged.explained:
        raise AuthenticityError(
            f"event log: want PCRs as they were quoted, got others for {sorted(judged.contradicted)} "
            f"and nothing for {sorted(judged.unexplained)}",
            code="event_log",
        )
    return judged
