"""What endorses a piece of evidence, got from a provider and put together for the verifier."""

from __future__ import annotations

from datetime import datetime

from kluis.collateral import documents, subject
from kluis.collateral.cache import Cached
from kluis.collateral.documents import Document, Key, Kind
from kluis.collateral.provider import Provider
from kluis.errors import AuthenticityError, FormatError
from kluis.evidence import TrustAnchors
from kluis.evidence.intel import collateral as intel
from kluis.formats.sgx.collateral import Collateral


def fetch_for(
    data: bytes, provider: Provider, *, release: str, anchors: TrustAnchors, now: datetime
) -> Collateral:
    """Fetch what endorses ``data``, check that its makers signed it, and keep it where there is a cache.

    The evidence itself is not verified: :func:`kluis.evidence.verify` does that, and checks all of
    this again. A kept document that turns out wrong is dropped and asked for once more.

    Args:
        data: the evidence.
        provider: who is asked.
        release: of Intel's documents: :func:`kluis.collateral.release`.
        anchors: the roots that the relying party believes.
        now: aware.

    Raises:
        FormatError: the evidence, or a document, is malformed.
        UnsupportedError: evidence of a kind that no service endorses.
        AuthenticityError: a document is not signed under ``anchors``.
        FreshnessError: a service replays an older document than the kept one.
        UnavailableError: a document cannot be had.
    """
    wanted = _wanted(subject.of(data), release)
    try:
        found = _gather(wanted, provider, anchors, now)
    except (AuthenticityError, FormatError):
        if not isinstance(provider, Cached) or not provider.forget(wanted):
            raise
        found = _gather(wanted, provider, anchors, now)
    if isinstance(provider, Cached):
        provider.keep(now)
    return found


def _wanted(whose: subject.Intel, release: str) -> tuple[tuple[Kind, Key], ...]:
    return (
        (Kind.TCB_INFO, (whose.tee, whose.fmspc, release)),
        (Kind.QE_IDENTITY, (whose.tee, release)),
        (Kind.PCK_CRL, (whose.ca,)),
        (Kind.ROOT_CA_CRL, ()),
    )


def _gather(
    wanted: tuple[tuple[Kind, Key], ...], provider: Provider, anchors: TrustAnchors, now: datetime
) -> Collateral:
    found = {kind: provider.get(kind, key, now) for kind, key in wanted}
    collateral = intel_collateral(found)
    intel.verify(collateral, anchors)
    return collateral


def intel_collateral(found: dict[Kind, Document]) -> Collateral:
    """Put Intel's four documents together.

    Raises:
        FormatError: TCB info or QE identity is not a signed document.
    """
    info, info_signature = documents.signed(Kind.TCB_INFO, found[Kind.TCB_INFO])
    identity, identity_signature = documents.signed(Kind.QE_IDENTITY, found[Kind.QE_IDENTITY])
    return Collateral(
        pck_crl_issuer_chain=found[Kind.PCK_CRL].chain,
        root_ca_crl=found[Kind.ROOT_CA_CRL].body,
        pck_crl=found[Kind.PCK_CRL].body,
        tcb_info_issuer_chain=found[Kind.TCB_INFO].chain,
        tcb_info=info,
        tcb_info_signature=info_signature,
        qe_identity_issuer_chain=found[Kind.QE_IDENTITY].chain,
        qe_identity=identity,
        qe_identity_signature=identity_signature,
    )
