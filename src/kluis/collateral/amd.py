"""Client of AMD's Key Distribution Service: chip certificates, their chains and revocation lists.

Spec: AMD 57230, "VCEK Certificate and KDS Interface Specification", "KDS interface".
"""

from __future__ import annotations

import re
import ssl
from datetime import datetime
from typing import Final, Self
from urllib.parse import parse_qsl

from kluis.collateral.documents import Document, Key, Kind, check_key, times
from kluis.collateral.transport import Limits, Origin
from kluis.errors import UsageError
from kluis.formats.snp import kds
from kluis.formats.snp.tcb import Product, TcbVersion

_CHIP: Final = re.compile(r"[0-9a-f]{16}|[0-9a-f]{128}", re.ASCII)


class Kds:
    """AMD's service; use it as a context manager.

    The service refuses frequent requests: cache its answers. A VCEK never changes for one chip and TCB.

    Args:
        url: AMD's own, or a cache: ``https://host[:port]``.
        trust: the certificate authorities for its TLS; None for the system's.
        limits: on each answer.
    """

    def __init__(
        self, url: str = kds.HOST, *, trust: ssl.SSLContext | None = None, limits: Limits | None = None
    ) -> None:
        self._origin = Origin(url, trust=trust, limits=limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._origin.__exit__(*raised)

    def get(self, kind: Kind, key: Key, now: datetime) -> Document:
        """Fetch one of AMD's documents; its format is checked, its signature is not.

        Raises:
            UnavailableError: as for :meth:`Origin.get`.
            FormatError: the answer is not such a document.
            UsageError: the kind or the product is not AMD's.
        """
        check_key(kind, key)
        hint: str | None = None
        query = ""
        match kind, key:
            case Kind.VCEK, (product, chip, versions):
                path, _, query = kds.vcek(_product(product), _chip(chip), _tcb(versions)).partition("?")
                hint = "AMD has no certificate of this chip at this TCB; its host may carry one (VLEK)"
            case Kind.AMD_CHAIN, (product, "vcek" | "vlek" as signer):
                path = kds.chain(_product(product), vlek=signer == "vlek")
            case Kind.AMD_CRL, (product, "vcek" | "vlek" as signer):
                path = kds.crl(_product(product), vlek=signer == "vlek")
            case _:
                raise UsageError(f"{kind}: is not a document of AMD's service, or its key is another's")
        answer = self._origin.get(path, dict(parse_qsl(query)), " ".join((kind, *key)), hint=hint)
        document = Document(body=answer.body)
        times(kind, document)
        return document


def _product(name: str) -> Product:
    try:
        return Product(name)
    except ValueError:
        raise UsageError(f"product: want one of {', '.join(Product)}, got {name!a}") from None


def _chip(name: str) -> bytes:
    if _CHIP.fullmatch(name) is None:
        raise UsageError(f"chip id: want 16 or 128 hex digits, got {len(name)} characters")
    return bytes.fromhex(name)


def _tcb(versions: str) -> TcbVersion:
    parts = [int(part) for part in versions.split("-") if part.isdigit() and int(part) < 256]
    if len(parts) != versions.count("-") + 1 or len(parts) not in {4, 5}:
        raise UsageError(f"VCEK: want 4 or 5 component versions, got {versions!a}")
    boot_loader, tee, snp, microcode = parts[-4:]
    fmc = parts[0] if len(parts) == 5 else None
    return TcbVersion(fmc=fmc, boot_loader=boot_loader, tee=tee, snp=snp, microcode=microcode)
