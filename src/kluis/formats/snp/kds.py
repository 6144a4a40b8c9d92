"""Build the paths of AMD's key distribution service for the endorsements of one report.

Spec: AMD 57230, "VCEK Certificate and KDS Interface Specification", "KDS interface".
"""

from __future__ import annotations

from typing import Final

from kluis.formats.snp.extensions import TURIN_ID_SIZE
from kluis.formats.snp.tcb import Product, TcbVersion

HOST: Final = "https://kdsintf.amd.com"


def vcek(product: Product, chip_id: bytes, tcb: TcbVersion) -> str:
    """The path of a VCEK certificate (DER).

    Args:
        product: determines how much of the chip id is used.
        chip_id: 64 bytes, from the report; not masked.
        tcb: the report's ``reported_tcb``.
    """
    name = chip_id[:TURIN_ID_SIZE] if product.has_fmc else chip_id
    spls = {
        "fmcSPL": tcb.fmc,
        "blSPL": tcb.boot_loader,
        "teeSPL": tcb.tee,
        "snpSPL": tcb.snp,
        "ucodeSPL": tcb.microcode,
    }
    query = "&".join(f"{key}={value:02}" for key, value in spls.items() if value is not None)
    return f"/vcek/v1/{product}/{name.hex()}?{query}"


def chain(product: Product, *, vlek: bool = False) -> str:
    """The path of the chain above: ASK or ASVK, then ARK (PEM)."""
    return f"/{'vlek' if vlek else 'vcek'}/v1/{product}/cert_chain"


def crl(product: Product, *, vlek: bool = False) -> str:
    """The path of the ARK's CRL (DER)."""
    return f"/{'vlek' if vlek else 'vcek'}/v1/{product}/crl"
