"""From evidence to its endorsements: complete, verified, cached, and fetched again if the cache is wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from kluis.collateral import Cache, Cached, Document, Kind, fetch_for, release
from kluis.collateral.intel import Pcs
from kluis.errors import (
    AuthenticityError,
    FormatError,
    FreshnessError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)
from kluis.evidence import Collateral, TrustAnchors
from kluis.formats.wrappers import oe
from tests.collateral.service import Reply, Service, signed
from tests.evidence.forge import IMAGE, NOW, Forge
from tests.evidence.samples import sample

PATH = "/sgx/certification/v4/tcb"


@pytest.fixture
def pcs(service: Service, forge: Forge) -> Iterator[Pcs]:
    service.serve_intel(forge.collateral())
    with Pcs(service.url, roots=service.url, trust=service.trust) as made:
        yield made


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "kept")


def fetch(forge: Forge, provider: Pcs | Cached, update: str = "early") -> Collateral:
    found = fetch_for(forge.quote(), provider, release=release(update, None), anchors=forge.anchors, now=NOW)
    assert isinstance(found, Collateral)
    return found


def test_what_is_fetched_verifies_the_quote(service: Service, forge: Forge, pcs: Pcs) -> None:
    """A quote's own FMSPC and CA are requested, and its verifier accepts the answer."""
    found = fetch(forge, pcs)
    assert forge.verify(forge.quote(), collateral=found).tcb.status == "UpToDate"
    assert sorted(path.partition("?")[0] for path in service.asked) == [
        "/IntelSGXRootCA.der",
        "/sgx/certification/v4/pckcrl",
        "/sgx/certification/v4/qe/identity",
        PATH,
    ]


@pytest.mark.parametrize(
    ("update", "number", "said"),
    [("early", None, "update=early"), ("standard", None, "update=standard"), (None, 1, "Number=1")],
)
def test_the_release_is_the_one_that_was_named(
    service: Service, forge: Forge, pcs: Pcs, update: str | None, number: int | None, said: str
) -> None:
    """The caller's choice (early, standard or a number) is requested for both documents."""
    which = release(update, number)
    fetch_for(forge.quote(), pcs, release=which, anchors=forge.anchors, now=NOW)
    assert len([path for path in service.asked if said in path]) == 2


@pytest.mark.parametrize(("update", "number"), [(None, None), ("early", 17), ("late", None), (None, 0)])
def test_the_release_is_said_once(update: str | None, number: int | None) -> None:
    """Neither, both, or another word is refused: a release is never a default."""
    with pytest.raises(UsageError):
        release(update, number)


def test_the_second_time_nobody_is_asked(service: Service, forge: Forge, pcs: Pcs, cache: Cache) -> None:
    """Within the day the cache answers, with no service at all; the next day it does not."""
    first = fetch(forge, Cached(cache, pcs))
    asked = len(service.asked)
    assert fetch(forge, Cached(cache, pcs)) == fetch(forge, Cached(cache, None)) == first
    assert len(service.asked) == asked


def test_releases_are_kept_apart(service: Service, forge: Forge, pcs: Pcs, cache: Cache) -> None:
    """What was fetched as standard is not given as early."""
    fetch(forge, Cached(cache, pcs), "standard")
    with pytest.raises(UnavailableError) as caught:
        fetch(forge, Cached(cache, None), "early")
    assert caught.value.code == "collateral_missing"


def test_a_poisoned_entry_is_fetched_anew(service: Service, forge: Forge, pcs: Pcs, cache: Cache) -> None:
    """A cached document that its vendor did not sign, though complete, is dropped, and fetched again."""
    good = fetch(forge, Cached(cache, pcs))
    poisoned = forge.with_tcb_info(lambda info: info.update(tcbEvaluationDataNumber=99))
    key = ("sgx", "e0e0e0000000", "early")
    kept = cache.read(Kind.TCB_INFO, key)
    assert kept is not None
    body = signed("tcbInfo", dataclasses.replace(poisoned, tcb_info_signature=bytes(64)), "x").body
    cache.write(Kind.TCB_INFO, key, Document(body=body, chain=kept.document.chain), NOW)
    with pytest.raises(AuthenticityError):
        fetch(forge, Cached(cache, None))
    assert fetch(forge, Cached(cache, pcs)) == good
    assert fetch(forge, Cached(cache, None)) == good


def test_what_nobody_signed_is_not_kept(service: Service, forge: Forge, pcs: Pcs, cache: Cache) -> None:
    """A service whose document is not signed under the anchors fails, once, and leaves nothing behind."""
    service.put(PATH, signed("tcbInfo", Forge().collateral(), "TCB-Info-Issuer-Chain"))
    with pytest.raises(AuthenticityError):
        fetch(forge, Cached(cache, pcs))
    assert cache.read(Kind.TCB_INFO, ("sgx", "e0e0e0000000", "early")) is None
    assert len([path for path in service.asked if path.startswith(PATH)]) == 1


@pytest.mark.parametrize(
    ("path", "lie"),
    [
        (PATH, lambda forge: forge.with_tcb_info(lambda info: info.update(fmspc="A0A0A0000000"))),
        (
            "/sgx/certification/v4/qe/identity",
            lambda forge: forge.with_identity(lambda identity: identity.update(id="QVE")),
        ),
    ],
)
def test_a_genuine_document_of_another_platform(
    service: Service,
    forge: Forge,
    pcs: Pcs,
    cache: Cache,
    path: str,
    lie: Callable[[Forge], Collateral],
) -> None:
    """A service that gives another's document is refused, and leaves nothing that outlasts its lie."""
    member, header = ("tcbInfo", "TCB-Info") if path == PATH else ("enclaveIdentity", "SGX-Enclave-Identity")
    service.put(path, signed(member, lie(forge), f"{header}-Issuer-Chain"))
    with pytest.raises(AuthenticityError) as caught:
        fetch(forge, Cached(cache, pcs))
    assert caught.value.code == "collateral_mismatch"
    service.serve_intel(forge.collateral())
    found = fetch(forge, Cached(cache, pcs))
    assert forge.verify(forge.quote(), collateral=found).tcb.status == "UpToDate"


def test_the_makers_roots_do_not_vouch_for_it(forge: Forge, pcs: Pcs) -> None:
    """Collateral of another root than the ones believed is refused before the evidence is."""
    with pytest.raises(AuthenticityError) as caught:
        fetch_for(forge.quote(), pcs, release="early", anchors=TrustAnchors.shipped(), now=NOW)
    assert caught.value.code == "root_untrusted"


@pytest.mark.parametrize("path", [PATH, "/sgx/certification/v4/pckcrl", "/IntelSGXRootCA.der"])
def test_a_missing_part_is_never_left_out(service: Service, forge: Forge, pcs: Pcs, path: str) -> None:
    """If any document cannot be had, there is no collateral: not a CRL fewer."""
    service.put(path, Reply(404))
    with pytest.raises(UnavailableError) as caught:
        fetch(forge, pcs)
    assert caught.value.code == "collateral_missing"


def test_no_address_comes_from_evidence(service: Service, forge: Forge, pcs: Pcs) -> None:
    """A certificate's own URLs (CRL distribution points and the like) are never used."""
    fetch(forge, pcs)
    assert all(path.startswith(("/sgx/certification/v4/", "/IntelSGXRootCA")) for path in service.asked)


def test_a_quote_without_its_chain(forge: Forge, pcs: Pcs) -> None:
    """A quote that does not carry its certificates names no platform."""
    with pytest.raises(UnavailableError) as caught:
        fetch_for(forge.requote(certification_type=3), pcs, release="early", anchors=forge.anchors, now=NOW)
    assert caught.value.code == "chain_missing"


def test_a_quote_in_a_wrapper(forge: Forge, pcs: Pcs) -> None:
    """What wraps a quote does not hide which platform it is of."""
    wrapped = oe.encode_report(forge.quote())
    found = fetch_for(wrapped, pcs, release="early", anchors=forge.anchors, now=NOW)
    assert isinstance(found, Collateral)
    assert forge.verify(wrapped, collateral=found).measurement.value == IMAGE


def test_no_evidence(forge: Forge, pcs: Pcs) -> None:
    """Bytes that are not evidence are refused before any request."""
    for data in (b"", bytes(100), forge.quote()[:1000]):
        with pytest.raises((FormatError, UnsupportedError)):
            fetch_for(data, pcs, release="early", anchors=forge.anchors, now=NOW)


def test_evidence_that_needs_nothing(pcs: Pcs) -> None:
    """A document that carries its whole chain needs no request."""
    good = sample("nitro.document")
    with pytest.raises(UnsupportedError) as caught:
        fetch_for(good.data, pcs, release="early", anchors=good.anchors, now=NOW)
    assert caught.value.message == "Nitro document: carries all that endorses it"


def test_a_day_later_a_replay_is_told(service: Service, forge: Forge, pcs: Pcs, cache: Cache) -> None:
    """A service that goes back to yesterday's documents is reported, and none of them is kept."""
    new = forge.authority.collateral(NOW)
    service.serve_intel(forge.collateral())
    fetch(forge, Cached(cache, pcs))
    old = {**new, **forge.authority.collateral(NOW - timedelta(days=2))}
    service.serve_intel(Collateral.from_json(json.dumps(old).encode()))
    later = NOW + timedelta(days=2)
    with pytest.raises(FreshnessError, match="or later, as was seen before") as caught:
        fetch_for(forge.quote(), Cached(cache, pcs), release="early", anchors=forge.anchors, now=later)
    assert caught.value.code == "collateral_replayed"
