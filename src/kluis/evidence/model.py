"""What verified evidence says: one shape for every TEE, and beside it what only its maker has.

Names are of RATS (RFC 9334); each field says which vendors' fields it is.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from kluis.evidence.levels import ProtectionLevel
from kluis.frozen import made_quickly
from kluis.hashes import Digest


class Tee(enum.StrEnum):
    """Whose evidence it is."""

    SGX = "sgx"
    TDX = "tdx"
    SNP = "snp"
    NITRO = "nitro"
    TPM = "tpm"
    AZURE = "azure"
    NVIDIA = "nvidia"
    CCA = "cca"


class TcbStatus(enum.StrEnum):
    """What a platform's maker thinks of its versions, worst first, spelt as Intel does.

    ``NOT_SUPPORTED`` is the verifier's own: the platform reaches no level that the maker lists.
    ``NOT_JUDGED`` is, too: the maker publishes no judgement, so a policy must compare versions.
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


@made_quickly
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tcb:
    """What the maker thinks of this platform.

    Attributes:
        status: of all parts, converged.
        date: the oldest of the dates of the levels reached; None where the maker gives none.
        advisories: of all parts, sorted.
        evaluation: the lowest evaluation data number of the documents; None where there is none.
    """

    status: TcbStatus
    date: datetime | None
    advisories: tuple[str, ...]
    evaluation: int | None


NOT_JUDGED = Tcb(status=TcbStatus.NOT_JUDGED, date=None, advisories=(), evaluation=None)


@made_quickly
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Which machine it was.

    Attributes:
        id: PPID, chip id, module id or instance id, as the maker has it; empty where it hides it.
        product: the product line: an FMSPC, Milan, GH100.
    """

    id: bytes
    product: str


@dataclasses.dataclass(frozen=True, slots=True)
class VendorClaims:
    """What only one maker's evidence says; each maker's room has its own class."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wrapper:
    """What evidence came in, once the evidence within was verified and found to bind it.

    Attributes:
        name: for people: ``RA-TLS certificate``.
        binds: what the evidence was found to bind, by what it is: the DER of a ``public key``, the
            bytes of ``custom claims`` or of an ``event log``; empty where the wrapper binds nothing.
            A ``nonce of an EAT`` that is shorter than 64 bytes is bound up to zeros at its end by SGX,
            TDX, SNP and CCA, whose field for it has no length: there N is N with a zero after it.
    """

    name: str
    binds: Mapping[str, bytes]


NO_REGISTERS: Final[Mapping[str, Digest]] = MappingProxyType({})


@made_quickly
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a piece of evidence says.

    Attributes:
        kind: the evidence's format and version.
        tee: whose it is.
        level: follows from the anchor; ``none`` for a debug enclave.
        anchor: name of the trust anchor that matched.
        debug: whether the enclave's memory is open to its host.
        measurement: which code: MRENCLAVE, MRTD, an SNP launch digest, a Nitro PCR0, a realm's
            initial measurement, a quote's PCR digest.
        signer: who signed the code: MRSIGNER, an SNP id key's digest; None where there is none.
        product_id: ISVPRODID, 0..65535, or None.
        svn: ISVSVN or guest SVN, or None.
        config_id: CONFIGID, 64 bytes; None where there is none.
        family_id: ISVFAMILYID or FAMILY_ID, 16 bytes; None where there is none.
        registers: extended while it ran, by name: ``rtmr0``, ``pcr4``, ``rem0``; cannot be changed.
        report_data: what the enclave bound; 64 bytes of SGX, TDX and SNP, a Nitro document's user
            data, else empty.
        nonce: the verifier's own, where the format has a place for it.
        tcb: the maker's judgement.
        platform: which machine.
        collateral_issued: of the oldest part of the collateral that has a date; None without any.
        valid_until: when the first of certificates and collateral runs out.
        verified_at: the time that the verifier was given.
        vendor: what only this maker's evidence says.
        wrapper: what the evidence came in; None where it came as it is.
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
