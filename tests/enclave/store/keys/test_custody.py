"""A store's key is made inside, found again by the same image on the same platform, handed to its like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kluis.enclave.store import ocalls
from kluis.enclave.store.keys import custody
from kluis.errors import RemoteError
from kluis.host.proxy import EnclaveProxy
from kluis.serve.store import Database, keeping
from kluis.serve.store.keeping import KeptRecords
from kluis.testing.rehearsal import RehearsalPlatform
from kluis.testing.stale_storage import StaleStorage

KEEPER = Path(__file__).parents[1] / "keeper" / "app.py"
MEASUREMENT = "PolicyError: contraindicated: measurement: want "
Launch = Callable[..., EnclaveProxy]

WAITING = "store: its key is sealed to another image, signer or platform than this enclave's"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[KeptRecords]:
    """The host's database."""
    with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
        yield keeping.records(database, "keeper")


@pytest.fixture
def sister(tmp_path: Path, rehearsal_platform: RehearsalPlatform) -> RehearsalPlatform:
    """Another platform, certified by the same authority."""
    return RehearsalPlatform(tmp_path / "sister", datetime.now(UTC), rehearsal_platform.authority)


def hand_over(giver: EnclaveProxy, joiner: EnclaveProxy) -> None:
    """What an honest host carries."""
    request = joiner.store_key_ask(giver.store_key_challenge())
    joiner.store_key_take(giver.store_key_give(request))


def test_the_message_between_instances_does_not_show_its_key() -> None:
    """Whatever is logged or raised around it."""
    assert repr(custody._Handed(b"KEY", 7, b"chain")) == "_Handed(epoch=7)"


def test_instances_of_one_platform_share_the_store(enclave: Launch, records: KeptRecords) -> None:
    """What one instance wrote another reads, at once and after both have ended."""
    first = enclave(KEEPER, ocalls=ocalls.serving(records))
    assert first.store_open() == "detected while the platform runs"
    first.put("k", b"v")
    second = enclave(KEEPER, ocalls=ocalls.serving(records))
    assert second.get("k") == b"v"
    assert [second.add("n"), first.add("n"), second.add("n")] == [1, 2, 3]
    first.close()
    second.close()
    assert enclave(KEEPER, ocalls=ocalls.serving(records)).add("n") == 4


def test_another_signers_image_cannot_open_it(enclave: Launch, records: KeptRecords, tmp_path: Path) -> None:
    """Another image on the same platform finds no copy of the key that it can open."""
    enclave(KEEPER, ocalls=ocalls.serving(records)).put("k", b"v")
    other = tmp_path / "app.py"
    other.write_text(KEEPER.read_text() + "\n# another version\n")
    with pytest.raises(RemoteError) as refused:
        enclave(other, ocalls=ocalls.serving(records)).store_open()
    assert refused.value.message == f"UnavailableError: {WAITING}"


def test_a_signers_later_image_opens_it_where_the_arguments_say_so(
    enclave: Launch, records: KeptRecords, sister: RehearsalPlatform, tmp_path: Path
) -> None:
    """With the measured argument a later image of the signer and product has the key, and no other has."""
    host, argv = ocalls.serving(records), ["--store-key=signer"]
    giver = enclave(KEEPER, ocalls=host, argv=argv)
    giver.put("k", b"v")
    later = tmp_path / "app.py"
    later.write_text(KEEPER.read_text().replace("svn=1", "svn=2"))
    assert enclave(later, ocalls=host, argv=argv).get("k") == b"v"
    for other in ({"signer": b"\2" * 32, "argv": argv}, {"argv": ()}):
        with pytest.raises(RemoteError, match="UnavailableError: store: its key is sealed to another image"):
            enclave(later, ocalls=host, **other).get("k")
    joiner = enclave(later, on=sister, ocalls=host, argv=argv)
    hand_over(giver, joiner)
    assert joiner.get("k") == b"v"
    request = giver.store_key_ask(joiner.store_key_challenge())
    with pytest.raises(RemoteError, match="PolicyError: contraindicated: svn: want "):
        joiner.store_key_give(request)


def test_an_instance_on_another_platform_gets_the_key_from_one_that_runs(
    enclave: Launch, records: KeptRecords, sister: RehearsalPlatform
) -> None:
    """It cannot open the store before the handover; after it, and after a restart, it can."""
    giver = enclave(KEEPER, ocalls=ocalls.serving(records))
    giver.put("k", b"v")
    joiner = enclave(KEEPER, on=sister, ocalls=ocalls.serving(records))
    with pytest.raises(
        RemoteError, match="store: its key is sealed to another image, signer or platform than this enclave's"
    ):
        joiner.get("k")
    hand_over(giver, joiner)
    assert joiner.get("k") == b"v"
    assert [joiner.add("n"), giver.add("n")] == [1, 2]
    joiner.close()
    assert enclave(KEEPER, on=sister, ocalls=ocalls.serving(records)).add("n") == 3


def test_another_authoritys_platform_gets_nothing(
    enclave: Launch, records: KeptRecords, other_platform: RehearsalPlatform
) -> None:
    """An instance whose platform has no trusted authority here is refused by the giver."""
    giver = enclave(KEEPER, ocalls=ocalls.serving(records))
    giver.put("k", b"v")
    joiner = enclave(KEEPER, on=other_platform, ocalls=ocalls.serving(records))
    request = joiner.store_key_ask(giver.store_key_challenge())
    with pytest.raises(RemoteError) as refused:
        giver.store_key_give(request)
    assert refused.value.type_name == "AuthenticityError"


def test_another_image_gets_nothing(
    enclave: Launch, records: KeptRecords, sister: RehearsalPlatform, tmp_path: Path
) -> None:
    """An image that differs in one byte is refused by the giver, which names the rule."""
    giver = enclave(KEEPER, ocalls=ocalls.serving(records))
    giver.put("k", b"v")
    other = tmp_path / "app.py"
    other.write_text(KEEPER.read_text() + "\n# another version\n")
    joiner = enclave(other, on=sister, ocalls=ocalls.serving(records))
    request = joiner.store_key_ask(giver.store_key_challenge())
    with pytest.raises(RemoteError, match=MEASUREMENT):
        giver.store_key_give(request)


def test_a_giver_of_another_image_is_refused(
    enclave: Launch, records: KeptRecords, sister: RehearsalPlatform, tmp_path: Path
) -> None:
    """A host cannot give an instance a key that it chose: the joiner judges the giver too."""
    with Database(f"sqlite:///{tmp_path / 'other.db'}") as database:
        evil = tmp_path / "app.py"
        source = KEEPER.read_text().replace(
            "from kluis.enclave.store.keys import custody\n",
            "from kluis.enclave.store.keys import custody, handover\n"
            "handover._judge = lambda said, *_: Careless(said)\n"
            "class Careless:\n"
            "    def __init__(self, said):\n"
            "        from kluis.formats.kluis.runtime_data import RuntimeData\n"
            "        self.runtime_data = RuntimeData.parse(said.runtime_data)\n",
        )
        evil.write_text(source)
        giver = enclave(evil, ocalls=ocalls.serving(keeping.records(database, "evil")))
        enclave(KEEPER, ocalls=ocalls.serving(records)).put("k", b"v")
        joiner = enclave(KEEPER, on=sister, ocalls=ocalls.serving(records))
        gift = giver.store_key_give(joiner.store_key_ask(giver.store_key_challenge()))
        with pytest.raises(RemoteError, match=MEASUREMENT):
            joiner.store_key_take(gift)


def test_messages_of_another_handover_are_refused(
    enclave: Launch, records: KeptRecords, sister: RehearsalPlatform
) -> None:
    """A challenge is used once, and a gift only answers the last request, unchanged."""
    giver = enclave(KEEPER, ocalls=ocalls.serving(records))
    giver.put("k", b"v")
    joiner = enclave(KEEPER, on=sister, ocalls=ocalls.serving(records))
    request = joiner.store_key_ask(giver.store_key_challenge())
    gift = giver.store_key_give(request)
    with pytest.raises(RemoteError, match="FreshnessError: handover: want a request over an open challenge"):
        giver.store_key_give(request)
    joiner.store_key_ask(giver.store_key_challenge())
    with pytest.raises(RemoteError, match="FreshnessError: contraindicated: nonce: want "):
        joiner.store_key_take(gift)
    with pytest.raises(RemoteError, match="FreshnessError: handover: want a request before its answer"):
        joiner.store_key_take(gift)
    gift = giver.store_key_give(joiner.store_key_ask(giver.store_key_challenge()))
    gift.sealed = gift.sealed[:-1] + bytes([gift.sealed[-1] ^ 1])
    with pytest.raises(RemoteError, match="AuthenticityError: handover: want evidence of this sealed key"):
        joiner.store_key_take(gift)


def test_a_joiner_is_shown_no_older_store(
    enclave: Launch, stale_storage: StaleStorage, sister: RehearsalPlatform
) -> None:
    """With the key comes how far the store is: an empty database, or an older one, is refused."""
    host = ocalls.serving(stale_storage.records)
    giver = enclave(KEEPER, ocalls=host)
    empty = stale_storage.keep()
    giver.put("k", b"old")
    older = stale_storage.keep()
    giver.put("k", b"new")
    for name, epoch in ((empty, 0), (older, 1)):
        joiner = enclave(KEEPER, on=sister, ocalls=host)
        gift = giver.store_key_give(joiner.store_key_ask(giver.store_key_challenge()))
        stale_storage.serve(name)
        with pytest.raises(RemoteError) as refused:
            joiner.store_key_take(gift)
        assert refused.value.message == (
            f"AuthenticityError: store: last commit: want epoch 2 or later, got {epoch}"
        )
        stale_storage.serve("live.db")


def test_a_host_that_fails(enclave: Launch, records: KeptRecords) -> None:
    """A host's exception is reported as its unavailability, and the next request is served again."""
    fails = [True]

    def read(ids: list[bytes], known: int) -> object:
        if fails[0]:
            raise OSError("the disk is gone")
        return records.read(ids, known)

    one = enclave(KEEPER, ocalls=dict(ocalls.serving(records)) | {"store_read": read})
    with pytest.raises(RemoteError) as refused:
        one.get("k")
    assert refused.value.message == "UnavailableError: store: host: OSError: the disk is gone"
    fails[0] = False
    assert one.get("k") is None
