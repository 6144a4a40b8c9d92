"""Fetch a vault's evidence, which a host passes to an enclave with a released key.

None of it is secret, and the enclave checks all of it: other evidence is refused inside.
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
    """The parts read from a vault's configuration."""

    signingCertificate: bytes  # noqa: N815 - as it is on the wire; base64 in JSON


def vault_evidence(
    url: str, *, ca: Path | str | None = None, collateral: bytes | None = None
) -> VaultEvidence:
    """Fetch a vault's evidence: the certificate of its signing key, and the endorsements of the quote in it.

    A release contains the certificate of the enclave that signed it, which may be another of the vault's.

    Args:
        url: ``https://host[:port]``.
        ca: the authority of its TLS certificate, PEM; None for the system's.
        collateral: for the evidence, JSON; None uses this machine's platform.

    Raises:
        UsageError: the authority cannot be read.
        UnavailableError: the vault, or the platform, is unreachable.
        FormatError: the response is not from a Kluis vault.
    """
    try:
        trust = None if ca is None else ssl.create_default_context(cafile=str(ca))
    except OSError as error:
        raise UsageError(f"{ca}: want certificates, PEM: {error.strerror or error}") from None
    with Origin(url, trust=trust, limits=Limits(size_bytes=1 << 20)) as origin:
        body = origin.get("/configuration", {}, "vault").body
    try:
        configuration = msgspec.json.decode(body, type=_Configuration)
    except UNREADABLE:
        raise FormatError(f"vault {url}: want a configuration, got another", code="malformed") from None
    return VaultEvidence(
        configuration.signingCertificate,
        backends.default().collateral() if collateral is None else collateral,
    )
