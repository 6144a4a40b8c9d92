"""TCB_VERSION and the products that determine its layout. Nothing here is verified.

Spec: AMD 56860, SEV-SNP Firmware ABI, "TCB_VERSION"; AMD 57230, VCEK certificate specification,
"Product Name"; CPUID models as in the revision guides of each family.
"""

from __future__ import annotations

import enum
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.snp.report import Cpuid
from kluis.frozen import frozen

SIZE: Final = 8
_OLD: Final = {"boot_loader": 0, "tee": 1, "snp": 6, "microcode": 7}
_NEW: Final = {"fmc": 0, "boot_loader": 1, "tee": 2, "snp": 3, "microcode": 7}


class Product(enum.StrEnum):
    """A product line of processors, by the names in AMD's certificates."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"
    VENICE = "Venice"

    @property
    def has_fmc(self) -> bool:
        """Whether its TCB includes a first-mutable-code component."""
        return self in (Product.TURIN, Product.VENICE)


# Family, first model, last model. Bergamo and Siena use Genoa's keys, Turin Dense uses Turin's.
_MODELS: Final = (
    (0x19, 0x00, 0x0F, Product.MILAN),
    (0x19, 0x10, 0x1F, Product.GENOA),
    (0x19, 0xA0, 0xAF, Product.GENOA),
    (0x1A, 0x00, 0x11, Product.TURIN),
    (0x1A, 0x50, 0x57, Product.VENICE),
    (0x1A, 0x90, 0xAF, Product.VENICE),
    (0x1A, 0xC0, 0xC7, Product.VENICE),
)


def product_of(cpuid: Cpuid) -> Product | None:
    """The product of a report's CPUID; None if it is unknown."""
    for family, first, last, product in _MODELS:
        if cpuid.family == family and first <= cpuid.model <= last:
            return product
    return None


@frozen(kw_only=True)
class TcbVersion:
    """Security versions of the firmware, 0..255 each; only the same components can be compared.

    Attributes:
        fmc: first mutable code; None if the product has none.
        boot_loader: of the secure processor.
        tee: its operating system.
        snp: its SNP firmware.
        microcode: lowest of all cores.
    """

    fmc: int | None = None
    boot_loader: int
    tee: int
    snp: int
    microcode: int

    @classmethod
    def parse(cls, data: bytes, product: Product, what: str) -> Self:
        """Read 8 bytes in the layout of ``product``.

        Raises:
            FormatError: a byte that the layout reserves is not zero.
        """
        places = _NEW if product.has_fmc else _OLD
        for offset, value in enumerate(data):
            if value and offset not in places.values():
                raise FormatError(
                    f"{what}.reserved at {offset:#x}: must be zero in {product}'s layout, found {value:#04x}",
                    code="bad_encoding",
                )
        return cls(**{name: data[offset] for name, offset in places.items()})

    def encode(self) -> bytes:
        """Write the 8 bytes in the product's layout."""
        data = bytearray(SIZE)
        for name, offset in (_OLD if self.fmc is None else _NEW).items():
            data[offset] = getattr(self, name)
        return bytes(data)

    def reaches(self, floor: TcbVersion) -> bool:
        """Whether every component is at least that of ``floor``; False if the layouts differ."""
        if self is floor:
            return True
        if (self.fmc is None) is not (floor.fmc is None):
            return False
        return all(mine >= least for mine, least in zip(self._parts(), floor._parts(), strict=True))

    def __str__(self) -> str:
        names = _OLD if self.fmc is None else _NEW
        return " ".join(f"{name}={getattr(self, name)}" for name in names)

    def _parts(self) -> tuple[int, ...]:
        return (self.fmc or 0, self.boot_loader, self.tee, self.snp, self.microcode)
