"""What was seen once cannot be gone back behind, whatever became of the document since."""

from __future__ import annotations

import functools
import json
import shlex
import stat
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from kluis.collateral import Cache, Cached, Document, Key, Kind
from kluis.collateral.marks import authority
from kluis.collateral.paths import vendor
from kluis.errors import FormatError, FreshnessError, UnavailableError, UsageError
from kluis.formats import x509
from kluis.hashes import sha256
from tests.collateral.test_cache import ROOT, Counting, crl
from tests.evidence.forge import NOW, Forge

TCB: tuple[Kind, Key] = (Kind.TCB_INFO, ("sgx", "e0e0e0000000", "early"))
LATER = NOW + timedelta(hours=25)


@functools.cache
def tcb_info(forge: Forge, number: int, *, chain: bytes | None = None) -> Document:
    """Forged TCB info of an evaluation number, as Intel's service gives it."""
    one = forge.with_tcb_info(lambda info: info.update(tcbEvaluationDataNumber=number))
    body = b'{"tcbInfo":%s,"signature":"%s"}' % (one.tcb_info, one.tcb_info_signature.hex().encode())
    return Document(body=body, chain=chain or one.tcb_info_issuer_chain)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "kept")


def seen(cache: Cache, name: tuple[Kind, Key], document: Document) -> Path:
    """Fetch and keep a document, then lose it; gives its mark's file."""
    provider = Cached(cache, Counting(document))
    provider.get(*name, NOW)
    provider.keep(NOW)
    assert cache.forget(*name)
    return cache.marks.path(*name, document)


def refused(cache: Cache, name: tuple[Kind, Key], document: Document) -> FreshnessError:
    with pytest.raises(FreshnessError) as caught:
        Cached(cache, Counting(document), fresh=timedelta(0)).get(*name, LATER)
    assert caught.value.code == "collateral_replayed"
    return caught.value


def test_a_mark_outlives_the_document(cache: Cache, forge: Forge) -> None:
    """A kept document that is dropped, as a wrong one is, leaves behind what may not be gone back behind."""
    path = seen(cache, TCB, tcb_info(forge, 21))
    error = refused(cache, TCB, tcb_info(forge, 20))
    assert error.message == (
        "tcb-info sgx e0e0e0000000 early: want one issued 2026-06-01T11:55:00Z with evaluation number 21 or "
        "later, as was seen before, got one issued 2026-06-01T11:55:00Z with evaluation number 20"
    )
    assert error.hint == (
        f"ask another service, this one gives an old document; to take it all the same: rm {path}"
    )
    assert Cached(cache, Counting(tcb_info(forge, 22))).get(*TCB, LATER) == tcb_info(forge, 22)


def test_what_the_hint_says_mends_it(cache: Cache, forge: Forge) -> None:
    """The command names every file that remembers: without them the older one is the first."""
    for document in (tcb_info(forge, 20), tcb_info(forge, 21)):
        provider = Cached(cache, Counting(document))
        provider.get(*TCB, LATER)
        provider.keep(NOW)
        provider.forget([TCB]) if document == tcb_info(forge, 20) else None
    hint = refused(cache, TCB, tcb_info(forge, 20)).hint or ""
    files = [Path(word) for word in shlex.split(hint.partition(": rm ")[2])]
    assert sorted(files) == sorted(cache.path(*TCB).parent.glob("*.json"))
    for file in files:
        file.unlink()
    assert Cached(cache, Counting(tcb_info(forge, 20))).get(*TCB, LATER) == tcb_info(forge, 20)


def test_crls_by_their_issuer(cache: Cache, forge: Forge) -> None:
    """A CRL is compared with those of its issuer: that of another authority is not its replay."""
    seen(cache, ROOT, crl(forge))
    assert "2026-06-01T11:55:00Z or later" in refused(cache, ROOT, crl(forge, days_ago=3)).message
    other = crl(Forge(), days_ago=3)
    assert Cached(cache, Counting(other)).get(*ROOT, LATER) == other


def test_of_another_authority_than_what_is_kept(cache: Cache, forge: Forge) -> None:
    """Where a document of one authority is kept, an older one of another replays nothing."""
    provider = Cached(cache, Counting(tcb_info(forge, 21)))
    provider.get(*TCB, NOW)
    provider.keep(NOW)
    other = Forge()
    second = Cached(cache, Counting(tcb_info(other, 3)))
    assert second.get(*TCB, LATER) == tcb_info(other, 3)
    second.keep(LATER)
    refused(cache, TCB, tcb_info(forge, 20))
    refused(cache, TCB, tcb_info(other, 2))


def test_releases_have_marks_of_their_own(cache: Cache, forge: Forge) -> None:
    """``standard`` lags behind ``early`` by design, and replays nothing."""
    seen(cache, TCB, tcb_info(forge, 21))
    standard: tuple[Kind, Key] = (Kind.TCB_INFO, ("sgx", "e0e0e0000000", "standard"))
    assert Cached(cache, Counting(tcb_info(forge, 20))).get(*standard, LATER) == tcb_info(forge, 20)


def test_the_order_of_a_chain_changes_no_authority(forge: Forge) -> None:
    """Who replays a document cannot bring it under another mark by turning its signer's chain around."""
    document = tcb_info(forge, 21)
    pem = document.chain
    cut = pem.index(b"-----BEGIN", 1)
    turned = tcb_info(forge, 21, chain=pem[cut:] + pem[:cut])
    assert len(x509.parse_pem(turned.chain, "chain")) == 2
    assert authority(Kind.TCB_INFO, document) == authority(Kind.TCB_INFO, turned)
    assert authority(Kind.TCB_INFO, document) != authority(Kind.TCB_INFO, tcb_info(Forge(), 21))
    with pytest.raises(FormatError):
        authority(Kind.TCB_INFO, Document(body=document.body))


def test_of_two_runs_at_once_the_newer_stays(cache: Cache, forge: Forge) -> None:
    """Who ends last with an older document is refused: neither the mark nor what is kept goes back."""
    old, new = Cached(cache, Counting(tcb_info(forge, 20))), Cached(cache, Counting(tcb_info(forge, 21)))
    old.get(*TCB, NOW)
    new.get(*TCB, NOW)
    new.keep(NOW)
    with pytest.raises(FreshnessError) as caught:
        old.keep(NOW)
    assert caught.value.code == "collateral_replayed"
    mark = cache.marks.read(*TCB, tcb_info(forge, 20))
    assert mark is not None
    assert mark.evaluation == 21
    assert Cached(cache, None).get(*TCB, NOW) == tcb_info(forge, 21)


def test_a_mark_never_sinks(cache: Cache, forge: Forge) -> None:
    """What is older raises no mark."""
    for number in (21, 20):
        cache.marks.raise_to(*TCB, tcb_info(forge, number))
    mark = cache.marks.read(*TCB, tcb_info(forge, 20))
    assert mark is not None
    assert mark.evaluation == 21


def test_a_mark_rises(cache: Cache, forge: Forge) -> None:
    """A newer document raises the mark, by its number or only by its day."""
    for number in (20, 21):
        cache.marks.raise_to(*TCB, tcb_info(forge, number))
    refused(cache, TCB, tcb_info(forge, 20))
    for days in (3, 1):
        cache.marks.raise_to(*ROOT, crl(forge, days_ago=days))
    refused(cache, ROOT, crl(forge, days_ago=2))
    newer = crl(forge)
    assert Cached(cache, Counting(newer)).get(*ROOT, LATER) == newer


def test_a_mark_is_the_roots(cache: Cache, forge: Forge) -> None:
    """A signer that is renewed changes no mark: it is of a kind, its words and the root's key."""
    document = tcb_info(forge, 21)
    (root,) = (one for one in x509.parse_pem(document.chain, "chain") if one.subject == one.issuer)
    whose = sha256(root.spki).hex()
    assert authority(Kind.TCB_INFO, document) == whose
    name = f"tcb-info_sgx_e0e0e0000000_early_{whose[:16]}.seen.json"
    assert cache.marks.path(*TCB, document).name == name
    with pytest.raises(UsageError):
        cache.marks.path(Kind.TCB_INFO, ("sgx", "../../x", "early"), document)


def test_one_keeps_after_the_other(cache: Cache, forge: Forge) -> None:
    """Between what one reads of a mark and what it writes, no other writes."""
    provider = Cached(cache, Counting(tcb_info(forge, 21)))
    provider.get(*TCB, NOW)
    waiting = threading.Thread(target=provider.keep, args=(NOW,))
    with cache.alone():
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert cache.read(*TCB) is None
    waiting.join(300)
    assert cache.read(*TCB) is not None


@pytest.mark.parametrize("mark", ["newer", "damaged"])
def test_what_is_kept_behind_its_mark_is_not_there(cache: Cache, forge: Forge, mark: str) -> None:
    """A kept document that is older than what was seen, as a killed run may leave it, is not given."""
    cache.write(*TCB, tcb_info(forge, 20), NOW)
    assert Cached(cache, None).get(*TCB, NOW) == tcb_info(forge, 20)
    cache.marks.raise_to(*TCB, tcb_info(forge, 21))
    if mark == "damaged":
        cache.marks.path(*TCB, tcb_info(forge, 21)).write_bytes(b"")
    with pytest.raises(UnavailableError) as caught:
        Cached(cache, None).get(*TCB, NOW)
    assert caught.value.code == "collateral_missing"
    assert vendor(cache)("/sgx/certification/v4/tcb", {"fmspc": "e0e0e0000000", "update": "early"}) is None
    if mark == "newer":
        assert Cached(cache, Counting(tcb_info(forge, 21))).get(*TCB, NOW) == tcb_info(forge, 21)
        refused(cache, TCB, tcb_info(forge, 20))


def test_who_asks_nobody_writes_nothing(tmp_path: Path) -> None:
    """Offline there is nothing to keep: the folder may be another's, or nowhere."""
    Cached(Cache(tmp_path / "kept"), None).keep(NOW)
    assert not (tmp_path / "kept").exists()


def test_a_folder_that_cannot_be_held(tmp_path: Path, forge: Forge) -> None:
    """If nothing can be written nothing can be kept, and the error names the folder."""
    (tmp_path / "file").write_bytes(b"")
    provider = Cached(Cache(tmp_path / "file" / "kept"), Counting(tcb_info(forge, 21)))
    provider.get(*TCB, NOW)
    with pytest.raises(UnavailableError, match="kept: cannot be written: Not a directory") as caught:
        provider.keep(NOW)
    assert caught.value.hint == "name another folder with --cache"


def test_nothing_is_seen_before_it_is_verified(cache: Cache, forge: Forge) -> None:
    """A document that is never kept, since it proves forged, raises no mark."""
    Cached(cache, Counting(tcb_info(forge, 99))).get(*TCB, NOW)
    assert cache.marks.read(*TCB, tcb_info(forge, 99)) is None


def test_certificates_have_none(cache: Cache, forge: Forge) -> None:
    """A certificate is revoked and not superseded: it leaves no mark."""
    chain: tuple[Kind, Key] = (Kind.AMD_CHAIN, ("Turin", "vcek"))
    document = Document(body=tcb_info(forge, 1).chain)
    for _ in range(2):
        provider = Cached(cache, Counting(document), fresh=timedelta(0))
        provider.get(*chain, NOW)
        provider.keep(NOW)
    assert [path.name for path in cache.path(*chain).parent.glob("*.json")] == ["amd-chain_Turin_vcek.json"]


@pytest.mark.parametrize(
    "change", [b"", b"{}", b"x", bytes(5000), {"version": 2}, {"issued": 1}, "link", "mode"]
)
def test_a_damaged_mark_is_no_mark_of_zero(cache: Cache, forge: Forge, change: object) -> None:
    """A mark that is not what was written is not nothing seen: it is named, and what removes it."""
    path = seen(cache, TCB, tcb_info(forge, 21))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    if isinstance(change, bytes):
        path.write_bytes(change)
    elif isinstance(change, dict):
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    elif change == "mode":
        path.chmod(0o666)
    else:
        path.rename(path.with_suffix(".other"))
        path.symlink_to("nowhere")
    with pytest.raises(UnavailableError) as caught:
        Cached(cache, Counting(tcb_info(forge, 22))).get(*TCB, LATER)
    assert caught.value.message.startswith(
        f"{path}: want what was seen here last, got a file that cannot be it: "
    )
    assert caught.value.hint == f"rm {path}; what is fetched next is then taken as the first"
