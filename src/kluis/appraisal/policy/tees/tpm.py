"""The policy table of TPM quotes.

Spec: TCG "TPM 2.0 Library Part 2", "TPMS_ATTEST"; TCG "PC Client Platform Firmware Profile", "PCR Usage".
"""

from __future__ import annotations

from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.fields import Field, of
from kluis.appraisal.policy.tees import shared
from kluis.appraisal.policy.wants import Form, Required
from kluis.evidence.tpm.claims import TpmClaims

FIELDS: Final = (
    shared.registers(
        "PCR0 to 7 are firmware and its settings, 4 and 8 to 15 loader and kernel",
        r"pcr(?:[0-9]|1[0-9]|2[0-3])",
    ),
    Field(
        key="event_log_required",
        form=Form(Required),
        claim=of(TpmClaims, lambda c: c.log is not None and c.log.tells_of_firmware),
        about="whether a log must explain the PCRs, of which one at least is firmware's (0 to 7)",
        rule="event_log",
        aspect=Aspect.EXECUTABLES,
        fix="quote firmware's PCRs, and give the event log that explains them: --event-log",
    ),
    Field(
        key="secure_boot",
        form=Form(Required),
        claim=of(TpmClaims, lambda c: c.secure_boot),
        about="whether the log must prove that firmware enforced signatures; without a log nothing does",
        rule="secure_boot",
        aspect=Aspect.CONFIGURATION,
        fix="switch secure boot on, and give the event log that proves it: --event-log",
    ),
    Field(
        key="certified_key",
        form=Form(Required),
        claim=of(TpmClaims, lambda c: c.key_certified),
        about="whether the attestation key needs a certificate; otherwise you trust the key itself",
        rule="ak_certified",
        aspect=Aspect.HARDWARE,
        fix="give the attestation key's certificate and its chain: --collateral",
    ),
    Field(
        key="revocation_required",
        form=Form(Required),
        claim=of(TpmClaims, lambda c: c.revocation_checked),
        about="whether every issuer's revocation list must have been looked at",
        rule="revocation",
        aspect=Aspect.HARDWARE,
        fix="give the issuers' revocation lists: --collateral",
    ),
    shared.platforms("SHA-256 of attestation keys: single TPMs", 32),
)
