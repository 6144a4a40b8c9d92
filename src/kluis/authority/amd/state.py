"""The keys and the state of an emulated processor and its vendor, and the state's canonical JSON."""

from __future__ import annotations

import dataclasses
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import rsa

from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.snp.tcb import Product, TcbVersion
from kluis.frozen import frozen

MAX_REVOKED: Final = 64
# By product: family, model and stepping.
CPUIDS: Final = {
    Product.MILAN: (0x19, 0x01, 1),
    Product.GENOA: (0x19, 0x11, 1),
    Product.TURIN: (0x1A, 0x02, 1),
}
_WHAT: Final = "processor.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Keys:
    """The secrets of a processor and of its vendor.

    Attributes:
        ark: of the root, RSA.
        ask: of the authority under it, RSA.
        chip: 32 bytes, from which the processor derives its keys and its id.
    """

    ark: rsa.RSAPrivateKey
    ask: rsa.RSAPrivateKey
    chip: bytes


@frozen(kw_only=True)
class State:
    """The state of a processor apart from its keys.

    Attributes:
        product: the product line that it is of.
        tcb: of its firmware, committed.
        ark: PEM.
        ask: PEM.
        vcek: PEM, for this TCB.
        revoked: serial numbers on the root's CRL.
    """

    product: Product
    tcb: TcbVersion
    ark: str
    ask: str
    vcek: str
    revoked: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """Canonical JSON."""
        return jcs.dumps(
            {
                "version": 1,
                "product": self.product.value,
                "tcb": self.tcb.encode().hex(),
                "certificates": [self.vcek, self.ask, self.ark],
                "revoked": [f"{serial:040x}" for serial in self.revoked],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the output of ``encode``.

        Raises:
            FormatError: not such a state.
        """
        value = Members(jcs.loads_canonical(data, _WHAT), _WHAT)
        value.version(1)
        product, certificates = value.text("product"), value.texts("certificates", most=3)
        if product not in CPUIDS or len(certificates) != 3:
            raise FormatError(f"{_WHAT}: want one of {', '.join(CPUIDS)} and 3 certificates", code="bad_type")
        listed = [
            Members({"serial": each}, f"{_WHAT}.revoked") for each in value.array("revoked", most=MAX_REVOKED)
        ]
        return cls(
            product=Product(product),
            tcb=TcbVersion.parse(value.hex("tcb", 8), Product(product), f"{_WHAT}.tcb"),
            vcek=certificates[0],
            ask=certificates[1],
            ark=certificates[2],
            revoked=tuple(int.from_bytes(each.hex("serial", 20), "big") for each in listed),
        )
