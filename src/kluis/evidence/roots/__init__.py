"""The vendors' root keys that Kluis ships: hardware, and clouds' vTPMs. Each is pinned by its SHA-256.

A vendor's certificates may be renewed over the same key, so the key is what is pinned. The files in
this folder are the vendors' own certificates.
"""

from __future__ import annotations

from typing import Final

from kluis.evidence.levels import ProtectionLevel
from kluis.frozen import frozen


@frozen
class Root:
    """A shipped root.

    Attributes:
        file: in this folder, PEM.
        pin: SHA-256 of the key's SubjectPublicKeyInfo, hex.
        name: for messages.
        ``vendor``: prefix of the names in its certificates.
        level: of evidence under it.
        product: the only product line that it signs for.
        issued: in this folder, PEM: certificates that the key signed and that all evidence contains.
    """

    file: str
    pin: str
    name: str
    vendor: str
    level: ProtectionLevel
    product: str = ""
    issued: str = ""


SHIPPED_ROOTS: Final[tuple[Root, ...]] = (
    # https://certificates.trustedservices.intel.com: two certificates (2033, 2049), one key.
    Root(
        "intel-sgx.pem",
        "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e",
        "Intel SGX Root CA",
        "Intel",
        ProtectionLevel.HARDWARE_SGX,
        issued="intel-sgx-issued.pem",
    ),
    # https://kdsintf.amd.com/vcek/v1/PRODUCT/cert_chain
    Root(
        "amd-ark-milan.pem",
        "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9",
        "AMD ARK-Milan",
        "AMD",
        ProtectionLevel.HARDWARE_SNP,
        "Milan",
    ),
    Root(
        "amd-ark-genoa.pem",
        "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831",
        "AMD ARK-Genoa",
        "AMD",
        ProtectionLevel.HARDWARE_SNP,
        "Genoa",
    ),
    Root(
        "amd-ark-turin.pem",
        "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08",
        "AMD ARK-Turin",
        "AMD",
        ProtectionLevel.HARDWARE_SNP,
        "Turin",
    ),
    Root(
        "nvidia-device.pem",
        "a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4",
        "NVIDIA Device Identity CA",
        "NVIDIA",
        ProtectionLevel.HARDWARE_GPU,
    ),
    # https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip; GovCloud and China have others.
    Root(
        "aws-nitro-g1.pem",
        "f2caf5ecc6190b4a8399b78bc58a2bbcd0382375db8a1bfd78a82743874fd225",
        "AWS Nitro Enclaves Root-G1",
        "aws.nitro-enclaves",
        ProtectionLevel.HARDWARE_NITRO,
    ),
    # http://www.microsoft.com/pkiops/certs/Azure%20Virtual%20TPM%20Root%20Certificate%20Authority%202023.crt
    Root(
        "azure-vtpm.pem",
        "5cbc52672ae101263c2976736044a964c1182ce9412c39937183baddcccb8cdf",
        "Azure Virtual TPM Root Certificate Authority 2023",
        "Azure",
        ProtectionLevel.VTPM,
    ),
)
