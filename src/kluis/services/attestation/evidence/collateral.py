"""Intel's documents for incoming quotes: fetched from outside, verified inside, and cached.

Their source is not trusted: each bundle is verified under the service's roots, and its validity is checked at
every use. The platform in the quote's certificates selects the bundle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias, TypeVar

from kluis.errors import AuthenticityError, FormatError, KluisError, UnavailableError
from kluis.evidence import Collateral, HeldCollateral, TrustAnchors
from kluis.evidence.context import Context
from kluis.evidence.intel import collateral as holding
from kluis.evidence.intel import dcap, pck
from kluis.formats import x509
from kluis.formats.sgx import extension
from kluis.formats.sgx import quote as dcap_quote
from kluis.formats.sgx.certification import CertificationType
from kluis.formats.sgx.quote import TEE_TDX
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.services.backoff import Backoff

MOST_HELD: Final = 256
_CHAIN: Final = "PCK chain"
_PEM: Final = b"-----BEGIN CERTIFICATE-----"
K = TypeVar("K")
V = TypeVar("V")

Endorsements: TypeAlias = Callable[[str, bytes], bytes]
"""Fetches the endorsements of evidence from outside.

Args: its kind, ``sgx``, ``tdx`` or ``snp``; the evidence. Returns: Intel's documents, or AMD's, as the JSON
of ``Collateral`` and ``SnpEndorsements``. Raises UnavailableError: there are none; its text gives the reason.
"""


@frozen
class Documents:
    """A verified bundle, and its hashes for tokens.

    Attributes:
        collateral: to verify quotes with.
        hashes: SHA-256, hex, by the names in ``x-ms-sgx-collateral``, without the quote's.
    """

    collateral: HeldCollateral
    hashes: Mapping[str, str]


@frozen
class _Fetched:
    documents: Documents
    at: datetime


class _Wanted(NamedTuple):
    """A selection of Intel's documents; of all quotes with the same selection, one fetches them.

    Attributes:
        tee: ``sgx`` or ``tdx``.
        fmspc: hex; empty if the quote has no certificates of its platform.
        authority: the key of the issuer of the platform's certificate; empty without one.
        emulated: whether the quote states that no hardware made it.
    """

    tee: str
    fmspc: str
    authority: bytes
    emulated: bool


class Endorsing:
    """Finds the documents for a quote.

    Args:
        anchors: the roots that the service trusts.
        bundles: from the settings, JSON.
        ask: fetches from outside; None: only ``bundles`` are used.
        seconds: how long fetched documents are used before they are fetched again.

    Raises:
        KluisError: a configured bundle fails verification.
    """

    def __init__(
        self, anchors: TrustAnchors, bundles: tuple[bytes, ...], ask: Endorsements | None, seconds: int
    ) -> None:
        self._anchors = anchors
        self._ask = ask
        self._seconds = seconds
        self._backoff = Backoff()
        self._lock = threading.Lock()
        self._platforms: dict[bytes, _Wanted] = {}
        self._fetched: dict[_Wanted, _Fetched] = {}
        self._by_bytes: dict[bytes, Documents] = {}
        documents = [self.hold(bundle) for bundle in bundles]
        self._given = {_platform_of(each.collateral): each for each in documents}

    def find(self, quote: bytes, bundle: bytes | None, now: datetime) -> Documents:
        """Find the documents for one quote.

        A bundle sent with the quote is used only if the service has none, or none that is newer in any part.
        So a client cannot choose old documents, such as those from before its platform was revoked.

        Args:
            quote: DCAP, not yet verified: it only selects documents.
            bundle: sent with the quote, JSON.
            now: aware.

        Raises:
            FormatError: not a quote, or the bundle is malformed.
            AuthenticityError: no trusted authority certifies the bundle or the platform.
            UnavailableError: there are no documents.
        """
        if bundle is None:
            return self._find_own(quote, now)
        brought = self.hold(bundle)
        for own in self._others(quote, brought.collateral, now):
            if _is_behind(brought.collateral, own.collateral):
                # A chain names its platform, and is verified with the quote.
                chain = brought.collateral.pck_certificate_chain
                return Documents(dataclasses.replace(own.collateral, pck_certificate_chain=chain), own.hashes)
        return brought

    def _others(self, quote: bytes, brought: HeldCollateral, now: datetime) -> Iterator[Documents]:
        """The service's own or fetched documents for the platform of a bundle."""
        with contextlib.suppress(KluisError):
            yield self._find_own(self._as_is(quote, brought), now)
        platform = _platform_of(brought)
        candidates = (*self._given.values(), *(each.documents for each in tuple(self._fetched.values())))
        yield from (each for each in candidates if _platform_of(each.collateral) == platform)

    def _as_is(self, quote: bytes, brought: HeldCollateral) -> bytes:
        """Rebuild a quote so that it only identifies its own platform, whatever else its sender wrote into
        it.

        Raises:
            KluisError: not a quote, or no platform.
        """
        parsed = dcap_quote.parse(quote)
        context = Context(self._anchors)
        certificates = pck.parse(dcap.chain_of(parsed, brought), _CHAIN, context)
        named = pck.by_role(certificates, pck.LEAF, pck.CA, pck.ROOT, what=_CHAIN)
        signed, emulated = bytearray(parsed.signed), brought.anchor.emulated
        if parsed.header.user_data.startswith(dcap_quote.NO_HARDWARE) is not emulated:
            mark = dcap_quote.NO_HARDWARE if emulated else b""
            signed[dcap_quote.USER_DATA] = mark.ljust(len(parsed.header.user_data), b"\0")
        return dataclasses.replace(
            parsed,
            signed=bytes(signed),
            certification_type=CertificationType.PCK_CHAIN,
            certification_data=b"".join(x509.write_pem(each.der) for each in named),
            padding=0,
        ).encode()

    def _find_own(self, quote: bytes, now: datetime) -> Documents:
        """The service's own documents for a quote; raises the errors of :meth:`find`."""
        fetched = self._of_late(self._documents_wanted(quote), now)
        if fetched is not None:
            return fetched.documents
        # The host fails for bytes that only end like a platform's quotes: this must not count against the
        # platform.
        wanted = self._read(quote)
        if (fetched := self._of_late(wanted, now)) is not None:
            return fetched.documents
        fetched = self._fetched.get(wanted)
        configured = self._given.get((wanted.tee, wanted.fmspc, wanted.authority))
        try:
            fetched_documents = self._backoff.attempt(wanted, lambda: self._request(wanted.tee, quote))
        except UnavailableError as error:
            # Old documents state their own end of validity.
            older = fetched.documents if fetched is not None else configured
            if older is not None:
                return older
            raise _missing(wanted, error.message) from None
        except AuthenticityError:
            if configured is None:
                raise
            return configured
        # Configured documents are used if those that were fetched are another platform's.
        foreign = _platform_of(fetched_documents.collateral) != (wanted.tee, wanted.fmspc, wanted.authority)
        documents = configured if configured is not None and foreign else fetched_documents
        self._remember(self._fetched, wanted, _Fetched(documents, now))
        return documents

    def _documents_wanted(self, quote: bytes) -> _Wanted:
        """Determine the documents that a quote needs.

        Raises:
            FormatError: not a quote.
            AuthenticityError: no trusted authority certifies its platform.
        """
        # A quote ends with the platform's certificates, so all quotes of a platform have the same end.
        key = quote[4:8] + quote[28:45] + quote[max(quote.find(_PEM), 0) :]
        wanted = self._platforms.get(key)
        if wanted is None:
            wanted = self._read(quote)
            if wanted.fmspc:  # its certificates were checked; another kind of end can be written by anybody
                self._remember(self._platforms, key, wanted)
        return wanted

    def _read(self, quote: bytes) -> _Wanted:
        """Like :meth:`_documents_wanted`, but parses the whole quote."""
        parsed = dcap_quote.parse(quote)
        # A client that made up a platform must not cause documents to be fetched for it.
        self._check_platform(parsed)
        tee = "tdx" if parsed.header.tee_type == TEE_TDX else "sgx"
        # If no hardware made a quote, the host looks elsewhere; anyone can write this into a quote.
        emulated = parsed.header.user_data.startswith(dcap_quote.NO_HARDWARE)
        return _Wanted(tee, *_platform_in(parsed), emulated)

    def _of_late(self, wanted: _Wanted, now: datetime) -> _Fetched | None:
        """Recently fetched documents."""
        fetched = self._fetched.get(wanted)
        if fetched is None or abs((now - fetched.at).total_seconds()) >= self._seconds:
            return None
        return fetched

    def _remember(self, cache: dict[K, V], key: K, value: V) -> None:
        with self._lock:
            if len(cache) >= MOST_HELD:
                cache.pop(next(iter(cache)))
            cache[key] = value

    def _check_platform(self, quote: dcap_quote.Quote) -> None:
        """Refuse a platform whose certificates no trusted authority issued."""
        if quote.certification_type == CertificationType.PCK_CHAIN:
            context = Context(self._anchors)
            certificates = pck.parse(quote.certification_data, _CHAIN, context)
            leaf, ca, root = pck.by_role(certificates, pck.LEAF, pck.CA, pck.ROOT, what=_CHAIN)
            anchor = pck.match_root(root, context, _CHAIN)
            pck.check_ca(ca, root, anchor, "PCK CA certificate", context)
            pck.check_leaf(leaf, ca, anchor, "PCK certificate", context)

    def hold(self, bundle: bytes) -> Documents:
        """Verify a bundle, or return the cached result for the same bytes.

        Raises:
            FormatError, AuthenticityError: it fails verification.
        """
        name = sha256(bundle)
        documents = self._by_bytes.get(name)
        if documents is None:
            parts = Collateral.from_json(bundle)
            documents = Documents(holding.hold(parts, self._anchors), _hashes(parts))
            self._remember(self._by_bytes, name, documents)
        return documents

    def _request(self, tee: str, quote: bytes) -> Documents:
        """Fetch the host's documents for a quote, and verify them.

        Raises:
            UnavailableError: there are none; with the reason.
            FormatError, AuthenticityError: they fail verification.
        """
        if self._ask is None:
            raise UnavailableError("no connection is allowed")
        return self.hold(self._ask(tee, quote))


def _missing(wanted: _Wanted, why: str) -> UnavailableError:
    return UnavailableError(
        f"collateral: want Intel's documents for {wanted.tee.upper()} platform {wanted.fmspc}, got none: "
        f"{why}",
        hint="kluis collateral fetch QUOTE makes a bundle: x-kluis-collateral of the request, base64url, or "
        "kluis serve --collateral FILE",
        code="collateral_missing",
    )


def _is_behind(brought: HeldCollateral, own: HeldCollateral) -> bool:
    """Whether a bundle is older than another in any of its parts; parts of the same second must revoke the
    same.
    """
    info, identity = own.tcb_info, own.identity
    signed = ((brought.tcb_info, info), (brought.identity, identity))
    if any(one.issued < other.issued or one.evaluation < other.evaluation for one, other in signed):
        return True
    lists = ((brought.pck_crl, own.pck_crl), (brought.root_crl, own.root_crl))
    return any(
        one.this_update < other.this_update
        or (one.this_update == other.this_update and one.entries != other.entries)
        for one, other in lists
    )


def _platform_of(collateral: HeldCollateral) -> tuple[str, str, bytes]:
    """TEE, FMSPC and key of the authority: emulated platforms of all machines share one FMSPC."""
    return collateral.tcb_info.tee.lower(), collateral.tcb_info.fmspc.hex(), collateral.pck_ca.spki


def _platform_in(quote: dcap_quote.Quote) -> tuple[str, bytes]:
    """FMSPC of the PCK certificate in the quote, and the key of its issuer; empty if there is none."""
    if quote.certification_type != CertificationType.PCK_CHAIN:
        return "", b""  # whatever is written there was not checked
    try:
        certificates = x509.parse_pem(quote.certification_data, "PCK chain")
        if len(certificates) > 1 and extension.OID in certificates[0].extensions:
            return extension.parse(certificates[0].extensions[extension.OID]).fmspc.hex(), certificates[
                1
            ].spki
    except FormatError:
        return "", b""
    return "", b""


def _hashes(parts: Collateral) -> dict[str, str]:
    # Azure names seven hashes, but not what each covers; so the hashes of both CRLs are included.
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
