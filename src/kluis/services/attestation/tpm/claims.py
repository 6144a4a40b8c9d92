"""Claims of TPMs for policies: what is proven about key and boot, and the log and PCRs as JSON.

Spec: Microsoft Azure Attestation, "Claim sets", "TPM attestation"; "Policy version 1.2", events and pcrs;
"Examples of an attestation policy for TPM endpoint".
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from kluis.evidence.anchors import EMULATED
from kluis.formats.encoding import b64
from kluis.formats.eventlog.sipa import Sipa
from kluis.formats.tpm.algorithm import HashId
from kluis.services.attestation.claims.platform import EMULATED_CLAIM, PROTECTION
from kluis.services.attestation.guest.boot import boot_of
from kluis.services.attestation.tpm.events import HASHES, events
from kluis.services.attestation.tpm.evidence import TpmEvidence

READ_ONLY: Final = frozenset({"pcrs"})


def tpm_claims(evidence: TpmEvidence) -> dict[str, Any]:
    """The service's claims about a TPM for a policy. A token contains only those that a policy issues."""
    boot = boot_of(evidence.now.log)
    measured = boot.windows is not None and boot.readable
    claims: dict[str, Any] = {
        "x-ms-attestation-type": "tpm",
        "aikValidated": evidence.certified,
        "aikPubHash": b64.encode(hashlib.sha256(evidence.ak).digest()),
        "tpmVersion": 2,
        "secureBootEnabled": boot.secure_boot is True,
        "iommuEnabled": boot.known_on(Sipa.VBS_IOMMU_REQUIRED),
        # Windows always measures its modes: they are known only for a boot that it measured.
        "bootDebuggingDisabled": measured and not boot.perhaps_on(Sipa.BOOTDEBUGGING),
        "notSafeMode": measured and not boot.perhaps_on(Sipa.SAFEMODE),
        "notWinPE": measured and not boot.perhaps_on(Sipa.WINPE),
        "vbsEnabled": boot.known_on(Sipa.VBS_VSM_REQUIRED),
        "events": events(evidence.now),
        "pcrs": _pcrs(evidence),
        "x-ms-tpm-request-key": evidence.key.claims(),
        PROTECTION: str(evidence.level),
    }
    if evidence.boot is not None:
        claims["bootEvents"] = events(evidence.boot)
    if evidence.others:
        claims["x-ms-tpm-other-keys"] = [each.claims() for each in evidence.others]
    if evidence.anchor.startswith(EMULATED):
        claims[EMULATED_CLAIM] = True
    return claims


def _pcrs(evidence: TpmEvidence) -> dict[str, Any]:
    by_index: dict[int, dict[str, str]] = {}
    for bank, values in evidence.now.checked.values.items():
        if bank in HASHES:
            for index, value in values.items():
                by_index.setdefault(index, {})[HASHES[HashId(bank)]] = value.hex()
    return {"PCRs": [{"Index": index, "Digests": by_index[index]} for index in sorted(by_index)]}
