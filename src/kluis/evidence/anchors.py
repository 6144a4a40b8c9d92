"""Trust anchors: the root keys that a relying party believes.

Only makers' own roots are shipped, as public keys pinned here by their SHA-256. Emulated roots are
trusted by naming their file, and in no other way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final, Self

from kluis.errors import FormatError, UnsupportedError, UsageError
from kluis.evidence import signatures
from kluis.evidence.levels import ProtectionLevel
from kluis.formats import x509
from kluis.hashes import sha256

# Intel's two root certificates in circulation differ in their end (2033, 2049) and share this key.
# Spec: Intel SGX Root CA, https://certificates.trustedservices.intel.com/IntelSGXRootCA.der
INTEL_SGX_ROOT: Final = bytes.fromhex(
    "040ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e705525f5"
    "67918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394"
)
INTEL_SGX_ROOT_SHA256: Final = "a512ddae5b8a05fd0738d708f29ddccaca53aad8b3698e77194cb05cc0723e89"

EMULATED: Final = "Kluis emulated"
EMULATED_LEVELS: Final = (ProtectionLevel.PROCESS_USER, ProtectionLevel.PROCESS, ProtectionLevel.VM)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """One root key, and the protection level that evidence under it has.

    Attributes:
        name: for people.
        maker: how the names of its certificates begin.
        point: the public key on P-256, 65 bytes.
        level: what a match gives.
    """

    name: str
    maker: str
    point: bytes
    level: ProtectionLevel


@dataclasses.dataclass(frozen=True, slots=True)
class TrustAnchors:
    """The anchors that a relying party believes, at least one."""

    anchors: tuple[Anchor, ...]

    def __post_init__(self) -> None:
        if not self.anchors:
            raise UsageError("trust anchors: want at least 1, got 0")

    def __iter__(self) -> Iterator[Anchor]:
        return iter(self.anchors)

    @classmethod
    def shipped(cls) -> Self:
        """The makers' roots that Kluis ships: hardware only."""
        return cls((INTEL,))

    @classmethod
    def from_pem(cls, data: bytes) -> Self:
        """The one root whose certificate ``data`` is: an emulated platform's, or a maker's.

        Args:
            data: PEM, one self-signed certificate.

        Raises:
            FormatError: not one certificate.
            UnsupportedError: a root that no level is known for.
            AuthenticityError: not signed by its own key.
        """
        chain = x509.parse_pem(data, "root certificate")
        if len(chain) != 1:
            raise FormatError(f"root certificate: want 1 certificate, got {len(chain)}", code="bad_length")
        root = chain[0]
        if root.point == INTEL.point:
            return cls((INTEL,))
        if not root.common_name.startswith(EMULATED) or root.unit not in EMULATED_LEVELS:
            raise UnsupportedError(
                f"root certificate: {root.common_name!a} is no emulated platform's root that names its level",
                hint="kluis platform root prints the root of this machine's platform",
                code="bad_type",
            )
        signatures.check(root, root.key, "root certificate", code="root_untrusted")
        name = f"{root.common_name} sha256:{sha256(root.point).hex()[:16]}"
        return cls((Anchor(name=name, maker=EMULATED, point=root.point, level=ProtectionLevel(root.unit)),))

    def __or__(self, other: TrustAnchors) -> TrustAnchors:
        """Believe the anchors of both."""
        return TrustAnchors((*self.anchors, *other.anchors))

    def match(self, point: bytes) -> Anchor | None:
        """The anchor whose key is ``point`` (65 bytes), or None."""
        for anchor in self.anchors:
            if anchor.point == point:
                return anchor
        return None


INTEL: Final = Anchor(
    name="Intel SGX Root CA",
    maker="Intel",
    point=INTEL_SGX_ROOT,
    level=ProtectionLevel.HARDWARE_SGX,
)
