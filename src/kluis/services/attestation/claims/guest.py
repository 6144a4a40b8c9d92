"""Claims of Azure guests: how the VM was booted, and its hardware's claims.

Azure does not publish when its service reports secure boot keys as ``validated``. Here a variable is
validated if the operator's list contains its value. Spec: Azure "Guest attestation of confidential VMs".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kluis.evidence.anchors import EMULATED
from kluis.formats.encoding import b64
from kluis.formats.eventlog.sipa import Sipa
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.public import DEFAULT_EXPONENT, Public, RsaPublic
from kluis.services.attestation.claims.platform import EMULATED_CLAIM, PROTECTION
from kluis.services.attestation.claims.snp import snp_claims
from kluis.services.attestation.claims.tdx import tdx_claims
from kluis.services.attestation.evidence.compliance import compliance_status
from kluis.services.attestation.guest.boot import boot_of
from kluis.services.attestation.guest.guest_request import PROTOCOL
from kluis.services.attestation.guest.guests import VerifiedGuest
from kluis.services.attestation.settings import VARIABLES, AttestationSettings

PCRS: Final = "x-kluis-pcrs"
KEY_ID: Final = "TpmEphemeralEncryptionKey"
ISOLATION: Final = "x-ms-isolation-tee"
_P: Final = "x-ms-azurevm-"


def guest_claims(guest: VerifiedGuest, settings: AttestationSettings) -> dict[str, Any]:
    """The claims of one guest.

    Args:
        guest: verified.
        settings: list the known good secure boot variables and code.
    """
    request, boot = guest.request, boot_of(guest.log)
    windows = request.os_type.lower() == "windows" or boot.windows is not None
    # Windows measures whether it can be debugged: if it measured nothing, this is unknown.
    unknown = windows and boot.windows is None
    debugged = {
        "bootdebug-enabled": unknown or boot.perhaps_on(Sipa.BOOTDEBUGGING),
        "kerneldebug-enabled": unknown or boot.perhaps_on(Sipa.OSKERNELDEBUG),
        "hypervisordebug-enabled": unknown or boot.perhaps_on(Sipa.HYPERVISOR_DEBUG),
    }
    signing = {
        "testsigning-enabled": unknown or boot.perhaps_on(Sipa.TESTSIGNING),
        "flightsigning-enabled": unknown or boot.perhaps_on(Sipa.FLIGHTSIGNING),
    }
    good = settings.secure_boot_variables
    guest_members: dict[str, Any] = {
        "attestation-protocol-ver": PROTOCOL,
        "attested-pcrs": list(request.pcr_set),
        **debugged,
        "dbvalidated": boot.all_known_good(good, "db"),
        "dbxvalidated": boot.all_known_good(good, "dbx"),
        "debuggersdisabled": not any(debugged.values()),
        "default-securebootkeysvalidated": boot.all_known_good(good, *VARIABLES),
        "elam-enabled": boot.known_on(Sipa.ELAM_AGGREGATION),
        **signing,
        "hvci-policy": boot.value(Sipa.VBS_HVCI_POLICY) if boot.readable else 0,
        "is-windows": windows,
        "osbuild": request.os_build,
        "osdistro": request.os_distro,
        "ostype": request.os_type,
        "osversion-major": request.os_version[0],
        "osversion-minor": request.os_version[1],
        "signingdisabled": not any(signing.values()),
    }
    if guest.hcl is not None and guest.hcl.vm_id:
        guest_members["vmid"] = guest.hcl.vm_id
    members: dict[str, Any] = {
        "secureboot": boot.secure_boot is True,
        "x-ms-attestation-type": "azurevm",
        **{_P + name: value for name, value in guest_members.items()},
        "x-ms-runtime": {"keys": [_jwk(guest.key)], "client-payload": dict(request.payload)},
        PROTECTION: str(guest.level),
        PCRS: {
            f"pcr{index}": value.hex()
            for index, value in request.pcrs[HashId.SHA256].items()
            if index in request.pcr_set
        },
    }
    if guest.anchor.startswith(EMULATED):
        members[EMULATED_CLAIM] = True
    if (isolation := _isolation(guest, settings)) is not None:
        members[ISOLATION] = isolation
    return members


def guest_aliases(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The hardware's claims for policies, under the dotted names that a release policy uses."""
    return {f"{ISOLATION}.{name}": value for name, value in claims.get(ISOLATION, {}).items()}


def _isolation(guest: VerifiedGuest, settings: AttestationSettings) -> dict[str, Any] | None:
    hardware = guest.hardware
    if hardware is None or guest.runtime is None:
        return None
    members = snp_claims(hardware) if hardware.tee == "snp" else tdx_claims(hardware)
    members["x-ms-runtime"] = guest.runtime.value
    status = compliance_status(hardware, guest.runtime, settings.compliance)
    if status is not None:
        members["x-ms-compliance-status"] = status
    return members


def _jwk(area: Public) -> dict[str, Any]:
    key = area.key
    modulus = key.modulus if isinstance(key, RsaPublic) else b""
    exponent = (key.exponent if isinstance(key, RsaPublic) else 0) or DEFAULT_EXPONENT
    return {
        "e": b64.encode_url(exponent.to_bytes((exponent.bit_length() + 7) // 8, "big")),
        "key_ops": ["encrypt"],
        "kid": KEY_ID,
        "kty": "RSA",
        "n": b64.encode_url(modulus),
    }
