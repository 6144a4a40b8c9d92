"""The makers' root keys that Kluis ships: hardware, and clouds' vTPMs. Each is pinned by its SHA-256.

A maker's certificates may be renewed over the same key, so the key is what is pinned. The files in
``roots/`` are the makers' own certificates.
"""

from __future__ import annotations

import dataclasses
import pkgutil
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from kluis.errors import InternalError
from kluis.evidence.anchors import Anchor, TrustAnchors
from kluis.evidence.engine import OPENSSL
from kluis.evidence.levels import ProtectionLevel
from kluis.formats import x509
from kluis.formats.x509 import Certificate
from kluis.hashes import sha256


@dataclasses.dataclass(frozen=True, slots=True)
class Shipped:
    """A root that is shipped.

    Attributes:
        file: in ``roots/``, PEM.
        pin: SHA-256 of the key's SubjectPublicKeyInfo, hex.
        name: for people.
        maker: how the names of its certificates begin.
        level: that it gives.
        product: the one product line that it signs for.
        issued: in ``roots/``, PEM: certificates that the key signed, and that everybody's evidence has.
    """

    file: str
    pin: str
    name: str
    maker: str
    level: ProtectionLevel
    product: str = ""
    issued: str = ""


SHIPPED: Final[tuple[Shipped, ...]] = (
    # https://certificates.trustedservices.intel.com: two certificates (2033, 2049), one key.
    Shipped(
        "intel-sgx.pem",
        "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e",
        "Intel SGX Root CA",
        "Intel",
        ProtectionLevel.HARDWARE_SGX,
        issued="intel-sgx-issued.pem",
    ),
    # https://kdsintf.amd.com/vcek/v1/PRODUCT/cert_chain
    Shipped(
        "amd-ark-milan.pem",
        "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9",
        "AMD ARK-Milan",
        "AMD",
        ProtectionLevel.HARDWARE_SNP,
        "Milan",
    ),
    Shipped(
        "amd-ark-genoa.pem",
        "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831",
        "AMD ARK-Genoa",
        "AMD",
        ProtectionLevel.HARDWARE_SNP,
        "Genoa",
    ),
    Shipped(
        "amd-ark-turin.pem",
        "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08",
        "AMD ARK-Turin",
        "AMD",
        ProtectionLevel.HARDWARE_SNP,
        "Turin",
    ),
    Shipped(
        "nvidia-device.pem",
        "a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4",
        "NVIDIA Device Identity CA",
        "NVIDIA",
        ProtectionLevel.HARDWARE_GPU,
    ),
    # https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip; GovCloud and China have others.
    Shipped(
        "aws-nitro-g1.pem",
        "f2caf5ecc6190b4a8399b78bc58a2bbcd0382375db8a1bfd78a82743874fd225",
        "AWS Nitro Enclaves Root-G1",
        "aws.nitro-enclaves",
        ProtectionLevel.HARDWARE_NITRO,
    ),
    # http://www.microsoft.com/pkiops/certs/Azure%20Virtual%20TPM%20Root%20Certificate%20Authority%202023.crt
    Shipped(
        "azure-vtpm.pem",
        "5cbc52672ae101263c2976736044a964c1182ce9412c39937183baddcccb8cdf",
        "Azure Virtual TPM Root Certificate Authority 2023",
        "Azure",
        ProtectionLevel.VTPM,
    ),
)


@lru_cache(maxsize=1)
def shipped() -> TrustAnchors:
    """Every shipped anchor.

    Raises:
        InternalError: a file is not the one that was pinned.
    """
    return TrustAnchors(tuple(map(_load, SHIPPED)))


def _load(entry: Shipped) -> Anchor:
    (certificate,) = _read(entry.file)
    if sha256(certificate.spki).hex() != entry.pin:
        raise InternalError(f"{entry.file}: is not the root that was pinned")
    issued = _read(entry.issued) if entry.issued else ()
    for each in (certificate, *issued):
        _check_issued(each, certificate, entry.issued or entry.file)
    return Anchor(
        name=entry.name,
        maker=entry.maker,
        spki=certificate.spki,
        level=entry.level,
        product=entry.product,
        proven=MappingProxyType({each.der: each for each in (certificate, *issued)}),
    )


def _read(file: str) -> tuple[Certificate, ...]:
    return x509.parse_pem(pkgutil.get_data(__package__, f"roots/{file}") or b"", file, most=16)


def _check_issued(certificate: Certificate, root: Certificate, file: str) -> None:
    try:
        key = OPENSSL.key(root.spki, certificate.scheme)
        signed = key.verify(certificate.signature, certificate.signed)
    except ValueError:
        signed = False
    if certificate.issuer != root.subject or not signed:
        raise InternalError(f"{file}: {certificate.common_name!a} is not of its root")
