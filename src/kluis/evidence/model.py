"""The claims of verified evidence: common to every TEE, and vendor-specific ones.

Names are from RATS (RFC 9334); each field's description names the vendors' fields.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from kluis.evidence.levels import ProtectionLevel
from kluis.frozen import frozen
from kluis.hashes import Digest


class Tee(enum.StrEnum):
    """The kind of TEE."""

    SGX = "sgx"
    TDX = "tdx"
    SNP = "snp"
    NITRO = "nitro"
    TPM = "tpm"
    AZURE = "azure"
    NVIDIA = "nvidia"
    CCA = "cca"


class TcbStatus(enum.StrEnum):
    """A vendor's judgement of a platform's versions, worst first, spelt as Intel does.

    ``NOT_SUPPORTED`` comes from the verifier: the platform reaches none of the vendor's levels. So does
    ``NOT_JUDGED``: the vendor publishes no judgement, so a policy must compare versions.
    """

    NOT_SUPPORTED = "NotSupported"
    REVOKED = "Revoked"
    NOT_JUDGED = "NotJudged"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    OUT_OF_DATE = "OutOfDate"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    UP_TO_DATE = "UpToDate"


@frozen(kw_only=True)
class Tcb:
    """The vendor's judgement of this platform.

    Attributes:
        status: of all parts, converged.
        date: the oldest of the dates of the levels reached; None if the vendor publishes none.
        advisories: of all parts, sorted.
        evaluation: the lowest evaluation data number of the documents; None if there is none.
    """

    status: TcbStatus
    date: datetime | None
    advisories: tuple[str, ...]
    evaluation: int | None


NOT_JUDGED = Tcb(status=TcbStatus.NOT_JUDGED, date=None, advisories=(), evaluation=None)


@frozen(kw_only=True)
class Platform:
    """The machine that produced the evidence.

    Attributes:
        id: PPID, chip id, module id or instance id, depending on the vendor; empty if it is hidden.
        product: the product line: an FMSPC, Milan, GH100.
    """

    id: bytes
    product: str


@frozen
class VendorClaims:
    """Vendor-specific claims; each vendor package defines its own subclass."""


@frozen
class Wrapper:
    """The wrapper of evidence, found to be bound by the verified evidence within.

    Attributes:
        name: for messages: ``RA-TLS certificate``.
        binds: the values that the evidence binds, by kind: the DER of a ``public key``, the bytes of ``custom
            claims`` or of an ``event log``; empty if the wrapper binds nothing. A ``nonce of an EAT`` shorter
            than 64 bytes is bound only up to trailing zeros by SGX, TDX, SNP and CCA: their field has no
            length, so N and N with a zero after it are equal there.
    """

    name: str
    binds: Mapping[str, bytes]


NO_REGISTERS: Final[Mapping[str, Digest]] = MappingProxyType({})


@frozen(kw_only=True)
class Claims:
    """The claims of a piece of evidence.

    Attributes:
        kind: the evidence's format and version.
        tee: the kind of TEE.
        level: follows from the anchor; ``none`` for a debug enclave.
        anchor: name of the trust anchor that matched.
        debug: whether the host can read the enclave's memory.
        measurement: of the code: MRENCLAVE, MRTD, an SNP launch digest, a Nitro PCR0, a realm's initial
            measurement, a quote's PCR digest.
        signer: of the code: MRSIGNER, an SNP id key's digest; None if there is none.
        product_id: ISVPRODID, 0..65535, or None.
        svn: ISVSVN or guest SVN, or None.
        config_id: CONFIGID, 64 bytes; None if there is none.
        family_id: ISVFAMILYID or FAMILY_ID, 16 bytes; None if there is none.
        registers: extended at run time, by name: ``rtmr0``, ``pcr4``, ``rem0``; cannot be changed.
        report_data: bound by the enclave; 64 bytes for SGX, TDX and SNP, a Nitro document's user data, else
            empty.
        nonce: the verifier's, if the format has a field for it.
        tcb: the vendor's judgement.
        platform: the machine.
        collateral_issued: issue date of the oldest part of the collateral that has one; None if none has.
        valid_until: when the first of certificates and collateral expires.
        verified_at: the time passed to the verifier.
        vendor: the vendor-specific claims.
        wrapper: of the evidence; None without one.
        machine: of an enclave in a machine whose TEE endorses the platform's root; then level, anchor and
            debug are of both, and the other claims are the enclave's. None otherwise.
    """

    kind: str
    tee: Tee
    level: ProtectionLevel
    anchor: str
    debug: bool
    measurement: Digest
    signer: Digest | None
    product_id: int | None
    svn: int | None
    config_id: bytes | None
    family_id: bytes | None
    registers: Mapping[str, Digest]
    report_data: bytes
    nonce: bytes | None
    tcb: Tcb
    platform: Platform
    collateral_issued: datetime | None
    valid_until: datetime
    verified_at: datetime
    vendor: VendorClaims
    wrapper: Wrapper | None = None
    machine: Machine | None = None


@frozen(kw_only=True)
class Machine:
    """The machine around an enclave, as its TEE endorses it.

    Attributes:
        claims: of the machine's evidence: its measurement is the guest's, or its firmware's.
        kind: of the endorsement: ``snp``, ``azure-snp``, ...
        level: that the root of the platform inside states: ``process`` or ``process-user``.
        boot: 16 bytes, random at each boot.
        debug: whether its host can look inside, by the evidence or by the guest's configuration.
        missing: protections that the machine does not have, by the guest's configuration.
        only: the image id of the only image that it runs, 32 bytes; None if it may run any.
        release: of the guest, by the guest's configuration; empty if it states none.
    """

    claims: Claims
    kind: str
    level: ProtectionLevel
    boot: bytes
    debug: bool
    missing: tuple[str, ...]
    only: bytes | None
    release: str
