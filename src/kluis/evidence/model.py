"""What verified evidence says, in one shape for every TEE.

Names are of RATS (RFC 9334); each field says which vendor's field it is.
"""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime

from kluis.evidence.levels import ProtectionLevel
from kluis.hashes import Digest


class TcbStatus(enum.StrEnum):
    """What a platform's maker thinks of its versions, worst first, spelt as Intel does.

    ``NOT_SUPPORTED`` is the verifier's own: the platform reaches no level that the maker lists.
    """

    NOT_SUPPORTED = "NotSupported"
    REVOKED = "Revoked"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    OUT_OF_DATE = "OutOfDate"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    UP_TO_DATE = "UpToDate"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tcb:
    """What the maker thinks of this platform, and of the enclave that quoted.

    Attributes:
        status: both, converged.
        platform: the platform alone.
        quoting_enclave: the quoting enclave alone.
        date: the older of both levels' dates; None where no level was reached.
        advisories: of both, sorted.
        evaluation: the lower of the two documents' evaluation data numbers.
    """

    status: TcbStatus
    platform: TcbStatus
    quoting_enclave: TcbStatus
    date: datetime | None
    advisories: tuple[str, ...]
    evaluation: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Which machine it was.

    Attributes:
        id: 16 bytes, the PPID.
        instance: 16 bytes, the platform instance id, or None.
        kind: 6 bytes, the FMSPC.
        components: 16 component SVNs.
        pcesvn: 0..65535.
        smt: whether hyper-threading is on; None where the certificate does not say.
    """

    id: bytes
    instance: bytes | None
    kind: bytes
    components: tuple[int, ...]
    pcesvn: int
    smt: bool | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a piece of evidence says.

    Attributes:
        kind: the evidence's format and version.
        level: follows from the anchor; ``none`` for a debug enclave.
        anchor: name of the trust anchor that matched.
        debug: whether the enclave's memory is open to its host.
        measurement: MRENCLAVE.
        signer: MRSIGNER.
        product_id: ISVPRODID, 0..65535.
        svn: ISVSVN, 0..65535.
        config_id: CONFIGID, 64 bytes; None where key separation and sharing (KSS) is off.
        family_id: ISVFAMILYID, 16 bytes; None likewise.
        report_data: 64 bytes that the enclave chose.
        attributes: flags, and above their 64 bits xfrm.
        tcb: the maker's judgement.
        platform: which machine.
        collateral_issued: of the oldest of TCB info, QE identity and CRLs.
        valid_until: when the first of certificates and collateral runs out.
        verified_at: the time that the verifier was given.
    """

    kind: str
    level: ProtectionLevel
    anchor: str
    debug: bool
    measurement: Digest
    signer: Digest
    product_id: int
    svn: int
    config_id: bytes | None
    family_id: bytes | None
    report_data: bytes
    attributes: int
    tcb: Tcb
    platform: Platform
    collateral_issued: datetime
    valid_until: datetime
    verified_at: datetime
