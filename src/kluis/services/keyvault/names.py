"""Names of keys and of their versions, and the identifiers that clients use."""

from __future__ import annotations

import re
from typing import Final

from kluis.services.keyvault.faults import BadParameter

_NAME: Final = re.compile(r"[0-9a-zA-Z-]{1,127}", re.ASCII)
_VERSION: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
LATEST: Final = ""


def check_name(name: str) -> str:
    """Check a name and return it.

    Raises:
        BadParameter: other characters than letters, digits and dashes, or not 1 to 127 of them.
    """
    if not _NAME.fullmatch(name):
        raise BadParameter(
            "The request URI contains an invalid name: want 1 to 127 letters, digits and dashes"
        )
    return name


def check_version(version: str) -> str:
    """Check a version and return it; "" is the latest.

    Raises:
        BadParameter: not 32 hexadecimal digits.
    """
    if version != LATEST and not _VERSION.fullmatch(version.lower()):
        raise BadParameter("The request URI contains an invalid version: want 32 hexadecimal digits")
    return version.lower()


def fold_case(name: str) -> str:
    """The common form of a key's spellings: Azure's names are case-insensitive."""
    return name.lower()


def identifier(url: str, name: str, version: str = LATEST) -> str:
    """The key's URL, ``https://vault/keys/NAME/VERSION``, or without the version."""
    return f"{url}/keys/{name}/{version}" if version else f"{url}/keys/{name}"
