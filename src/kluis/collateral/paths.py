"""Map the paths of vendors' services to documents, and documents to HTTP responses.

Used by servers of a cache. Nothing here is verified. Spec: Intel PCS API v4; AMD 57230, "KDS interface".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from kluis.collateral.cache import Cache
from kluis.collateral.documents import MAX_CHAIN, Document, Key, Kind, release
from kluis.errors import FormatError, UsageError
from kluis.formats import x509
from kluis.formats.sgx.collateral import crl_der
from kluis.formats.snp.tcb import Product

Answered: TypeAlias = tuple[dict[str, str], bytes]
Vendor: TypeAlias = Callable[[str, Mapping[str, str]], Answered | None]

CHAINS: Final = {
    Kind.TCB_INFO: ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"),
    Kind.QE_IDENTITY: ("SGX-Enclave-Identity-Issuer-Chain",),
    Kind.EVALUATION_NUMBERS: ("TCB-Evaluation-Data-Numbers-Issuer-Chain",),
    Kind.PCK_CRL: ("SGX-PCK-CRL-Issuer-Chain",),
}
STANDARD: Final = "standard"
_INTEL: Final = re.compile(r"/(sgx|tdx)/certification/v4/([a-z/]{3,32})", re.ASCII)
_AMD: Final = re.compile(r"/(vcek|vlek)/v1/([A-Za-z]{1,16})/(cert_chain|crl|[0-9a-fA-F]{16,128})", re.ASCII)
_FMSPC: Final = re.compile(r"[0-9a-fA-F]{12}", re.ASCII)
_SPL: Final = re.compile(r"[0-9]{1,3}", re.ASCII)
_SPLS: Final = ("fmcSPL", "blSPL", "teeSPL", "snpSPL", "ucodeSPL")
_CRLS: Final = frozenset({Kind.PCK_CRL, Kind.ROOT_CA_CRL})


class Asked(NamedTuple):
    """One document, by its kind and the words of its key."""

    kind: Kind
    key: Key


def find_document(path: str, query: Mapping[str, str]) -> Asked | None:
    """Find the document that a path of Intel's or AMD's service names; None if it is not such a path.

    Args:
        path: without any prefix.
        query: its first value for each name.

    Raises:
        UsageError: the path is known, but a parameter is invalid; names it.
    """
    if path == "/IntelSGXRootCA.der":
        return Asked(Kind.ROOT_CA_CRL, ())
    if match := _INTEL.fullmatch(path):
        return _intel(match[1], match[2], query)
    if match := _AMD.fullmatch(path):
        return _amd(match[1], match[2], match[3], query)
    return None


def answer(kind: Kind, document: Document) -> Answered:
    """The headers with a document's signers, and its body, in the vendor's form; CRLs as DER."""
    if kind not in CHAINS:
        return {}, document.body
    return {CHAINS[kind][0]: quote(document.chain, safe="")}, document.body


def document(wanted: Asked, headers: Mapping[str, str], body: bytes) -> Document:
    """The document in a response; ``headers`` by name in any case.

    Raises:
        FormatError: the header with the signers is missing or malformed.
    """
    what = " ".join((wanted.kind, *wanted.key))
    chain = issuer_chain(headers, wanted.kind, what) if wanted.kind in CHAINS else b""
    return Document(body=crl_der(body, what) if wanted.kind in _CRLS else body, chain=chain)


def issuer_chain(headers: Mapping[str, str], kind: Kind, what: str) -> bytes:
    """Parse the chain that Intel sends in a header: two certificates, PEM, percent-encoded.

    Raises:
        FormatError: the header is missing or malformed.
    """
    lowered = {name.lower(): text for name, text in headers.items()}
    for name in CHAINS[kind]:
        if (text := lowered.get(name.lower())) is not None:
            if len(text) > MAX_CHAIN:
                raise FormatError(f"{what}: {name} is more than {MAX_CHAIN} characters", code="too_large")
            chain = unquote_to_bytes(text)
            if len(x509.parse_pem(chain, f"{what}: {name}")) != 2:
                raise FormatError(f"{what}: {name}: want 2 certificates", code="bad_length")
            return chain
    raise FormatError(f"{what}: the answer has no header {CHAINS[kind][0]}", code="chain_missing")


def vendor(cache: Cache) -> Vendor:
    """A folder's cached response to a vendor's path; None if it has none."""

    def answer_from_cache(path: str, query: Mapping[str, str]) -> Answered | None:
        wanted = find_document(path, query)
        cached = cache.read(*wanted) if wanted is not None else None
        return answer(wanted.kind, cached.document) if wanted is not None and cached is not None else None

    return answer_from_cache


def _intel(tee: str, rest: str, query: Mapping[str, str]) -> Asked | None:
    match tee, rest:
        case _, "tcb":
            fmspc = query.get("fmspc", "")
            if _FMSPC.fullmatch(fmspc) is None:
                raise UsageError(f"fmspc: want 12 hex digits, got {fmspc[:40]!a}")
            return Asked(Kind.TCB_INFO, (tee, fmspc.lower(), _release(query)))
        case _, "qe/identity":
            return Asked(Kind.QE_IDENTITY, (tee, _release(query)))
        case _, "tcbevaluationdatanumbers":
            return Asked(Kind.EVALUATION_NUMBERS, (tee,))
        case "sgx", "pckcrl":
            ca = query.get("ca", "").lower()
            if ca not in {"platform", "processor"}:
                raise UsageError(f"ca: want platform or processor, got {ca[:40]!a}")
            return Asked(Kind.PCK_CRL, (ca,))
        case "sgx", "rootcacrl":
            return Asked(Kind.ROOT_CA_CRL, ())
        case _:
            return None


def _release(query: Mapping[str, str]) -> str:
    """The requested release; Intel's own service returns ``standard`` by default."""
    update, number = query.get("update"), query.get("tcbEvaluationDataNumber")
    if number is not None and (not number.isascii() or not number.isdigit() or len(number) > 5):
        raise UsageError(f"tcbEvaluationDataNumber: want a number, got {number[:40]!a}")
    if number is None and update is None:
        return STANDARD
    return release(update, None if number is None else int(number))


def _amd(signer: str, product: str, rest: str, query: Mapping[str, str]) -> Asked | None:
    if product not in {one.value for one in Product}:
        raise UsageError(f"product: want one of {', '.join(Product)}, got {product!a}")
    match signer, rest:
        case _, "cert_chain":
            return Asked(Kind.AMD_CHAIN, (product, signer))
        case _, "crl":
            return Asked(Kind.AMD_CRL, (product, signer))
        case "vcek", chip:
            return Asked(Kind.VCEK, (product, chip.lower(), _versions(Product(product), query)))
        case _:
            return None


def _versions(product: Product, query: Mapping[str, str]) -> str:
    names = _SPLS if product.has_fmc else _SPLS[1:]
    parts = []
    for name in names:
        text = query.get(name, "")
        if _SPL.fullmatch(text) is None or int(text) > 255:
            raise UsageError(f"{name}: want 0..255, got {text[:40]!a}")
        parts.append(str(int(text)))
    return "-".join(parts)
