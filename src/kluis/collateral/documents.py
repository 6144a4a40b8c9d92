"""The vendors' documents: kinds, keys, bytes and times.

Nothing here is verified. Spec: Intel PCS API v4; AMD 57230, "Versioned Chip Endorsement Key (VCEK)
Certificate and KDS Interface Specification".
"""

from __future__ import annotations

import enum
import re
from datetime import datetime
from typing import Final, TypeAlias

from kluis.errors import FormatError, UsageError, unknown
from kluis.formats import x509
from kluis.formats.sgx import evaluation
from kluis.formats.sgx.collateral import split_signed
from kluis.formats.sgx.tcb_info import parse_identity, parse_tcb_info
from kluis.formats.snp.tcb import Product
from kluis.frozen import frozen

Key: TypeAlias = tuple[str, ...]
MAX_DOCUMENT: Final = 1 << 20
MAX_CHAIN: Final = 64 << 10
_WORD: Final = re.compile(r"[A-Za-z0-9]{1,128}(?:-[0-9]{1,3})*", re.ASCII)
UPDATES: Final = ("early", "standard")
_TEE, _RELEASE, _SIGNER = "sgx|tdx", "early|standard|[0-9]{1,5}", "vcek|vlek"
_PRODUCT: Final = "|".join(Product)
_SIGNED: Final = {
    "tcb-info": "tcbInfo",
    "qe-identity": "enclaveIdentity",
    "evaluation-numbers": "tcbEvaluationDataNumbers",
}


class Kind(enum.StrEnum):
    """A kind of document; each comment lists the words of its key."""

    TCB_INFO = "tcb-info"  # tee, FMSPC (12 hex digits), release
    QE_IDENTITY = "qe-identity"  # tee, release
    EVALUATION_NUMBERS = "evaluation-numbers"  # tee
    PCK_CRL = "pck-crl"  # platform or processor
    ROOT_CA_CRL = "root-ca-crl"  # nothing: there is one
    VCEK = "vcek"  # product, chip id (hex), component versions joined by "-"
    AMD_CHAIN = "amd-chain"  # product, vcek or vlek
    AMD_CRL = "amd-crl"  # product, vcek or vlek


_SHAPES: Final = {
    Kind.TCB_INFO: (_TEE, "[0-9a-f]{12}", _RELEASE),
    Kind.QE_IDENTITY: (_TEE, _RELEASE),
    Kind.EVALUATION_NUMBERS: (_TEE,),
    Kind.PCK_CRL: ("platform|processor",),
    Kind.ROOT_CA_CRL: (),
    Kind.VCEK: (_PRODUCT, "[0-9a-f]{16,128}", "[0-9]{1,3}(?:-[0-9]{1,3}){3,4}"),
    Kind.AMD_CHAIN: (_PRODUCT, _SIGNER),
    Kind.AMD_CRL: (_PRODUCT, _SIGNER),
}


@frozen(kw_only=True)
class Document:
    """One response of a vendor's service.

    Attributes:
        body: the exact bytes that were signed, and their signature; a CRL or VCEK as DER; at most 1 MiB.
        chain: PEM of the signers, if the response carries it separately; else empty; at most 64 KiB.
    """

    body: bytes
    chain: bytes = b""


@frozen
class Times:
    """The stated issue time and end of validity of a document; both aware.

    ``evaluation`` is Intel's TCB evaluation data number, None if the kind has none.
    """

    issued: datetime
    until: datetime
    evaluation: int | None = None


def release(update: str | None, number: int | None) -> str:
    """Select one of Intel's parallel releases: exactly one way, and never by default.

    Args:
        update: ``early`` (at disclosure) or ``standard`` (some months later).
        number: or one TCB evaluation data number.

    Raises:
        UsageError: both, neither, or another word.
    """
    if (update is None) == (number is None):
        raise UsageError("collateral: want one of update and TCB evaluation data number, and not both")
    if update is not None:
        if update not in UPDATES:
            raise unknown("update", update, UPDATES)
        return update
    if number is None or not 0 < number < 1 << 16:
        raise UsageError(f"TCB evaluation data number: want 1..65535, got {number}")
    return str(number)


def check_key(kind: Kind, key: Key) -> None:
    """Refuse a key that is not safe in a path, a query or a file name.

    Raises:
        UsageError: with the word.
    """
    for word in key:
        if _WORD.fullmatch(word) is None:
            raise UsageError(f"{kind}: want letters and digits, got {word[:32]!a}")


def check_named(kind: Kind, key: Key) -> None:
    """Refuse a key that does not name a document of its kind, as when a person gives one.

    Raises:
        UsageError: describes the key's words.
    """
    check_key(kind, key)
    shape = _SHAPES[kind]
    if len(key) != len(shape) or not all(
        re.fullmatch(want, word) for want, word in zip(shape, key, strict=True)
    ):
        raise UsageError(f"{kind}: want the key {' '.join(shape) or 'empty'}, got {' '.join(key)[:200]!a}")


def times(kind: Kind, document: Document) -> Times:
    """Read the times stated in a document.

    Raises:
        FormatError: it is not such a document.
    """
    match kind:
        case Kind.TCB_INFO:
            info = parse_tcb_info(split_signed(document.body, _SIGNED[kind])[0])
            return Times(info.issued, info.next_update, info.evaluation)
        case Kind.QE_IDENTITY:
            identity = parse_identity(split_signed(document.body, _SIGNED[kind])[0])
            return Times(identity.issued, identity.next_update, identity.evaluation)
        case Kind.EVALUATION_NUMBERS:
            numbers = evaluation.parse(split_signed(document.body, _SIGNED[kind])[0])
            return Times(numbers.issued, numbers.next_update)
        case Kind.PCK_CRL | Kind.ROOT_CA_CRL | Kind.AMD_CRL:
            crl = x509.parse_crl(document.body, kind)
            return Times(crl.this_update, crl.next_update)
        case Kind.VCEK:
            certificate = x509.parse(document.body, kind)
            return Times(certificate.not_before, certificate.not_after)
        case Kind.AMD_CHAIN:
            chain = x509.parse_pem(document.body, kind)
            return Times(max(c.not_before for c in chain), min(c.not_after for c in chain))


def signed_parts(kind: Kind, document: Document) -> tuple[bytes, bytes]:
    """Split TCB info, an identity or evaluation numbers into the signed bytes and a signature of 64 bytes.

    Raises:
        FormatError: it has another shape.
    """
    if kind not in _SIGNED:
        raise FormatError(f"{kind}: is not a signed document of Intel's service", code="bad_type")
    return split_signed(document.body, _SIGNED[kind])
