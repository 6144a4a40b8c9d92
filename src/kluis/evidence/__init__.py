"""Verify evidence and return proven claims.

Nothing here reads a file, a clock or a network. Anchors, collateral and time are arguments without defaults.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from kluis.evidence.anchors import Anchor, TrustAnchors
from kluis.evidence.engine import OPENSSL, Engine, aws_lc
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import Claims, Machine, Platform, Tcb, TcbStatus, Tee, VendorClaims
from kluis.evidence.registry import Verifier, collateral_of, verify
from kluis.evidence.verified import Verified

if TYPE_CHECKING:
    from kluis.evidence.amd.claims import SnpClaims
    from kluis.evidence.azure.claims import AzureClaims
    from kluis.evidence.cca.token import CcaClaims
    from kluis.evidence.intel.collateral import HeldCollateral
    from kluis.evidence.intel.sgx import SgxClaims
    from kluis.evidence.intel.tdx import TdxClaims
    from kluis.evidence.nitro.document import NitroClaims
    from kluis.evidence.nvidia.report import NvidiaClaims
    from kluis.evidence.tpm.claims import TpmClaims
    from kluis.formats.cca.endorsements import Endorsements as CcaEndorsements
    from kluis.formats.hcl.endorsements import AzureEndorsements
    from kluis.formats.kluis.evidence_file import EvidenceFile
    from kluis.formats.nvidia.endorsements import NvidiaEndorsements
    from kluis.formats.sgx.collateral import Collateral
    from kluis.formats.snp.endorsements import Endorsements as SnpEndorsements
    from kluis.formats.tpm.endorsements import TpmEndorsements

# Vendor-specific modules are loaded on first use, so verifying one vendor's evidence does not load the
# others.
_LATE: Final = {
    "AzureClaims": ("kluis.evidence.azure.claims", "AzureClaims"),
    "AzureEndorsements": ("kluis.formats.hcl.endorsements", "AzureEndorsements"),
    "EvidenceFile": ("kluis.formats.kluis.evidence_file", "EvidenceFile"),
    "SnpClaims": ("kluis.evidence.amd.claims", "SnpClaims"),
    "CcaClaims": ("kluis.evidence.cca.token", "CcaClaims"),
    "HeldCollateral": ("kluis.evidence.intel.collateral", "HeldCollateral"),
    "SgxClaims": ("kluis.evidence.intel.sgx", "SgxClaims"),
    "TdxClaims": ("kluis.evidence.intel.tdx", "TdxClaims"),
    "NitroClaims": ("kluis.evidence.nitro.document", "NitroClaims"),
    "NvidiaClaims": ("kluis.evidence.nvidia.report", "NvidiaClaims"),
    "TpmClaims": ("kluis.evidence.tpm.claims", "TpmClaims"),
    "CcaEndorsements": ("kluis.formats.cca.endorsements", "Endorsements"),
    "NvidiaEndorsements": ("kluis.formats.nvidia.endorsements", "NvidiaEndorsements"),
    "Collateral": ("kluis.formats.sgx.collateral", "Collateral"),
    "SnpEndorsements": ("kluis.formats.snp.endorsements", "Endorsements"),
    "TpmEndorsements": ("kluis.formats.tpm.endorsements", "TpmEndorsements"),
}

__all__ = [
    "OPENSSL",
    "Anchor",
    "AzureClaims",
    "AzureEndorsements",
    "CcaClaims",
    "CcaEndorsements",
    "Claims",
    "Collateral",
    "Engine",
    "EvidenceFile",
    "HeldCollateral",
    "Machine",
    "NitroClaims",
    "NvidiaClaims",
    "NvidiaEndorsements",
    "Platform",
    "ProtectionLevel",
    "SgxClaims",
    "SnpClaims",
    "SnpEndorsements",
    "Tcb",
    "TcbStatus",
    "TdxClaims",
    "Tee",
    "TpmClaims",
    "TpmEndorsements",
    "TrustAnchors",
    "VendorClaims",
    "Verified",
    "Verifier",
    "aws_lc",
    "collateral_of",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LATE[name]
    return getattr(import_module(module), attribute)
