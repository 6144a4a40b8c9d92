"""PEM: certificates in text with nothing between them; other types can only be written. Spec: RFC 7468."""

from __future__ import annotations

import binascii
import re
from typing import Final

from kluis.errors import FormatError
from kluis.formats.x509.certificate import Certificate, parse

MAX_CHAIN: Final = 4
_BEGIN: Final = re.compile(rb"-----BEGIN CERTIFICATE-----\r?\n")
_END: Final = re.compile(rb"-----END CERTIFICATE-----(?:\r?\n)*+")
_ALPHABET: Final = re.compile(rb"[A-Za-z0-9+/=\r\n]++")


def split_pem(data: bytes, what: str, most: int = MAX_CHAIN) -> tuple[bytes, ...]:
    """Split a PEM chain into DER certificates, at most ``most``; one NUL may end it.

    Raises:
        FormatError: anything but certificates, or none, or too many.
    """
    text = data.removesuffix(b"\0")
    certificates: list[bytes] = []
    position = 0
    while position < len(text):
        begin = _BEGIN.match(text, position)
        end = _END.search(text, begin.end()) if begin else None
        if begin is None or end is None or begin.end() == end.start():
            raise FormatError(f"{what} at {position:#x}: is not a PEM certificate", code="bad_encoding")
        if len(certificates) == most:
            raise FormatError(f"{what}: more than {most} certificates", code="too_large")
        body = text[begin.end() : end.start()]
        try:
            certificates.append(binascii.a2b_base64(body.translate(None, b"\r\n"), strict_mode=True))
        except ValueError:
            problem = "base64" if _ALPHABET.fullmatch(body) else "a PEM certificate"
            raise FormatError(f"{what} at {position:#x}: is not {problem}", code="bad_encoding") from None
        position = end.end()
    if not certificates:
        raise FormatError(f"{what}: holds no certificate", code="truncated")
    return tuple(certificates)


def write_pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    """Write one certificate, or another type as ``label``: lines of 64 characters, each ended by a line
    feed.
    """
    text = binascii.b2a_base64(der, newline=False)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    begin, end = (f"-----{word} {label}-----".encode() for word in ("BEGIN", "END"))
    return b"\n".join((begin, *lines, end, b""))


def parse_pem(data: bytes, what: str, most: int = MAX_CHAIN) -> tuple[Certificate, ...]:
    """Parse a PEM chain, at most ``most`` certificates.

    Raises:
        FormatError: as for :func:`split_pem` and :func:`parse`.
    """
    return tuple(parse(der, what) for der in split_pem(data, what, most))
