"""A result at rest: encrypted once, its key sealed to each recipient that the agreement names.

    canonical JSON header | newline | 12-byte nonce | AES-256-GCM ciphertext and tag

Canonical JSON holds no newline, so the first one ends the header; the header is the associated data.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.cleanroom.agreement import Party
from kluis.cleanroom.documents import Document, decode, encode
from kluis.cleanroom.keys import SealingKey, seal
from kluis.cleanroom.terms import Hex32, Identifier
from kluis.errors import AuthenticityError, FormatError, PolicyError

Format = Literal["json", "parquet"]
_NONCE_SIZE = 12
_MAX_HEADER = 1024 * 1024


class Envelope(Document, frozen=True):
    """The result's key, for one recipient."""

    party: Identifier
    sealed_key: Annotated[bytes, msgspec.Meta(max_length=4096)]


class Header(Document, frozen=True):
    """What the result is, and who can open it."""

    kind: Literal["kluis-result/1"]
    agreement: Hex32
    run: Hex32
    analysis: Identifier
    format: Format
    recipients: tuple[Envelope, ...]


def seal_result(
    plain: bytes, agreement: str, run: str, analysis: str, kind: Format, recipients: tuple[Party, ...]
) -> bytes:
    """Seal a result to its recipients."""
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
    return header + b"\n" + nonce + AESGCM(key).encrypt(nonce, plain, header)


def open_result(sealed: bytes, party: str, key: SealingKey) -> tuple[Header, bytes]:
    """Open a result as one of its recipients.

    Raises:
        FormatError: it is not a sealed result.
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
        return header, AESGCM(data_key).decrypt(body[:_NONCE_SIZE], body[_NONCE_SIZE:], raw)
    except (InvalidTag, ValueError) as error:
        raise AuthenticityError(f"result {header.analysis}: cannot be opened", code="result") from error


def _split(sealed: bytes) -> tuple[bytes, bytes]:
    end = sealed.find(b"\n", 0, _MAX_HEADER)
    if end < 0 or len(sealed) < end + 1 + _NONCE_SIZE + 16:
        raise FormatError("result: want a header, a nonce and ciphertext")
    return sealed[:end], sealed[end + 1 :]


def _info(agreement: str, run: str, analysis: str, party: str) -> bytes:
    return "|".join(("kluis-result/1", agreement, run, analysis, party)).encode()
