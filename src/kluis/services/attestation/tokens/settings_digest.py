"""The digest of a service's settings, which a relying party can require in addition to its code.

The same code with other roots accepts other evidence, and its operator chooses the roots. So the digest is in
the evidence of every signing key, and a key signs only under one set of settings. The issuer of bearer tokens
is part of the settings: it determines who can replace a policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kluis.errors import InternalError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.jcs import Json
from kluis.hashes import sha256
from kluis.services.attestation.settings import AttestationSettings

# Left out: inputs that are verified whatever their source, and settings that only describe the service's
# location.
LEFT_OUT: Final = frozenset({"collateral", "collateral_seconds", "location"})


def digest(settings: AttestationSettings, issuer: bytes) -> bytes:
    """SHA-256 of the settings and the issuer in canonical JSON.

    Args:
        settings: bytes are written in hex, sets in order, and some members are left out.
        issuer: canonical JSON, from :func:`kluis.services.issuers.canonical`.
    """
    return sha256(jcs.dumps({"issuer": jcs.loads(issuer, "issuer"), "settings": _plain(settings)}))


def _plain(value: object) -> Json:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, frozenset):
        return sorted((_plain(each) for each in value), key=str)
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, msgspec.Struct):
        names = [name for name in value.__struct_fields__ if name not in LEFT_OUT]
        return {name: _plain(getattr(value, name)) for name in names}
    raise InternalError(f"attestation settings: want plain values, got {type(value).__name__}")
