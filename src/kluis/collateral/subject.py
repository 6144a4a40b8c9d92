"""Whose evidence it is, and so which of the makers' documents endorse it. Nothing here is verified.

Evidence only chooses among a maker's documents by number; it never says where they are.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from kluis.errors import UnavailableError, UnsupportedError
from kluis.evidence.registry import kind_of
from kluis.formats import x509
from kluis.formats.sgx import extension
from kluis.formats.sgx import quote as sgx_quote


@dataclasses.dataclass(frozen=True, slots=True)
class Intel:
    """A quote's platform: ``sgx`` or ``tdx``, 12 hex digits of FMSPC, ``platform`` or ``processor``."""

    tee: str
    fmspc: str
    ca: str


Subject: TypeAlias = Intel


def of(data: bytes) -> Subject:
    """Read from evidence which documents endorse it.

    Raises:
        FormatError: it is not such evidence.
        UnsupportedError: its kind is endorsed by nothing that a service publishes.
        UnavailableError: it does not carry what names its platform.
    """
    kind = kind_of(data)
    if kind.name.startswith("SGX"):
        quote = sgx_quote.parse(data)
        return _intel("sgx", quote.certification_type, quote.certification_data)
    raise UnsupportedError(
        f"{kind.name}: no service publishes what endorses it",
        hint="give its certificates with --collateral",
        code="unsupported",
    )


def _intel(tee: str, certification_type: int, data: bytes) -> Intel:
    if certification_type != sgx_quote.PCK_CHAIN:
        raise UnavailableError(
            f"quote: want a PCK chain (certification data of type 5), got type {certification_type}",
            hint="only its platform's owner can ask Intel for the PCK certificate",
            code="chain_missing",
        )
    for certificate in x509.parse_pem(data, "PCK chain"):
        if extension.OID in certificate.extensions:
            platform = extension.parse(certificate.extensions[extension.OID])
            ca = "processor" if b"PCK Processor CA" in certificate.issuer else "platform"
            return Intel(tee, platform.fmspc.hex(), ca)
    raise UnavailableError("quote: its chain has no PCK certificate", code="chain_missing")
