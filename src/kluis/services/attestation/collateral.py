"""Intel's documents for the quotes that come in: asked for outside, verified inside, held for a while.

Whoever gives them is not trusted: each bundle is verified under the service's roots, and judged by the time
at every use. A bundle is chosen by the platform that the quote's certificates name.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, TypeAlias

from kluis.errors import AuthenticityError, FormatError, UnavailableError
from kluis.evidence import Collateral, HeldCollateral, TrustAnchors
from kluis.evidence.context import Context
from kluis.evidence.intel import collateral as holding
from kluis.evidence.intel import pck
from kluis.formats import x509
from kluis.formats.sgx import extension
from kluis.formats.sgx import quote as dcap_quote
from kluis.formats.sgx.certification import CertificationType
from kluis.formats.sgx.quote import TEE_TDX
from kluis.hashes import sha256

__all__ = ["Documents", "Endorsements", "Endorsing"]

MOST_HELD: Final = 256
_CHAIN: Final = "PCK chain"
_PEM: Final = b"-----BEGIN CERTIFICATE-----"

Endorsements: TypeAlias = Callable[[str, bytes], bytes]
"""Asks outside for what endorses evidence.

Args: its kind, ``sgx``, ``tdx`` or ``snp``; the evidence. Returns: Intel's documents, or AMD's, as the JSON
of ``Collateral`` and ``SnpEndorsements``. Raises UnavailableError: there is none; its text says why.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Documents:
    """A verified bundle, and the hashes that tokens tell of it.

    Attributes:
        held: what quotes are verified with.
        hashes: SHA-256, hex, by the names of ``x-ms-sgx-collateral``; that of the quote is missing.
    """

    held: HeldCollateral
    hashes: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class _Fetched:
    documents: Documents
    at: datetime


class Endorsing:
    """Finds the documents for a quote.

    Args:
        anchors: the roots that the service trusts.
        bundles: that it was given, JSON.
        ask: asks outside; None: the service works with what it has.
        seconds: how long fetched documents are used before they are asked for again.

    Raises:
        KluisError: a bundle that was given does not hold.
    """

    def __init__(
        self, anchors: TrustAnchors, bundles: tuple[bytes, ...], ask: Endorsements | None, seconds: int
    ) -> None:
        self._anchors = anchors
        self._ask = ask
        self._seconds = seconds
        self._lock = threading.Lock()
        self._fetched: dict[bytes, _Fetched] = {}
        self._by_bytes: dict[bytes, Documents] = {}
        given = [self.hold(bundle) for bundle in bundles]
        self._given = {_platform_of(each.held): each for each in given}

    def find(self, quote: bytes, given: bytes | None, now: datetime) -> Documents:
        """The documents for one quote.

        Args:
            quote: DCAP, not yet verified: it chooses among documents, and no more.
            given: a bundle that came with it, JSON.
            now: aware.

        Raises:
            FormatError: no quote, or the bundle is malformed.
            AuthenticityError: the bundle, or the platform, is of nobody who is trusted.
            UnavailableError: there are none.
        """
        if given is not None:
            return self.hold(given)
        # The platform's certificates end a quote, so that its other quotes have the same end.
        key = quote[4:8] + quote[max(quote.find(_PEM), 0) :]
        fetched = self._fetched.get(key)
        if fetched is not None and abs((now - fetched.at).total_seconds()) < self._seconds:
            return fetched.documents
        parsed = dcap_quote.parse(quote)
        # Whoever made up a platform must not have documents fetched for it.
        self._check_platform(parsed)
        tee = "tdx" if parsed.header.tee_type == TEE_TDX else "sgx"
        bundle, why = None, "nobody may be asked"
        try:
            bundle = self._ask(tee, quote) if self._ask else None
        except UnavailableError as error:
            if fetched is not None:
                # Old documents say by themselves until when they are good.
                return fetched.documents
            why = error.message
        documents = self._chosen(tee, parsed, bundle, why)
        with self._lock:
            if len(self._fetched) >= MOST_HELD:
                self._fetched.pop(next(iter(self._fetched)))
            self._fetched[key] = _Fetched(documents, now)
        return documents

    def _check_platform(self, quote: dcap_quote.Quote) -> None:
        """Refuse a platform whose certificates are of no authority that is trusted."""
        if quote.certification_type == CertificationType.PCK_CHAIN:
            context = Context(self._anchors)
            found = pck.parse(quote.certification_data, _CHAIN, context)
            leaf, ca, root = pck.by_role(found, pck.LEAF, pck.CA, pck.ROOT, what=_CHAIN)
            anchor = pck.match_root(root, context, _CHAIN)
            pck.check_ca(ca, root, anchor, "PCK CA certificate", context)
            pck.check_leaf(leaf, ca, anchor, "PCK certificate", context)

    def hold(self, bundle: bytes) -> Documents:
        """Verify a bundle, or give what the same bytes gave before.

        Raises:
            FormatError, AuthenticityError: it does not hold.
        """
        name = sha256(bundle)
        found = self._by_bytes.get(name)
        if found is None:
            parts = Collateral.from_json(bundle)
            found = Documents(holding.hold(parts, self._anchors), _hashes(parts))
            with self._lock:
                if len(self._by_bytes) >= MOST_HELD:
                    self._by_bytes.pop(next(iter(self._by_bytes)))
                self._by_bytes[name] = found
        return found

    def _chosen(self, tee: str, quote: dcap_quote.Quote, bundle: bytes | None, why: str) -> Documents:
        """What was asked for; or what was configured, where that alone is of the quote's authority."""
        fmspc, authority = _platform_in(quote)
        configured = self._given.get((tee, fmspc, authority))
        if bundle is None:
            if configured is None:
                raise UnavailableError(
                    f"collateral: want Intel's documents for {tee.upper()} platform {fmspc}, got none: {why}",
                    hint="kluis collateral fetch QUOTE makes a bundle for the request or the settings",
                    code="collateral_missing",
                )
            return configured
        try:
            asked = self.hold(bundle)
        except AuthenticityError:
            if configured is None:
                raise
            return configured
        return asked if configured is None or _platform_of(asked.held)[2] == authority else configured


def _platform_of(held: HeldCollateral) -> tuple[str, str, bytes]:
    """TEE, FMSPC and key of the authority: emulated platforms of all machines have one FMSPC."""
    return held.tcb_info.tee.lower(), held.tcb_info.fmspc.hex(), held.pck_ca.spki


def _platform_in(quote: dcap_quote.Quote) -> tuple[str, bytes]:
    """FMSPC of the PCK certificate that the quote carries, and the key of its issuer; empty for none."""
    try:
        found = x509.parse_pem(quote.certification_data, "PCK chain")
        if len(found) > 1 and extension.OID in found[0].extensions:
            return extension.parse(found[0].extensions[extension.OID]).fmspc.hex(), found[1].spki
    except FormatError:
        return "", b""
    return "", b""


def _hashes(parts: Collateral) -> dict[str, str]:
    # Azure names seven hashes, and not what each is over: both lists of revoked certificates are told.
    return {
        name: sha256(data).hex()
        for name, data in (
            ("qeidcertshash", parts.qe_identity_issuer_chain),
            ("qeidcrlhash", parts.root_ca_crl),
            ("qeidhash", parts.qe_identity),
            ("tcbinfocertshash", parts.tcb_info_issuer_chain),
            ("tcbinfocrlhash", parts.pck_crl),
            ("tcbinfohash", parts.tcb_info),
        )
    }
