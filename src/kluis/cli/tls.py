"""``--pccs-ca`` and the like: the authorities that a service's TLS certificate may be from."""

from __future__ import annotations

import ssl
from pathlib import Path

from kluis.errors import UsageError


def trust(ca: Path | None) -> ssl.SSLContext:
    """Trust the authority in the file ``ca``, or the system's authorities if there is no file.

    Raises:
        UsageError: the file cannot be read, or contains no certificate.
    """
    try:
        return ssl.create_default_context(cafile=str(ca) if ca else None)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"{ca}: is not a PEM certificate: {error.strerror or error}") from None
