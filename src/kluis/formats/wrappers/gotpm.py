"""Parse Google's go-tpm-tools attestation: TPM quotes, an event log and a key, in protobuf.

Nothing here is verified. Spec: go-tpm-tools 0.4, ``proto/attest.proto``, ``proto/tpm.proto``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import protobuf
from kluis.formats.tpm.pcrs import PCR_COUNT
from kluis.frozen import frozen

MAX_SIZE: Final = 8 << 20
MAX_QUOTES: Final = 8
MAX_CERTIFICATES: Final = 8
_WHAT: Final = "go-tpm-tools attestation"
_START: Final = re.compile(rb"\x0a(?:[\x01-\x7f]|[\x80-\xff][\x01-\x7f])\x00[\x01\x23]", re.DOTALL)
_AK_PUBLIC, _QUOTES, _EVENT_LOG, _INSTANCE, _CANONICAL_LOG, _AK_CERTIFICATE, _INTERMEDIATES = range(1, 8)
_SEV_SNP, _TDX = 8, 9
_ONCE: Final = {_AK_PUBLIC, _EVENT_LOG, _INSTANCE, _CANONICAL_LOG, _AK_CERTIFICATE, _SEV_SNP, _TDX}


@frozen
class Quote:
    """One quote over one bank.

    Attributes:
        message: a TPMS_ATTEST.
        signature: a TPMT_SIGNATURE.
        bank: a TPM_ALG_ID, the hash of the bank.
        pcrs: their values, by index.
    """

    message: bytes
    signature: bytes
    bank: int
    pcrs: Mapping[int, bytes]


@frozen(kw_only=True)
class Attestation:
    """A parsed attestation.

    Attributes:
        ak_public: the key's public area, a TPMT_PUBLIC.
        quotes: one for each bank.
        event_log: a TCG event log, or empty.
        ak_certificate: DER, or empty.
        intermediates: DER of its issuers.
        tee: ``SEV-SNP`` or ``TDX`` if such a report is included, else empty; the report is not read.
    """

    ak_public: bytes
    quotes: tuple[Quote, ...]
    event_log: bytes
    ak_certificate: bytes
    intermediates: tuple[bytes, ...]
    tee: str


def matches(data: bytes) -> bool:
    """Whether bytes start like an attestation: with the public area of an RSA or elliptic-curve key."""
    return _START.match(data) is not None


def parse(data: bytes) -> Attestation:
    """Parse an attestation, at most 8 MiB.

    Raises:
        FormatError: malformed, or without a quote.
        UnsupportedError: an unknown field.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{_WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    single: dict[int, bytes] = {}
    many: dict[int, list[bytes]] = {_QUOTES: [], _INTERMEDIATES: []}
    for field in protobuf.fields(data, _WHAT):
        if field.number in many:
            many[field.number].append(field.octets(_WHAT))
        elif field.number not in _ONCE:
            raise UnsupportedError(f"{_WHAT}: does not know field {field.number}", code="bad_type")
        elif field.number in single:
            raise FormatError(f"{_WHAT}: field {field.number} appears twice", code="duplicate_key")
        else:
            single[field.number] = field.octets(_WHAT)
    quotes, intermediates = many[_QUOTES], many[_INTERMEDIATES]
    if not 1 <= len(quotes) <= MAX_QUOTES or len(intermediates) > MAX_CERTIFICATES:
        raise FormatError(
            f"{_WHAT}: want 1..{MAX_QUOTES} quotes and at most {MAX_CERTIFICATES} certificates, "
            f"got {len(quotes)} and {len(intermediates)}",
            code="too_large",
        )
    return Attestation(
        ak_public=single.get(_AK_PUBLIC, b""),
        quotes=tuple(_quote(quote) for quote in quotes),
        event_log=single.get(_EVENT_LOG, b""),
        ak_certificate=single.get(_AK_CERTIFICATE, b""),
        intermediates=tuple(intermediates),
        tee="SEV-SNP" if _SEV_SNP in single else "TDX" if _TDX in single else "",
    )


def _quote(data: bytes) -> Quote:
    what = f"{_WHAT}.quote"
    fields = protobuf.fields(data, what)
    parts = {field.number: field.octets(what) for field in fields}
    if sorted(field.number for field in fields) != [1, 2, 3]:
        raise FormatError(f"{what}: want a message, a signature and PCRs", code="bad_type")
    bank, values = 0, {}
    for field in protobuf.fields(parts[3], f"{what}.pcrs"):
        if field.number == 1 and not bank:
            bank = field.integer(0xFFFF, f"{what}.pcrs")
        elif field.number == 2:
            index, value = _entry(field.octets(what), f"{what}.pcrs")
            if index in values:
                raise FormatError(f"{what}.pcrs: PCR {index} appears twice", code="duplicate_key")
            values[index] = value
        else:
            raise FormatError(f"{what}.pcrs: field {field.number} has no place", code="bad_type")
    return Quote(parts[1], parts[2], bank, values)


def _entry(data: bytes, what: str) -> tuple[int, bytes]:
    """A map's entry; a key that is 0 is omitted."""
    index, value = 0, b""
    seen = set()
    for field in protobuf.fields(data, what):
        if field.number in seen or field.number not in (1, 2):
            raise FormatError(f"{what}: want an index and a value", code="bad_type")
        seen.add(field.number)
        if field.number == 1:
            index = field.integer(PCR_COUNT - 1, what)
        else:
            value = field.octets(what)
    return index, value
