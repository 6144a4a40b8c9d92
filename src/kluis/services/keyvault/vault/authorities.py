"""Authorities: who may attest the environments that keys are released to, and why they are trusted.

There are three kinds, from the strongest. An *attested* one runs in an enclave: its signing keys carry that
enclave's evidence, so neither its operator nor the channel to it is trusted. A *pinned* one has its keys in
the configuration. An *insecure fetched* one is trusted on the statement of this service's host operator.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from kluis.appraisal.tokens.signed_claims import origin
from kluis.errors import FormatError, UsageError
from kluis.formats.encoding import jcs

MOST: Final = 32
_INSTANCE: Final = re.compile(r"(https://.+)/instances/[A-Za-z0-9-]{1,24}")


class ByImages(msgspec.Struct, tag="images", frozen=True, forbid_unknown_fields=True):
    """Enclaves identified by their image: hex of 32 bytes, each."""

    images: tuple[str, ...]


class BySigner(msgspec.Struct, tag="signer", frozen=True, forbid_unknown_fields=True):
    """Enclaves identified by their signer.

    Attributes:
        signer: hex of 32 bytes.
        product: 0 to 65535.
        svn: the least accepted.
    """

    signer: str
    product: int
    svn: int


class Attested(msgspec.Struct, tag="attested", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An authority in an enclave.

    Its code by itself proves little: its operator configures the trusted roots. So its settings are required
    too. An attestation service's instances run in the same enclave, under the same settings, with separate
    keys. If a release policy names one, ``url/instances/NAME``, all requirements here apply to it.

    Attributes:
        url: the tokens' ``iss``.
        roots: PEM of the roots that its evidence may chain to.
        identity: required of the enclave.
        settings: accepted digests of its settings, hex of 32 bytes; ``kluis serve --json`` prints its own.
        insecure_any_settings: whether any settings are accepted: then its operator is trusted.
        levels: accepted protection levels.
        missing: protections that its machine may do without.
        counters: accepted witnesses of its state.
    """

    url: str
    roots: tuple[str, ...]
    identity: ByImages | BySigner
    levels: tuple[str, ...]
    settings: tuple[str, ...] = ()
    insecure_any_settings: bool = False
    missing: tuple[str, ...] = ()
    counters: tuple[str, ...] = ("unwitnessed",)


class Pinned(msgspec.Struct, tag="pinned", frozen=True, forbid_unknown_fields=True):
    """An authority whose keys are configured.

    Attributes:
        url: the tokens' ``iss``.
        jwks: its JWKS document, JSON.
    """

    url: str
    jwks: str


class InsecureFetched(msgspec.Struct, tag="insecure_fetched", frozen=True, forbid_unknown_fields=True):
    """An authority whose keys the host fetches: its statements are only as trustworthy as the operator.

    Attributes:
        url: the tokens' ``iss``.
    """

    url: str


Authority = Attested | Pinned | InsecureFetched


def canonical(authorities: Sequence[Authority]) -> bytes:
    """The set of authorities in canonical JSON, in order of URL: stored by a vault from its first key on.

    Raises:
        UsageError: two with one URL, too many, or an invalid URL.
    """
    if len(authorities) > MOST:
        raise UsageError(f"authorities: want at most {MOST}, got {len(authorities)}")
    known: dict[str, object] = {}
    for each in authorities:
        try:
            url = origin(each.url)
        except FormatError as error:
            raise UsageError(f"authorities: {error.message}") from None
        if url in known:
            raise UsageError(f"authorities: want one of {url}, got two")
        known[url] = msgspec.to_builtins(each)
    return jcs.dumps([known[url] for url in sorted(known)])  # type: ignore[misc]  # builtins of our types


def service_of(issuer: str) -> str | None:
    """The URL of the attestation service whose instance an issuer's URL names; None if it is not an
    instance.
    """
    match = _INSTANCE.fullmatch(issuer)
    return None if match is None else match[1]
