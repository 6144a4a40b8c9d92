"""What a host brings along when it hands an enclave a released key: the vault's evidence.

None of it is secret, and the enclave checks all of it: a host that brings another is refused inside.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from kluis.collateral.transport import Limits, Origin
from kluis.enclave.vaults import VaultEvidence
from kluis.errors import FormatError, UsageError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.tee import backends

__all__ = ["vault_evidence"]


class _Configuration(msgspec.Struct):
    """What is read of a vault's configuration."""

    signingCertificate: bytes  # noqa: N815 - as it is on the wire; base64 in JSON


def vault_evidence(
    url: str, *, ca: Path | str | None = None, collateral: bytes | None = None
) -> VaultEvidence:
    """Fetch a vault's evidence: the certificate of its signing key, and what endorses the quote in it.

    A release has the certificate of the enclave that signed it, which may be another of the vault's.

    Args:
        url: ``https://host[:port]``.
        ca: the authority of its TLS certificate, PEM; None for the usual ones.
        collateral: for the evidence, JSON; None asks this machine's platform.

    Raises:
        UsageError: the authority cannot be read.
        UnavailableError: the vault, or the platform, does not answer.
        FormatError: what answers is no vault of Kluis's.
    """
    try:
        trust = None if ca is None else ssl.create_default_context(cafile=str(ca))
    except OSError as error:
        raise UsageError(f"{ca}: want certificates, PEM: {error.strerror or error}") from None
    with Origin(url, trust=trust, limits=Limits(size_bytes=1 << 20)) as origin:
        body = origin.get("/configuration", {}, "vault").body
    try:
        found = msgspec.json.decode(body, type=_Configuration)
    except UNREADABLE:
        raise FormatError(f"vault {url}: want a configuration, got another", code="malformed") from None
    return VaultEvidence(
        found.signingCertificate, backends.default().collateral() if collateral is None else collateral
    )
