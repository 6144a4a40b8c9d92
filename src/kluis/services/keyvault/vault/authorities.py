"""Authorities: who may vouch for the environments that keys are released to, and why they are believed.

Three kinds, from the strongest. An *attested* one runs in an enclave: its signing keys carry that enclave's
evidence, so neither its operator nor whoever carries its keys here is believed. A *pinned* one has its keys
in the configuration. An *insecure fetched* one is believed on the word of whoever runs this service's host.
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
    """An enclave by its image: hex of 32 bytes, each."""

    images: tuple[str, ...]


class BySigner(msgspec.Struct, tag="signer", frozen=True, forbid_unknown_fields=True):
    """An enclave by who signed it.

    Attributes:
        signer: hex of 32 bytes.
        product: 0 to 65535.
        svn: the least that will do.
    """

    signer: str
    product: int
    svn: int


class Attested(msgspec.Struct, tag="attested", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An authority in an enclave.

    Its code alone says little: whoever runs it tells it which roots to believe. So its settings count too.
    An attestation service's instances are of the same enclave, under the same settings, with keys of their
    own: where a release policy names one, ``url/instances/NAME``, it is held to all that is said here.

    Attributes:
        url: the tokens' ``iss``.
        roots: PEM of the roots that its evidence may chain to.
        identity: what it is.
        settings: digests of what it may have been told, hex of 32 bytes; ``kluis serve --json`` has its own.
        insecure_any_settings: whether it may have been told anything: then its operator's word counts.
        levels: protection levels that will do.
        missing: protections that its machine may lack.
        counters: how its state may be witnessed.
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
    """An authority whose keys the host fetches: its word is the operator's.

    Attributes:
        url: the tokens' ``iss``.
    """

    url: str


Authority = Attested | Pinned | InsecureFetched


def canonical(authorities: Sequence[Authority]) -> bytes:
    """The set of authorities in canonical JSON, in order of URL: what a vault keeps from its first key on.

    Raises:
        UsageError: two of one URL, too many, or a URL that is none.
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
    return jcs.dumps([known[url] for url in sorted(known)])  # type: ignore[misc]  # builtins of our own types


def service_of(issuer: str) -> str | None:
    """The URL of the attestation service whose instance an issuer is, by its own; None: of none."""
    match = _INSTANCE.fullmatch(issuer)
    return None if match is None else match[1]
