"""Is it authentic? Evidence in, proven claims out.

Nothing here reads a file, a clock or a network: anchors, collateral and time are arguments, and
none has a default.
"""

from kluis.evidence.amd.claims import SnpClaims
from kluis.evidence.anchors import Anchor, TrustAnchors
from kluis.evidence.azure.claims import AzureClaims
from kluis.evidence.cca.token import CcaClaims
from kluis.evidence.engine import OPENSSL, Engine, aws_lc
from kluis.evidence.intel.collateral import HeldCollateral
from kluis.evidence.intel.sgx import SgxClaims
from kluis.evidence.intel.tdx import TdxClaims
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import Claims, Platform, Tcb, TcbStatus, Tee, VendorClaims
from kluis.evidence.nitro.document import NitroClaims
from kluis.evidence.nvidia.report import NvidiaClaims
from kluis.evidence.registry import Verifier, verify
from kluis.evidence.tpm.claims import TpmClaims
from kluis.evidence.verified import Verified
from kluis.formats.cca.endorsements import Endorsements as CcaEndorsements
from kluis.formats.hcl.endorsements import AzureEndorsements
from kluis.formats.nvidia.endorsements import NvidiaEndorsements
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp.endorsements import Endorsements as SnpEndorsements
from kluis.formats.tpm.endorsements import TpmEndorsements

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
    "HeldCollateral",
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
    "verify",
]
