"""A cache of the authorities' signing keys, refreshed when a key id is unknown or the entry is stale.

Keys are fetched through the host, which may send anything. Keys of an attested authority must carry its
enclave's evidence; keys of an insecurely fetched one are only the host's statement.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Container, Sequence
from datetime import datetime
from typing import Final

import msgspec

from kluis.appraisal import ByImage, Policy
from kluis.appraisal import BySigner as SignedBy
from kluis.appraisal.tokens import token_keys, vouching
from kluis.appraisal.tokens.signed_claims import origin
from kluis.appraisal.tokens.token_keys import TrustedKey
from kluis.errors import AuthenticityError, FormatError, KluisError, UnavailableError, UsageError, foreign
from kluis.evidence import Collateral, HeldCollateral, ProtectionLevel, TrustAnchors
from kluis.formats import x509
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.formats.kluis import vouched
from kluis.services.backoff import Backoff
from kluis.services.keyvault.vault.authorities import (
    Attested,
    Authority,
    ByImages,
    InsecureFetched,
    Pinned,
    service_of,
)

Fetch = Callable[[str], bytes]
"""Fetches an https URL through the host: at most 256 KiB are used."""
Endorse = Callable[[bytes], Collateral | HeldCollateral | None]
"""Finds the collateral for a quote; None: there is no source. Raises UnavailableError with the reason."""
MAX_FETCHED: Final = 256 * 1024
MOST_SAID: Final = 1024
MOST_INSTANCES: Final = 256


@dataclasses.dataclass(slots=True)
class Held:
    """One authority's keys, and the times of the last fetch and attempt; the lock is for fetching."""

    authority: Authority
    keys: dict[str, TrustedKey] = dataclasses.field(default_factory=dict)
    fetched: float | None = None
    tried: float | None = None
    failed: str | None = None
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


class Keyring:
    """Finds an authority's signing keys.

    Args:
        authorities: the pinned set.
        fetch: through the host.
        endorse: finds collateral for quotes, through the host as well.
        life_seconds: how long fetched keys are trusted.
        refetch_seconds: the least time between two fetches for one authority.

    Raises:
        UsageError: an authority that could never be trusted.
    """

    def __init__(
        self,
        authorities: Sequence[Authority],
        fetch: Fetch,
        endorse: Endorse,
        *,
        life_seconds: int,
        refetch_seconds: int,
    ) -> None:
        self._fetch = fetch
        self._endorse = endorse
        self._backoff = Backoff()
        self._life = life_seconds
        self._refetch = refetch_seconds
        self._held = {origin(each.url): Held(each) for each in authorities}
        self._instances: dict[str, Held] = {}
        self._lock = threading.Lock()
        for cache in self._held.values():
            if isinstance(cache.authority, Pinned):
                cache.keys = _pinned_keys(cache.authority)
            elif isinstance(cache.authority, Attested):
                _requirements(cache.authority)

    def key(
        self, issuer: str, kid: str, now: datetime, named: Callable[[], Container[str]] = frozenset
    ) -> TrustedKey:
        """Return the key of that name.

        Args:
            issuer: of the token, in the form of ``origin``.
            kid: the name.
            now: aware.
            named: the authorities in the release policy: only these can make the host fetch keys of an
                attested authority's instance.

        Raises:
            AuthenticityError: no such authority, or it has no such key.
            UnavailableError: its keys are unavailable.
        """
        cache = self._held.get(issuer) or self._instance(issuer, named)
        if cache is None:
            raise AuthenticityError(f"token iss: want one of this vault's authorities, got {issuer[:200]!a}")
        key = cache.keys.get(kid)
        if not isinstance(cache.authority, Pinned):
            self._refresh(cache, kid, now)
            # A caller that does not wait for another's fetch must not use keys that are too old by now.
            key = None if self._is_old(cache, now.timestamp()) else cache.keys.get(kid)
        if key is None:
            if cache.failed is not None:
                raise UnavailableError(f"keys of {issuer}: {cache.failed}")
            raise AuthenticityError(f"token kid: want a key of {issuer}, got {kid[:64]!a}")
        return key

    def _instance(self, issuer: str, named: Callable[[], Container[str]]) -> Held | None:
        service = self._held.get(service_of(issuer) or "")
        if service is None or not isinstance(service.authority, Attested) or issuer not in named():
            return None
        with self._lock:
            if issuer not in self._instances:
                if len(self._instances) >= MOST_INSTANCES:
                    self._instances.pop(next(iter(self._instances)))
                self._instances[issuer] = Held(msgspec.structs.replace(service.authority, url=issuer))
            return self._instances[issuer]

    def _refresh(self, cache: Held, kid: str, now: datetime) -> None:
        at = now.timestamp()
        # The first caller waits for the answer; a caller that has seen an earlier failure does not.
        if not self._is_due(cache, kid, at) or not cache.lock.acquire(blocking=cache.failed is None):
            return
        try:
            if not self._is_due(cache, kid, at):
                return
            if self._is_old(cache, at):
                cache.keys, cache.fetched = {}, None
            cache.keys = self._backoff.attempt(
                cache.authority.url, lambda: self._fetch_keys(cache.authority, now)
            )
            cache.fetched, cache.tried, cache.failed = at, at, None
        except KluisError as error:
            # The error of a host call has the host's own text.
            cache.failed = foreign(error.message, MOST_SAID)
        finally:
            cache.lock.release()

    def _is_due(self, cache: Held, kid: str, at: float) -> bool:
        if not self._is_old(cache, at) and kid in cache.keys:
            return False
        # A clock that went back must not prevent all later fetches. After a failure, the back-off decides.
        tried = cache.failed is None and cache.tried is not None
        return not tried or not 0 <= at - (cache.tried or 0) < self._refetch

    def _is_old(self, cache: Held, at: float) -> bool:
        return cache.fetched is None or not 0 <= at - cache.fetched < self._life

    def _fetch_keys(self, authority: Authority, now: datetime) -> dict[str, TrustedKey]:
        if isinstance(authority, Attested):
            document = self._get(f"{authority.url.removesuffix('/')}/certs")
            return token_keys.read(
                document,
                certified=True,
                vouched=lambda certificate: self._verify_certificate(authority, certificate, now),
            )
        return token_keys.read(self._get(self._jwks_uri(authority)), certified=True)

    def _jwks_uri(self, authority: Authority) -> str:
        url = f"{authority.url.removesuffix('/')}/.well-known/openid-configuration"
        try:
            metadata = msgspec.json.decode(self._get(url))
        except UNREADABLE:
            raise FormatError("OpenID metadata: want JSON, got another") from None
        uri = metadata.get("jwks_uri") if isinstance(metadata, dict) else None
        if not isinstance(uri, str):
            raise FormatError("OpenID metadata: want jwks_uri, got none")
        origin(uri)
        return uri

    def _get(self, url: str) -> bytes:
        data = self._fetch(url)
        if len(data) > MAX_FETCHED:
            raise FormatError(f"{url}: is {len(data)} bytes, must be at most {MAX_FETCHED}")
        return data

    def _verify_certificate(self, authority: Attested, certificate: bytes, now: datetime) -> bytes:
        quote = vouched.evidence_in(x509.parse(certificate, "signing certificate")).quote
        anchors, policy = _requirements(authority)
        verified = vouching.check(
            certificate, anchors=anchors, collateral=self._endorse(quote), policy=policy, now=now
        )
        if not authority.insecure_any_settings:
            verified.require_settings(authority.settings)
        return verified.spki


def _pinned_keys(authority: Pinned) -> dict[str, TrustedKey]:
    try:
        return token_keys.read(authority.jwks.encode("utf-8", "replace"), certified=False)
    except KluisError as error:
        raise UsageError(f"authority {authority.url}: {error.message}") from None


def _requirements(authority: Attested) -> tuple[TrustAnchors, Policy]:
    """The roots for an attested authority's evidence, and the requirements on its enclave."""
    try:
        roots = [TrustAnchors.from_pem(each.encode()) for each in authority.roots]
        anchors = TrustAnchors(tuple(anchor for root in roots for anchor in root))
        levels = frozenset(ProtectionLevel(each) for each in authority.levels)
        if bool(authority.settings) is authority.insecure_any_settings or any(
            len(bytes.fromhex(each)) != 32 or each != each.lower() for each in authority.settings
        ):
            raise UsageError("settings: want digests of 32 bytes, or insecure_any_settings, got another")
        named = authority.identity
        if isinstance(named, ByImages):
            identity: ByImage | SignedBy = ByImage(
                image_ids=frozenset(bytes.fromhex(each) for each in named.images)
            )
        else:
            identity = SignedBy(
                signers=frozenset({bytes.fromhex(named.signer)}), product_id=named.product, min_svn=named.svn
            )
        return anchors, vouching.build_policy(
            identity,
            protection=levels,
            counters=frozenset(authority.counters),
            missing=frozenset(authority.missing),
        )
    except (KluisError, ValueError) as error:
        raise UsageError(f"authority {authority.url}: {error}") from None


def describe(authority: Authority) -> dict[str, object]:
    """The description of an authority for clients."""
    kind = "insecure_fetched" if isinstance(authority, InsecureFetched) else type(authority).__name__.lower()
    return {"kind": kind, **msgspec.to_builtins(authority)}
