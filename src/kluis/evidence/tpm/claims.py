"""The claims of a TPM quote and of its event log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from kluis.evidence.eventlog.judgement import LogClaims
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import NOT_JUDGED, Claims, Platform, Tee, VendorClaims
from kluis.evidence.tpm.key import TrustedKey
from kluis.evidence.tpm.quote import Checked
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.public import Public
from kluis.frozen import frozen
from kluis.hashes import SIZES, Algorithm, Digest, sha256

KIND = "TPM quote"
_ALGORITHMS: dict[HashId, Algorithm] = {
    HashId.SHA256: "sha256",
    HashId.SHA384: "sha384",
    HashId.SHA512: "sha512",
}


@frozen(kw_only=True)
class TpmClaims(VendorClaims):
    """The vendor-specific claims of a TPM quote.

    Attributes:
        key: DER of the attestation key's SubjectPublicKeyInfo.
        key_certified: whether a certificate certifies the key; otherwise the relying party or a TEE does.
        key_name: the TPM's name for it, 34 bytes or more; None if no public area is given.
        key_attributes: TPMA_OBJECT of that area; only as trustworthy as its source.
        revocation_checked: whether every issuer's CRL was given and checked.
        qualified_signer: the key's qualified name, as the TPM signed it.
        pcrs: every value that was quoted, by bank (``sha256``) and index.
        clock_milliseconds: powered time since the TPM was first started.
        reset_count: of TPM resets; quotes with different counts are from different boots.
        restart_count: of resumes since.
        clock_safe: no greater clock was ever reported and lost.
        firmware_version: of the TPM, 64 bits, in the vendor's numbering.
        log: the result of checking the event log; None if none is given.
    """

    key: bytes
    key_certified: bool
    key_name: bytes | None
    key_attributes: int | None
    revocation_checked: bool
    qualified_signer: bytes
    pcrs: Mapping[str, Mapping[int, bytes]]
    clock_milliseconds: int
    reset_count: int
    restart_count: int
    clock_safe: bool
    firmware_version: int
    log: LogClaims | None

    @property
    def secure_boot(self) -> bool | None:
        """Whether firmware enforced signatures; None if no log proves it."""
        return None if self.log is None else self.log.secure_boot


def vendor_claims(
    checked: Checked,
    key: bytes,
    *,
    certified: TrustedKey | None = None,
    area: Public | None = None,
    log: LogClaims | None = None,
) -> TpmClaims:
    """Collect the claims that only a TPM has.

    Args:
        checked: the quote.
        key: DER of the attestation key's SubjectPublicKeyInfo.
        certified: the key, if certificates certify it.
        area: its public area, if given.
        log: the result of checking the event log, if given.
    """
    quote = checked.quote
    crls = len(certified.crls) if certified else 0
    return TpmClaims(
        key=key,
        key_certified=certified is not None,
        key_name=None if area is None else area.name,
        key_attributes=None if area is None else area.attributes,
        revocation_checked=certified is not None and crls == len(certified.chain) - 1,
        qualified_signer=quote.qualified_signer,
        pcrs=MappingProxyType({bank.label: values for bank, values in checked.values.items()}),
        clock_milliseconds=quote.clock.milliseconds,
        reset_count=quote.clock.reset_count,
        restart_count=quote.clock.restart_count,
        clock_safe=bool(quote.clock.safe),
        firmware_version=quote.clock.firmware_version,
        log=log,
    )


def claims(
    checked: Checked,
    vendor: TpmClaims,
    *,
    level: ProtectionLevel,
    anchor: str,
    issued: datetime | None,
    until: datetime,
    now: datetime,
) -> Claims:
    """Collect the claims that all TEEs share; the others depend on what certifies the key."""
    return Claims(
        kind=KIND,
        tee=Tee.TPM,
        level=level,
        anchor=anchor,
        debug=False,
        measurement=Digest(_ALGORITHMS[checked.hash], checked.quote.pcr_digest),
        signer=None,
        product_id=None,
        svn=None,
        config_id=None,
        family_id=None,
        registers=registers(checked),
        report_data=b"",
        nonce=checked.quote.extra_data,
        tcb=NOT_JUDGED,
        platform=Platform(id=sha256(vendor.key), product="TPM 2.0"),
        collateral_issued=issued,
        valid_until=until,
        verified_at=now,
        vendor=vendor,
    )


def registers(checked: Checked) -> Mapping[str, Digest]:
    """PCRs by name, of the first quoted bank other than SHA-1: a claim must not rest on a hash with
    collisions.
    """
    for bank, values in checked.values.items():
        if bank.label in SIZES:
            algorithm = _ALGORITHMS[bank]
            return MappingProxyType({f"pcr{i}": Digest(algorithm, value) for i, value in values.items()})
    return MappingProxyType({})
