"""Parse AMD's extensions of VCEK and VLEK certificates: the platform and its TCB. Nothing here is verified.

Spec: AMD 57230, "VCEK Certificate and KDS Interface Specification", "VCEK Certificate Extensions";
OIDs under 1.3.6.1.4.1.3704.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import der
from kluis.formats.snp.tcb import Product, TcbVersion
from kluis.frozen import frozen

ARC: Final = "1.3.6.1.4.1.3704.1"
IA5_STRING: Final = 0x16
MAX_TEXT: Final = 256
VCEK_ID_SIZE: Final = 64
TURIN_ID_SIZE: Final = 8
_WHAT: Final = "VEK certificate"

_VERSION: Final = f"{ARC}.1"
_PRODUCT: Final = f"{ARC}.2"
_SPLS: Final = {
    "boot_loader": f"{ARC}.3.1",
    "tee": f"{ARC}.3.2",
    "snp": f"{ARC}.3.3",
    "spl4": f"{ARC}.3.4",
    "spl5": f"{ARC}.3.5",
    "spl6": f"{ARC}.3.6",
    "spl7": f"{ARC}.3.7",
    "microcode": f"{ARC}.3.8",
    "fmc": f"{ARC}.3.9",
}
_REQUIRED: Final = ("boot_loader", "tee", "snp", "microcode")
_SPARE: Final = ("spl4", "spl5", "spl6", "spl7")
_HW_ID: Final = f"{ARC}.4"
_CSP_ID: Final = f"{ARC}.5"
_KNOWN: Final = frozenset((_VERSION, _PRODUCT, *_SPLS.values(), _HW_ID, _CSP_ID))


@frozen(kw_only=True)
class VekExtensions:
    """The identity and TCB that a versioned endorsement key (a VCEK or VLEK) belongs to.

    Attributes:
        struct_version: 0..255; 0 on Milan and Genoa, 1 on Turin.
        product_name: such as ``Milan-B0``: the product, and the stepping if there is one.
        spls: security versions of the components in the certificate; 0..255 each.
        hw_id: 64 bytes, 8 on Turin, that identify the chip; None in a VLEK.
        hw_id_wrapped: whether ``hw_id`` was in an OCTET STRING, as in newer certificates.
        csp_id: the cloud provider that received the VLEK; None in a VCEK.
        unknown: other identifiers in AMD's arc, sorted.
    """

    struct_version: int
    product_name: str
    spls: Mapping[str, int]
    hw_id: bytes | None = None
    hw_id_wrapped: bool = False
    csp_id: str | None = None
    unknown: tuple[str, ...] = ()

    @property
    def product(self) -> Product:
        """The product, without the stepping.

        Raises:
            UnsupportedError: not a known product.
        """
        name = self.product_name.split("-")[0]
        try:
            return Product(name)
        except ValueError:
            raise UnsupportedError(
                f"{_WHAT}.product: want one of {[*map(str, Product)]}, got {self.product_name!a}",
                code="product_mismatch",
            ) from None

    @property
    def tcb(self) -> TcbVersion:
        """The TCB that the key was derived for.

        Raises:
            FormatError: components that the product does not have, or missing ones.
        """
        if self.product.has_fmc is not ("fmc" in self.spls):
            raise FormatError(
                f"{_WHAT}.fmcSPL: want {'one' if self.product.has_fmc else 'none'} on {self.product}",
                code="cert_profile",
            )
        for name in _SPARE:
            if self.spls.get(name):
                raise FormatError(f"{_WHAT}.{name}: must be 0, found {self.spls[name]}", code="cert_profile")
        return TcbVersion(fmc=self.spls.get("fmc"), **{name: self.spls[name] for name in _REQUIRED})

    def encode(self) -> dict[str, bytes]:
        """Write the extensions' values by dotted identifier; unknown ones are dropped."""
        encoded = {
            _VERSION: der.integer(self.struct_version),
            _PRODUCT: der.element(IA5_STRING, self.product_name.encode()),
            **{_SPLS[name]: der.integer(value) for name, value in self.spls.items()},
        }
        if self.hw_id is not None:
            wrapped = der.element(der.OCTET_STRING, self.hw_id)
            encoded[_HW_ID] = wrapped if self.hw_id_wrapped else self.hw_id
        if self.csp_id is not None:
            encoded[_CSP_ID] = der.element(IA5_STRING, self.csp_id.encode())
        return encoded


def parse(extensions: Mapping[str, bytes]) -> VekExtensions:
    """Parse AMD's extensions from those of a certificate, which cannot repeat one.

    Args:
        extensions: values by dotted identifier; those outside AMD's arc are ignored.

    Raises:
        FormatError: a mandatory extension is missing, or one is malformed.
    """
    hw_id, wrapped = _hw_id(extensions.get(_HW_ID))
    csp_id = extensions.get(_CSP_ID)
    return VekExtensions(
        struct_version=_integer(extensions, _VERSION, "structVersion"),
        product_name=_text(_get(extensions, _PRODUCT, "product"), "product"),
        spls={
            name: _integer(extensions, oid, f"{name} SPL")
            for name, oid in _SPLS.items()
            if oid in extensions or name in _REQUIRED
        },
        hw_id=hw_id,
        hw_id_wrapped=wrapped,
        csp_id=None if csp_id is None else _text(csp_id, "cspID"),
        unknown=tuple(sorted(oid for oid in extensions if oid.startswith(f"{ARC}.") and oid not in _KNOWN)),
    )


def _get(extensions: Mapping[str, bytes], oid: str, name: str) -> bytes:
    value = extensions.get(oid)
    if value is None:
        raise FormatError(f"{_WHAT}.{name}: extension {oid} is missing", code="cert_profile")
    return value


def _integer(extensions: Mapping[str, bytes], oid: str, name: str) -> int:
    what = f"{_WHAT}.{name}"
    return der.parse(_get(extensions, oid, name), what).integer(0xFF, what)


def _text(data: bytes, name: str) -> str:
    what = f"{_WHAT}.{name}"
    element = der.parse(data, what)
    if element.tag != IA5_STRING:
        raise FormatError(f"{what}: want tag {IA5_STRING:#04x}, got {element.tag:#04x}", code="bad_type")
    content = element.content
    if not 0 < len(content) <= MAX_TEXT or not all(0x20 <= byte < 0x7F for byte in content):
        raise FormatError(f"{what}: want 1 to {MAX_TEXT} printable characters", code="bad_encoding")
    return content.decode("ascii")


def _hw_id(data: bytes | None) -> tuple[bytes | None, bool]:
    if data is None:
        return None, False
    if len(data) in (VCEK_ID_SIZE, TURIN_ID_SIZE):
        return data, False
    for size in (VCEK_ID_SIZE, TURIN_ID_SIZE):
        if len(data) == size + 2 and data[:2] == bytes((der.OCTET_STRING, size)):
            return data[2:], True
    raise FormatError(
        f"{_WHAT}.hwID: want {VCEK_ID_SIZE} or {TURIN_ID_SIZE} bytes, plain or in an OCTET STRING, "
        f"got {len(data)}",
        code="bad_length",
    )
