"""Fetch the endorsements of a piece of evidence from a provider and combine them for the verifier."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeAlias

from kluis.collateral import documents, subject
from kluis.collateral.cache import Cached
from kluis.collateral.checks import check_is
from kluis.collateral.documents import Document, Key, Kind
from kluis.collateral.provider import Provider
from kluis.errors import AuthenticityError, FormatError, UnavailableError
from kluis.evidence import TrustAnchors, chain
from kluis.evidence.context import Context
from kluis.evidence.intel import collateral as intel
from kluis.formats import x509
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp.endorsements import Endorsements
from kluis.formats.snp.tcb import Product
from kluis.formats.x509 import Scheme

Fetched: TypeAlias = Collateral | Endorsements


def fetch_for(
    data: bytes, provider: Provider, *, release: str, anchors: TrustAnchors, now: datetime
) -> Fetched:
    """Fetch the endorsements of ``data``, check the vendors' signatures, and store them if there is a cache.

    The evidence itself is not verified: :func:`kluis.evidence.verify` does that, and checks all of this
    again. A cached document that turns out to be wrong is dropped and fetched once more.

    Args:
        data: the evidence.
        provider: of the documents.
        release: of Intel's documents: :func:`kluis.collateral.release`.
        anchors: the trusted roots.
        now: aware.

    Raises:
        FormatError: the evidence, or a document, is malformed.
        UnsupportedError: evidence of a kind that no service endorses.
        AuthenticityError: a document is not signed under ``anchors``, or is not the requested one.
        FreshnessError: a service replays an older document than the cached one.
        UnavailableError: a document is unavailable.
    """
    whose, context = subject.of(data), Context(anchors)
    asking = _Asking(provider, now)
    try:
        fetched = _gather(whose, asking, release, context)
    except (AuthenticityError, FormatError):
        if not isinstance(provider, Cached) or not provider.forget(asking.wanted):
            raise
        fetched = _gather(whose, asking, release, context)
    if isinstance(provider, Cached):
        provider.keep(now)
    return fetched


class _Asking:
    """Queries a provider, and records the requests."""

    def __init__(self, provider: Provider, now: datetime) -> None:
        self._provider, self._now = provider, now
        self.wanted: list[tuple[Kind, Key]] = []
        self.given: dict[tuple[Kind, Key], Document] = {}

    def __call__(self, kind: Kind, *key: str) -> Document:
        self.wanted.append((kind, key))
        document = self.given[kind, key] = self._provider.get(kind, key, self._now)
        return document


def _gather(whose: subject.Subject, ask: _Asking, release: str, context: Context) -> Fetched:
    parts = (
        _amd(whose, ask, context) if isinstance(whose, subject.Amd) else _intel(whose, ask, release, context)
    )
    for (kind, key), document in ask.given.items():
        # A genuine document of another platform would stay in the cache, and no evidence would verify with
        # it.
        check_is(kind, key, document, context)
    return parts


def _intel(whose: subject.Intel, ask: _Asking, release: str, context: Context) -> Collateral:
    collateral = intel_collateral(
        {
            Kind.TCB_INFO: ask(Kind.TCB_INFO, whose.tee, whose.fmspc, release),
            Kind.QE_IDENTITY: ask(Kind.QE_IDENTITY, whose.tee, release),
            Kind.PCK_CRL: ask(Kind.PCK_CRL, whose.ca),
            Kind.ROOT_CA_CRL: ask(Kind.ROOT_CA_CRL),
        }
    )
    intel.verify(collateral, context)
    return collateral


def intel_collateral(by_kind: Mapping[Kind, Document]) -> Collateral:
    """Combine Intel's four documents.

    Raises:
        FormatError: TCB info or QE identity is not a signed document.
    """
    info, info_signature = documents.signed_parts(Kind.TCB_INFO, by_kind[Kind.TCB_INFO])
    identity, identity_signature = documents.signed_parts(Kind.QE_IDENTITY, by_kind[Kind.QE_IDENTITY])
    return Collateral(
        pck_crl_issuer_chain=by_kind[Kind.PCK_CRL].chain,
        root_ca_crl=by_kind[Kind.ROOT_CA_CRL].body,
        pck_crl=by_kind[Kind.PCK_CRL].body,
        tcb_info_issuer_chain=by_kind[Kind.TCB_INFO].chain,
        tcb_info=info,
        tcb_info_signature=info_signature,
        qe_identity_issuer_chain=by_kind[Kind.QE_IDENTITY].chain,
        qe_identity=identity,
        qe_identity_signature=identity_signature,
    )


def _amd(whose: subject.Amd, ask: _Asking, context: Context) -> Endorsements:
    product, vek = _vek(whose, ask)
    endorsements = Endorsements.from_chain(
        vek,
        ask(Kind.AMD_CHAIN, product.value, whose.signer).body,
        ask(Kind.AMD_CRL, product.value, whose.signer).body,
    )
    _prove(endorsements, context)
    return endorsements


def _vek(whose: subject.Amd, ask: _Asking) -> tuple[Product, bytes]:
    """The certificate of the signing key, and the product that has it."""
    if whose.carried.vek is not None:
        issuer = _certificate(whose.carried.vek, "VEK certificate").issuer
        named = [product for product in Product if product.value.encode() in issuer]
        if len(named) != 1:
            raise FormatError("VEK certificate: its issuer names no product of AMD", code="product_mismatch")
        return named[0], whose.carried.vek
    missing: UnavailableError | None = None
    for product in whose.products:
        try:
            return product, ask(Kind.VCEK, *whose.vcek_key(product)).body
        except UnavailableError as error:
            if error.code != "collateral_missing":
                raise
            missing = missing or error
    raise missing or UnavailableError("SNP report: of no product that we know", code="collateral_missing")


def _prove(endorsements: Endorsements, context: Context) -> None:
    """Check that AMD signed the documents, whatever the report contains."""
    ark, ask, vek = (
        _certificate(data or b"", what)
        for data, what in (
            (endorsements.ark, "ARK"),
            (endorsements.ask, "ASK"),
            (endorsements.vek, "VEK certificate"),
        )
    )
    chain.match_root(ark, context, "AMD chain")
    for document, issuer, what in (
        (ask, ark, "ASK"),
        (x509.parse_crl(endorsements.crl or b"", "AMD CRL"), ark, "AMD CRL"),
        (vek, ask, "VEK certificate"),
    ):
        chain.check_issued(
            document, issuer, what, schemes=(Scheme.PS384,), context=context, code="cert_chain"
        )


def _certificate(data: bytes, what: str) -> x509.Certificate:
    if data.startswith(b"-----BEGIN "):
        (only,) = x509.parse_pem(data, what, most=1)
        return only
    return x509.parse(data, what)
