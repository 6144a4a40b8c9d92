"""The host's functions for services, which have no network; everything returned is checked inside."""

from __future__ import annotations

import contextlib
import re
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from kluis.errors import KluisError, UnavailableError, foreign
from kluis.evidence import TrustAnchors
from kluis.formats.sgx import quote as dcap_quote
from kluis.services.clock import Clock
from kluis.services.hosting import Endorsed, Published
from kluis.tee.platform.client import Platform

if TYPE_CHECKING:
    from kluis.collateral.transport import Origin

# For this machine's operator: the command line fetches the endorsements of evidence.
TO_FETCH: Final = "kluis serve --online, or kluis collateral fetch on the service's machine"
_PATH: Final = re.compile(r"(?<![\w:/.])/[^\s:,;'\"]+")


class HostCalls:
    """The ocalls of every service's enclave except those of its store.

    The clients of vendors and services are loaded when an enclave first needs one: most starts need none.

    Args:
        certify: from a request to a chain, both PEM.
        origins: ``https://host:port`` of the allowed origins, and the authorities for their TLS.
        cache: of the vendors' documents.
        online: whether documents that are not cached are fetched from Intel and AMD.
        clock: returns the time.
        log: writes lines of the services' logs.
    """

    def __init__(
        self,
        certify: Callable[[bytes], bytes],
        origins: Mapping[str, ssl.SSLContext | None],
        *,
        cache: Path,
        online: bool,
        clock: Clock,
        log: Callable[[Iterable[str]], None],
    ) -> None:
        self._certify = certify
        self._trusts = dict(origins)
        self._origins: dict[str, Origin] = {}
        self._cache = cache
        self._online = online
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        for name, trust in self._trusts.items():
            if trust is None:  # an operator named it: another form is refused at once
                self._origin(name)

    def functions(self) -> dict[str, Callable[..., Any]]:
        """The functions by their ocall names."""
        return {
            "fetch": self.fetch,
            "certify": self._certify,
            "endorse": self.endorse,
            "published": self.published,
            "log": self._log,
        }

    def fetch(self, url: str) -> bytes:
        """Fetch ``url``, if it has a configured origin.

        Raises:
            UnavailableError: it has another, or there is nothing.
        """
        name, path = _split(url)
        if name not in self._trusts:
            raise UnavailableError(f"fetch: want an address of {sorted(self._trusts)}, got {url[:200]!a}")
        with self._lock:  # one client an origin, and few documents
            return self._origin(name).get(path, {}, "document").body

    def _origin(self, name: str) -> Origin:
        from kluis.collateral.transport import Limits, Origin

        if name not in self._origins:
            limits = Limits(size_bytes=1 << 20, step_seconds=10.0, total_seconds=15.0, wait_seconds=1.0)
            self._origins[name] = Origin(name, trust=self._trusts[name], limits=limits)
        return self._origins[name]

    def endorse(self, kind: str, evidence: bytes) -> Endorsed:
        """The endorsements of evidence; or the reason why there are none, which is also logged.

        Args:
            kind: ``sgx``, ``tdx`` or ``snp``.
            evidence: not verified.
        """
        try:
            return Endorsed(self._endorsing(kind, evidence))
        except KluisError as error:
            fix = error.hint or ""
            if error.code == "collateral_missing" and not self._online:
                fix = TO_FETCH
            why = foreign(error.message)
            self._log([f"endorse {kind[:8]}: {why}" + (f" (hint: {fix})" if fix else "")])
            # A service's clients see this text, and must not learn where its host keeps its files.
            return Endorsed(b"", *map(_without_paths, (why, fix)))

    def _endorsing(self, kind: str, evidence: bytes) -> bytes:
        if kind == "sgx" and _is_emulated(evidence):
            return Platform.connect(start=False).collateral()
        from kluis.collateral import Cache, Cached, Vendors, fetch_for, release
        from kluis.collateral.amd import Kds
        from kluis.collateral.intel import Pcs

        with contextlib.ExitStack() as services:
            behind = (
                Vendors(intel=services.enter_context(Pcs()), amd=services.enter_context(Kds()))
                if self._online
                else None
            )
            bundle = fetch_for(
                evidence,
                Cached(Cache(self._cache), behind),
                release=release("early", None),
                anchors=TrustAnchors.shipped(),
                now=self._clock.now(),
            )
        return bundle.to_json()

    def published(self, path: str, query: dict[str, str]) -> Published:
        """The cached response of Intel's or AMD's service."""
        from kluis.collateral import Cache
        from kluis.collateral.paths import vendor

        answer = vendor(Cache(self._cache))(path, query)
        return Published(answer is not None, *(answer or ({}, b"")))


def _split(url: str) -> tuple[str, str]:
    """Origin and path; no origin if the URL has any other part."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    if parts.query or parts.fragment:
        return "", ""
    return f"{parts.scheme}://{parts.netloc}", parts.path or "/"


def _is_emulated(quote: bytes) -> bool:
    """Whether a quote states that no hardware made it."""
    try:
        return dcap_quote.parse(quote).header.user_data.startswith(dcap_quote.NO_HARDWARE)
    except KluisError:
        return False


def _without_paths(text: str) -> str:
    return _PATH.sub("(path)", text)


def write(lines: Iterable[str]) -> None:
    """Write lines of a service's log to standard error."""
    for line in lines:
        sys.stderr.write(foreign(line, len(line)) + "\n")
    sys.stderr.flush()
