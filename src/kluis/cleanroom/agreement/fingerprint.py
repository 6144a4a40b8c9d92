"""Fingerprints of parties: digits that two people compare over a channel other than the room's folder.

A fingerprint covers a party's short name and both of its keys. 32 decimal digits are 106 bits, so nobody can
find other keys with the same digits.
"""

from __future__ import annotations

from typing import Final

from kluis.cleanroom.agreement.agreement import Party
from kluis.hashes import sha256

_GROUPS: Final = 8
_DIGITS: Final = 4


def keys_hash(party: Party) -> str:
    """SHA-256 over a party's short name and both public keys, 64 hex digits; the content of a pin."""
    label = b"kluis\x00party-keys/1\x00"
    return sha256(label + party.id.encode() + b"\x00" + party.signing_key + party.sealing_key).hex()


def of(party: Party) -> str:
    """A party's fingerprint: 8 groups of 4 digits, with hyphens."""
    return digits(keys_hash(party))


def digits(hashed: str) -> str:
    """A hash of :func:`keys_hash` in the form that people compare."""
    number = int(hashed, 16) % 10 ** (_GROUPS * _DIGITS)
    text = f"{number:0{_GROUPS * _DIGITS}}"
    return "-".join(text[start : start + _DIGITS] for start in range(0, len(text), _DIGITS))


def same(entered: str, fingerprint: str) -> bool:
    """Whether a given fingerprint is this one, with or without hyphens and blanks."""
    return entered.replace("-", "").replace(" ", "") == fingerprint.replace("-", "")
