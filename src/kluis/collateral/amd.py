"""AMD's Key Distribution Service: chip certificates, their chains and revocation lists.

Spec: AMD 57230, "VCEK Certificate and KDS Interface Specification", "KDS Interface".
"""

from __future__ import annotations

import re
import ssl
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from kluis.collateral.documents import Document, Key, Kind, check_key, times
from kluis.collateral.transport import Limits, Origin
from kluis.errors import UsageError

KDS: Final = "https://kdsintf.amd.com"
PRODUCTS: Final = ("Milan", "Genoa", "Turin")
_VERSIONS: Final = {
    4: ("blSPL", "teeSPL", "snpSPL", "ucodeSPL"),
    5: ("fmcSPL", "blSPL", "teeSPL", "snpSPL", "ucodeSPL"),
}
_CHIP: Final = re.compile(r"[0-9a-f]{16}|[0-9a-f]{128}", re.ASCII)


class Kds:
    """AMD's service; use it as a context manager.

    It refuses who asks often: keep its answers. A VCEK never changes for one chip and TCB.

    Args:
        url: AMD's own, or a cache: ``https://host[:port]``.
        trust: the certificate authorities of its TLS; None for the usual ones.
        limits: on each answer.
    """

    def __init__(
        self, url: str = KDS, *, trust: ssl.SSLContext | None = None, limits: Limits | None = None
    ) -> None:
        self._origin = Origin(url, trust=trust, limits=limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._origin.__exit__(kind, error, trace)

    def get(self, kind: Kind, key: Key, now: datetime) -> Document:
        """Ask for one of AMD's documents; its shape is checked, its signature is not.

        Raises:
            UnavailableError: as :meth:`Origin.get`.
            FormatError: the answer is not such a document.
            UsageError: the kind or the product is not AMD's.
        """
        check_key(kind, key)
        hint: str | None = None
        query: dict[str, str] = {}
        match kind, key:
            case Kind.VCEK, (product, chip, versions):
                path, query = f"/vcek/v1/{_product(product)}/{_chip(chip)}", _query(versions)
                hint = "AMD has no certificate of this chip at this TCB; its host may carry one (VLEK)"
            case Kind.AMD_CHAIN, (product, "vcek" | "vlek" as signer):
                path = f"/{signer}/v1/{_product(product)}/cert_chain"
            case Kind.AMD_CRL, (product, "vcek" | "vlek" as signer):
                path = f"/{signer}/v1/{_product(product)}/crl"
            case _:
                raise UsageError(f"{kind}: is not a document of AMD's service, or its key is another's")
        document = Document(body=self._origin.get(path, query, " ".join((kind, *key)), hint=hint).body)
        times(kind, document)
        return document


def _product(name: str) -> str:
    if name not in PRODUCTS:
        raise UsageError(f"product: want one of {', '.join(PRODUCTS)}, got {name!a}")
    return name


def _chip(name: str) -> str:
    if _CHIP.fullmatch(name) is None:
        raise UsageError(f"chip id: want 16 or 128 hex digits, got {len(name)} characters")
    return name


def _query(versions: str) -> dict[str, str]:
    parts = versions.split("-")
    if len(parts) not in _VERSIONS or not all(part.isdigit() and int(part) < 256 for part in parts):
        raise UsageError(f"VCEK: want 4 or 5 component versions, got {versions!a}")
    return {name: f"{int(part):02}" for name, part in zip(_VERSIONS[len(parts)], parts, strict=True)}
