"""Claims of TPMs, for policies: what was proven of key and boot, and the log and PCRs as JSON.

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
from kluis.services.attestation.tpm.evidence import Said

__all__ = ["READ_ONLY", "tpm_claims"]

READ_ONLY: Final = frozenset({"pcrs"})


def tpm_claims(said: Said) -> dict[str, Any]:
    """What the service says of a TPM to a policy. A token has none of it but what a policy issues."""
    boot = boot_of(said.now.log)
    measured = boot.windows is not None and boot.readable
    found: dict[str, Any] = {
        "x-ms-attestation-type": "tpm",
        "aikValidated": said.certified,
        "aikPubHash": b64.encode(hashlib.sha256(said.ak).digest()),
        "tpmVersion": 2,
        "secureBootEnabled": boot.secure_boot is True,
        "iommuEnabled": boot.known_on(Sipa.VBS_IOMMU_REQUIRED),
        # Windows measures its modes whatever they are: only of a start that it measured is anything known.
        "bootDebuggingDisabled": measured and not boot.perhaps_on(Sipa.BOOTDEBUGGING),
        "notSafeMode": measured and not boot.perhaps_on(Sipa.SAFEMODE),
        "notWinPE": measured and not boot.perhaps_on(Sipa.WINPE),
        "vbsEnabled": boot.known_on(Sipa.VBS_VSM_REQUIRED),
        "events": events(said.now),
        "pcrs": _pcrs(said),
        "x-ms-tpm-request-key": said.key.told(),
        PROTECTION: str(said.level),
    }
    if said.boot is not None:
        found["bootEvents"] = events(said.boot)
    if said.others:
        found["x-ms-tpm-other-keys"] = [each.told() for each in said.others]
    if said.anchor.startswith(EMULATED):
        found[EMULATED_CLAIM] = True
    return found


def _pcrs(said: Said) -> dict[str, Any]:
    by_index: dict[int, dict[str, str]] = {}
    for bank, values in said.now.checked.values.items():
        if bank in HASHES:
            for index, value in values.items():
                by_index.setdefault(index, {})[HASHES[HashId(bank)]] = value.hex()
    return {"PCRs": [{"Index": index, "Digests": by_index[index]} for index in sorted(by_index)]}
