"""Endorsements needed to verify an Azure confidential VM's evidence. Nothing here is verified."""

from __future__ import annotations

from typing import Final, Self

from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp.endorsements import Endorsements as SnpEndorsements
from kluis.formats.tpm.endorsements import TpmEndorsements
from kluis.frozen import frozen

MAX_SIZE: Final = 8 << 20
_WHAT: Final = "Azure endorsements"


@frozen(kw_only=True)
class AzureEndorsements:
    """Endorsements of the hardware and of the vTPM's key; None for each that is not available.

    Attributes:
        snp: of the SNP report, as returned by ``/metadata/THIM/amd/certification``.
        tdx: of the TD quote.
        ak: the certificate of the vTPM's attestation key, NV index 0x01C101D0, and its chain. Without it, the
            hardware's report still certifies the key.
    """

    snp: SnpEndorsements | None = None
    tdx: Collateral | None = None
    ak: TpmEndorsements | None = None

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the members ``snp``, ``tdx`` and ``ak``, each in the format of its type; each may be absent.

        Raises:
            FormatError: not JSON, a member that is unknown or of the wrong kind, or more than 8 MiB.
        """
        value = Members(jcs.loads(data, _WHAT, max_size=MAX_SIZE), _WHAT)
        parts = value.entries(most=3)
        value.only([name for name in ("snp", "tdx", "ak") if name in parts])
        encoded = {name: jcs.dumps(part) for name, part in parts.items()}
        return cls(
            snp=SnpEndorsements.from_json(encoded["snp"]) if "snp" in encoded else None,
            tdx=Collateral.from_json(encoded["tdx"]) if "tdx" in encoded else None,
            ak=TpmEndorsements.from_json(encoded["ak"]) if "ak" in encoded else None,
        )

    def to_json(self) -> bytes:
        """Write the members that are set, in canonical JSON."""
        parts = {"snp": self.snp, "tdx": self.tdx, "ak": self.ak}
        return jcs.dumps(
            {name: jcs.loads(part.to_json(), _WHAT) for name, part in parts.items() if part is not None}
        )
