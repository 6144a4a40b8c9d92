"""Verify Azure guests: that one VM sent the request, from its hardware to the key for its token.

Spec: Azure "Guest attestation of confidential VMs", protocol 2.0.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kluis.errors import AuthenticityError, KluisError
from kluis.evidence import Claims, ProtectionLevel, Tee
from kluis.evidence.eventlog.judgement import LogClaims
from kluis.evidence.tpm import key as trust
from kluis.evidence.tpm import quote
from kluis.evidence.tpm.quote import Checked
from kluis.evidence.tpm.tpm import check_log
from kluis.formats.hcl import runtime as hcl_runtime
from kluis.formats.hcl.runtime import RuntimeData
from kluis.formats.tpm import certify, public, signature
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.attest import Selection
from kluis.formats.tpm.public import Attribute, Public, RsaPublic
from kluis.frozen import frozen
from kluis.services.attestation.evidence import bound_data
from kluis.services.attestation.evidence.bound_data import Bound
from kluis.services.attestation.evidence.platforms import Platforms, refusal
from kluis.services.attestation.faults import InvalidEvidence
from kluis.services.attestation.guest.guest_request import Guest
from kluis.services.attestation.octets import json_object

MIN_BITS: Final = 2048
_SNP, _TDX, _TRUSTED_LAUNCH = "sevsnp", "tdx", "trustedlaunch"
_OWN: Final = (
    Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN | Attribute.DECRYPT
)


@frozen
class VerifiedGuest:
    """A verified guest.

    Attributes:
        request: as parsed.
        hardware: claims of the processor; None on a VM with only trusted launch.
        level: the hardware's, or the vTPM's.
        anchor: name of the root.
        runtime: the data that the hardware's report binds; None without hardware.
        hcl: the same, parsed.
        key: the public area of the key to encrypt the token to.
        log: the result of checking the event log; None if there is none.
    """

    request: Guest
    hardware: Claims | None
    level: ProtectionLevel
    anchor: str
    runtime: Bound | None
    hcl: RuntimeData | None
    key: Public
    log: LogClaims | None


def verify(guest: Guest, platforms: Platforms, now: datetime) -> VerifiedGuest:
    """Verify everything that a guest sent.

    1. The hardware's report is authentic, of VMPL 0 on SNP, and binds the runtime data. Or, with trusted
       launch, a certificate under a TPM's root certifies the attestation key.
    2. The attestation key is the one in the runtime data or the certificate, and a restricted signing key
       that its TPM generated.
    3. That key quoted exactly the PCRs of the request, and the values match.
    4. The event log, if there is one, replays to them.
    5. That key certified the encryption key in the same boot. It is an RSA decryption key that the TPM
       generated.

    The protocol has no nonce from the service: only the client's own payload shows how fresh a quote is.

    Raises:
        InvalidEvidence: a step fails.
        InvalidParameter: the evidence of the hardware is malformed.
        UnavailableError: Intel's documents are unavailable.
    """
    runtime: Bound | None = None
    hcl: RuntimeData | None = None
    hardware: Claims | None = None
    try:
        if guest.isolation == _TRUSTED_LAUNCH:  # 1
            certified = platforms.attestation_key(guest.aik_certificate, now)
            ak, level, anchor = certified.spki, _of_tpm(certified.anchor.level), certified.anchor.name
        else:
            hardware = _hardware(guest, platforms, now)
            runtime = Bound(guest.runtime, json_object(guest.runtime, "RunTimeData"))
            bound_data.check_runtime(hardware, runtime)
            hcl = hcl_runtime.parse(guest.runtime)
            ak, level, anchor = hcl.ak, hardware.level, hardware.anchor
        area = trust.area_of(guest.aik)  # 2
        trust.check_area(area)
        if area.spki != ak:
            raise AuthenticityError("AikPub: want the certified key, got another", code="key_binding")
        checked = quote.check(  # 3
            guest.quote,
            signature.parse_either(guest.signature),
            guest.pcrs,
            ak,
            context=platforms.context,
            selection=(Selection.of(HashId.SHA256, *guest.pcr_set),),
        )
        log = check_log(guest.log, checked.values) if guest.log else None  # 4
        key = _encryption_key(guest, ak, checked, platforms)  # 5
    except InvalidEvidence:
        raise
    except KluisError as error:
        raise refusal("guest evidence", error) from None
    return VerifiedGuest(guest, hardware, level, anchor, runtime, hcl, key, log)


def _hardware(guest: Guest, platforms: Platforms, now: datetime) -> Claims:
    if guest.isolation == _SNP:
        claims = platforms.report(guest.proof, now)
        vmpl = getattr(claims.vendor, "vmpl", None)
        if vmpl != 0:
            raise InvalidEvidence(f"SNP report: want VMPL 0, the paravisor's, got {vmpl}", code="vmpl")
        return claims
    if guest.isolation == _TDX:
        return platforms.quote(guest.proof, Tee.TDX, None, now).claims
    raise InvalidEvidence(
        f"IsolationInfo.Type: want TrustedLaunch, SevSnp or Tdx, got {guest.isolation[:32]!a}"
    )


def _encryption_key(guest: Guest, ak: bytes, checked: Checked, platforms: Platforms) -> Public:
    signed = signature.parse_either(guest.certification_signature)
    if not quote.signed_by(guest.certification, signed, ak, platforms.context):
        raise AuthenticityError("EncKeyCertifyInfo: is not signed by the attestation key", code="sig_tpm")
    named, area = certify.parse(guest.certification), public.parse_decryption(guest.key)
    quote.check_boot(named.clock, checked.quote.clock, "EncKeyCertifyInfo")
    if named.name != area.name:
        raise AuthenticityError(
            f"EncKeyPub: want the certified key {named.name.hex()[:16]}.., got {area.name.hex()[:16]}..",
            code="key_binding",
        )
    if _OWN & ~area.attributes or area.attributes & Attribute.RESTRICTED:
        raise AuthenticityError(
            f"EncKeyPub: want a key of the TPM's own that decrypts, got attributes {area.attributes:#x}",
            code="key_binding",
        )
    bits = area.key.bits if isinstance(area.key, RsaPublic) else 0
    if bits < MIN_BITS:
        raise AuthenticityError(f"EncKeyPub: want at least {MIN_BITS} bits, got {bits}", code="key_binding")
    return area


def _of_tpm(level: ProtectionLevel) -> ProtectionLevel:
    """A quote is only a TPM's statement, whatever else its root certifies."""
    return ProtectionLevel.VTPM if level.hardware else level
