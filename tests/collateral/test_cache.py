"""Cached documents are written atomically, read only if complete, requested again when they are old."""

from __future__ import annotations

import json
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kluis.collateral import Cache, Cached, Document, Key, Kind
from kluis.errors import FreshnessError, UnavailableError, UsageError
from tests.evidence.forge import NOW, Forge

ROOT: tuple[Kind, Key] = (Kind.ROOT_CA_CRL, ())
HOUR = timedelta(hours=1)


class Counting:
    """A provider of one document, which counts its requests."""

    def __init__(self, document: Document | None) -> None:
        self.document, self.asked = document, 0

    def get(self, kind: Kind, key: Key, now: datetime) -> Document:
        self.asked += 1
        if self.document is None:
            raise UnavailableError("nothing", code="service_unreachable")
        return self.document


def crl(forge: Forge, *, days_ago: int = 0, days: int = 30) -> Document:
    return Document(body=forge.crl("root", now=NOW - timedelta(days=days_ago), days=days))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "kept")


def test_what_is_written_is_read(cache: Cache, forge: Forge) -> None:
    """An entry has the document, when it was fetched, and the document's own times."""
    document = Document(body=crl(forge).body, chain=b"-----BEGIN")
    cache.write(*ROOT, document, NOW)
    entry = cache.read(*ROOT)
    assert entry is not None
    assert (entry.document, entry.fetched) == (document, NOW)
    assert NOW - HOUR < entry.times.issued < NOW < entry.times.until < NOW + timedelta(days=31)


def test_entries_are_their_owners(cache: Cache, forge: Forge) -> None:
    """An entry has mode 0600 in a folder of 0700, and no other file is left."""
    cache.write(*ROOT, crl(forge), NOW)
    cache.write(*ROOT, crl(forge), NOW)
    path = cache.path(*ROOT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_name_cannot_leave_the_folder(cache: Cache) -> None:
    """Words that could be a path are refused."""
    for word in ("..", "a/b", "", "x" * 300, "a\0"):
        with pytest.raises(UsageError):
            cache.path(Kind.TCB_INFO, ("sgx", word))


def test_damage_is_absence(cache: Cache, forge: Forge) -> None:
    """An entry that is cut, changed in any member, or of another name, counts as none."""
    cache.write(*ROOT, crl(forge), NOW)
    path = cache.path(*ROOT)
    good = path.read_bytes()
    assert cache.read(*ROOT) is not None
    damaged = [good[:-9], b"", b"{}", b"\xff", good + b"x", bytes(3 << 20)]
    for name, value in (
        ("version", 2),
        ("kind", "pck-crl"),
        ("key", ["x"]),
        ("body", "AAAA"),
        ("body", "*"),
        ("chain", "AAAA"),
        ("fetched", "yesterday"),
        ("sha256", "00" * 32),
    ):
        damaged.append(json.dumps({**json.loads(good), name: value}).encode())
    for data in damaged:
        path.write_bytes(data)
        assert cache.read(*ROOT) is None, data[:60]


def test_other_peoples_files_are_absent(cache: Cache, forge: Forge) -> None:
    """A link, a folder, or a file that others may write is not an entry."""
    cache.write(*ROOT, crl(forge), NOW)
    path = cache.path(*ROOT)
    path.chmod(0o666)
    assert cache.read(*ROOT) is None
    path.chmod(0o600)
    path.rename(path.with_suffix(".other"))
    path.symlink_to(path.with_suffix(".other"))
    assert cache.read(*ROOT) is None
    path.unlink()
    path.mkdir()
    assert cache.read(*ROOT) is None


def test_a_folder_that_cannot_be_made(tmp_path: Path, forge: Forge) -> None:
    """A cache that cannot be written reports that, with a fix."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError) as caught:
        Cache(tmp_path / "file" / "kept").write(*ROOT, crl(forge), NOW)
    assert caught.value.hint == "name another folder with --cache"


def test_a_fresh_document_is_not_asked_for_again(cache: Cache, forge: Forge) -> None:
    """A valid document younger than a day comes from the cache, an older one is requested."""
    behind = Counting(crl(forge))
    provider = Cached(cache, behind)
    for when, asked in ((NOW, 1), (NOW + 23 * HOUR, 1), (NOW + 25 * HOUR, 2), (NOW + 48 * HOUR, 2)):
        assert provider.get(*ROOT, when) == behind.document
        provider.keep(when)
        assert behind.asked == asked, when


@pytest.mark.parametrize("when", [NOW + timedelta(days=31), NOW - HOUR], ids=["expired", "before"])
def test_a_document_out_of_its_time_is_asked_for_again(cache: Cache, forge: Forge, when: datetime) -> None:
    """A cached document that has expired, or is not yet valid, is not used while the service is available."""
    cache.write(*ROOT, crl(forge), when)
    behind = Counting(crl(forge))
    Cached(cache, behind).get(*ROOT, when)
    assert behind.asked == 1


def test_no_answer_is_no_document(cache: Cache, forge: Forge) -> None:
    """If the service is unavailable, an old document is not used silently."""
    cache.write(*ROOT, crl(forge), NOW - 48 * HOUR)
    with pytest.raises(UnavailableError) as caught:
        Cached(cache, Counting(None)).get(*ROOT, NOW)
    assert caught.value.code == "service_unreachable"


def test_offline_gives_what_is_kept(cache: Cache, forge: Forge) -> None:
    """Without a service a kept document is given at any age, its verifier judges its time; else an error."""
    cache.write(*ROOT, crl(forge), NOW - 400 * 24 * HOUR)
    offline = Cached(cache, None)
    assert offline.get(*ROOT, NOW) == crl_of(cache)
    with pytest.raises(UnavailableError) as caught:
        offline.get(Kind.PCK_CRL, ("platform",), NOW)
    assert (caught.value.code, caught.value.message) == (
        "collateral_missing",
        "pck-crl platform: is not cached, and no connection is allowed",
    )


def crl_of(cache: Cache) -> Document:
    entry = cache.read(*ROOT)
    assert entry is not None
    return entry.document


def test_an_older_document_is_a_replay(cache: Cache, forge: Forge) -> None:
    """A service that gives an older CRL than the kept one replays it: refused, and the kept one stays."""
    cache.write(*ROOT, crl(forge), NOW - 25 * HOUR)
    kept = crl_of(cache)
    provider = Cached(cache, Counting(crl(forge, days_ago=3)))
    with pytest.raises(FreshnessError) as caught:
        provider.get(*ROOT, NOW)
    assert caught.value.code == "collateral_replayed"
    assert caught.value.message == (
        "root-ca-crl: want one issued 2026-06-01T11:55:00Z or later, as was seen before, "
        "got one issued 2026-05-29T11:55:00Z"
    )
    provider.keep(NOW)
    assert crl_of(cache) == kept


def test_a_lower_evaluation_number_is_a_replay(cache: Cache, forge: Forge) -> None:
    """A TCB info of a newer day and a lower evaluation number than the kept one is refused too."""
    new = forge.with_tcb_info(lambda info: info.update(tcbEvaluationDataNumber=21))
    old = forge.with_tcb_info(lambda info: info.update(tcbEvaluationDataNumber=20))
    key: Key = ("sgx", "e0e0e0000000", "early")
    documents = [
        Document(
            body=b'{"tcbInfo":%s,"signature":"%s"}' % (one.tcb_info, one.tcb_info_signature.hex().encode()),
            chain=one.tcb_info_issuer_chain,
        )
        for one in (new, old)
    ]
    cache.write(Kind.TCB_INFO, key, documents[0], NOW - 25 * HOUR)
    with pytest.raises(FreshnessError) as caught:
        Cached(cache, Counting(documents[1])).get(Kind.TCB_INFO, key, NOW)
    assert "evaluation number 21 or later" in caught.value.message


def test_nothing_is_kept_before_it_is_verified(cache: Cache, forge: Forge) -> None:
    """A fetched document is only written by ``keep``, which its caller calls after verifying."""
    provider = Cached(cache, Counting(crl(forge)))
    provider.get(*ROOT, NOW)
    assert cache.read(*ROOT) is None
    provider.keep(NOW)
    assert cache.read(*ROOT) is not None
