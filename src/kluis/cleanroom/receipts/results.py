"""Sealed results: encrypted once, with the key sealed to each recipient that the agreement names.

    canonical JSON header | newline | 12-byte nonce | AES-256-GCM ciphertext and tag

Canonical JSON contains no newline, so the first one ends the header; the header is the associated data. The
plaintext has a size that follows from the agreement, so that the file's size depends on no value:

    size of the result, 4 bytes big-endian | the result | zeros

A result of size 0 has no figures: all groups were hidden, or it could not be computed.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.cleanroom.agreement.agreement import Analysis, Party, SqlAnalysis
from kluis.cleanroom.agreement.documents import Document, decode, encode
from kluis.cleanroom.agreement.keys import SealingKey, seal
from kluis.cleanroom.agreement.terms import Hex32, Identifier
from kluis.errors import AuthenticityError, FormatError, PolicyError

Format = Literal["json", "parquet"]
_NONCE_SIZE = 12
_MAX_HEADER = 1024 * 1024
_LENGTH_SIZE = 4
# Size of one figure in a Parquet table, overhead of one column and of the file; size of a score in JSON.
_FIGURE_BYTES = 64
_COLUMN_BYTES = 1024
_SCORE_BYTES = 128


class Envelope(Document, frozen=True):
    """The result's key, sealed to one recipient."""

    party: Identifier
    sealed_key: Annotated[bytes, msgspec.Meta(max_length=4096)]


class Header(Document, frozen=True):
    """Describes the result, and its recipients."""

    kind: Literal["kluis-result/1"]
    agreement: Hex32
    run: Hex32
    analysis: Identifier
    format: Format
    recipients: tuple[Envelope, ...]


def format_of(analysis: Analysis) -> Format:
    """The format of an analysis' result."""
    return "parquet" if isinstance(analysis, SqlAnalysis) else "json"


def size_of(analysis: Analysis, columns: int = 0) -> int:
    """The size that every result of an analysis is padded to, in bytes: a power of two.

    Args:
        analysis: as agreed.
        columns: number of columns that its query selects; 0 for a model.
    """
    need = _LENGTH_SIZE + len(encode(analysis)) + 4 * _COLUMN_BYTES
    if isinstance(analysis, SqlAnalysis):
        need += columns * (_COLUMN_BYTES + analysis.max_rows * _FIGURE_BYTES)
    else:
        need += (len(analysis.arms) + len(analysis.compare)) * _SCORE_BYTES
    return 1 << (need - 1).bit_length()


def pad(plain: bytes, size: int) -> bytes:
    """Pad a result to its size; one that is larger becomes a result without figures."""
    if _LENGTH_SIZE + len(plain) > size:
        plain = b""
    return (len(plain).to_bytes(_LENGTH_SIZE) + plain).ljust(size, b"\0")


def seal_result(
    padded: bytes, agreement: str, run: str, analysis: str, kind: Format, recipients: tuple[Party, ...]
) -> bytes:
    """Seal a padded result to its recipients."""
    key = os.urandom(32)
    header = encode(
        Header(
            kind="kluis-result/1",
            agreement=agreement,
            run=run,
            analysis=analysis,
            format=kind,
            recipients=tuple(
                Envelope(
                    party=each.id,
                    sealed_key=seal(each.sealing_key, key, _info(agreement, run, analysis, each.id)),
                )
                for each in recipients
            ),
        )
    )
    nonce = os.urandom(_NONCE_SIZE)
    return header + b"\n" + nonce + AESGCM(key).encrypt(nonce, padded, header)


def open_result(sealed: bytes, party: str, key: SealingKey) -> tuple[Header, bytes]:
    """Open a result as one of its recipients; it is empty if it has no figures.

    Raises:
        FormatError: it is not a sealed result, or not padded.
        PolicyError: this party is not a recipient.
        AuthenticityError: it was changed, or sealed to another key.
    """
    raw, body = _split(sealed)
    header = decode(raw, Header, "result")
    mine = [each for each in header.recipients if each.party == party]
    if not mine:
        named = [each.party for each in header.recipients]
        raise PolicyError(
            f"result {header.analysis}: want {party} among its recipients, got {named}", code="recipient"
        )
    data_key = key.open(mine[0].sealed_key, _info(header.agreement, header.run, header.analysis, party))
    try:
        padded = AESGCM(data_key).decrypt(body[:_NONCE_SIZE], body[_NONCE_SIZE:], raw)
    except (InvalidTag, ValueError) as error:
        raise AuthenticityError(f"result {header.analysis}: cannot be opened", code="result") from error
    end = _LENGTH_SIZE + int.from_bytes(padded[:_LENGTH_SIZE])
    if len(padded) < max(end, _LENGTH_SIZE) or any(padded[end:]):
        raise FormatError(f"result {header.analysis}: want a size, a result and zeros")
    return header, padded[_LENGTH_SIZE:end]


def _split(sealed: bytes) -> tuple[bytes, bytes]:
    end = sealed.find(b"\n", 0, _MAX_HEADER)
    if end < 0 or len(sealed) < end + 1 + _NONCE_SIZE + 16:
        raise FormatError("result: want a header, a nonce and ciphertext")
    return sealed[:end], sealed[end + 1 :]


def _info(agreement: str, run: str, analysis: str, party: str) -> bytes:
    return "|".join(("kluis-result/1", agreement, run, analysis, party)).encode()
