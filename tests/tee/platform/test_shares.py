"""One user never takes all of what others share; what nobody uses is given back."""

from __future__ import annotations

import contextlib
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import FormatError, PolicyError, UnavailableError
from kluis.hashes import sha256
from kluis.tee.image import layers
from kluis.tee.image.layers import Layer, encode_index, parse_index
from kluis.tee.platform import shares
from kluis.tee.platform.hosts import Host
from kluis.tee.platform.launching import holding, launch, policy, scratch
from tests.tee.image import samples
from tests.tee.platform.launching.test_holding import layer_of

ANN, BOB, EVE = 1001, 1002, 1003


def test_another_user_always_finds_a_place() -> None:
    """However many places users take, the next one finds one, while any is left."""
    taken = shares.Taken("max_enclaves", "ask")
    got = []
    for user in range(1000, 1006):
        count = 0
        with contextlib.suppress(PolicyError):
            while True:
                taken.take(user, 1, 32)
                count += 1
        got.append(count)

    assert got == [16, 8, 4, 2, 1, 1]


def test_operators_do_not_wait() -> None:
    """A user's second piece of work waits for the first; an operator's does not."""
    turns = shares.Turns()
    with turns.of(ANN), turns.of(0):
        assert turns.of(ANN).locked()
        assert not turns.of(BOB).locked()
        assert not turns.of(0).locked()


def test_root_may_take_what_is_left() -> None:
    """The operator is bounded by the total only, and what is given back is there for others."""
    taken = shares.Taken("max_enclaves", "ask")
    for _ in range(4):
        taken.take(0, 1, 4)
    with pytest.raises(PolicyError, match=r"^launch policy: max_enclaves: want at most 4, got 5"):
        taken.take(0, 1, 4)
    with pytest.raises(PolicyError, match=r"^launch policy: max_enclaves: want at most 0, got 1"):
        taken.take(ANN, 1, 4)
    taken.give_back(0, 1)
    taken.take(ANN, 1, 4)


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> launch.Launcher:
    """A launcher on a machine of 1 GiB of memory whose disk has 1,000 bytes left."""
    monkeypatch.setattr(holding, "half_of_memory", lambda: 1 << 29)
    monkeypatch.setattr(scratch, "free_bytes", lambda: 1000)
    unused: Any = None
    return launch.Launcher(unused, unused, policy.LaunchPolicy(), frozenset(), None)


def test_one_users_heaps_leave_memory_for_others(launcher: launch.Launcher) -> None:
    """A user's heaps take half of what the others leave; root's are not bounded by it."""
    launcher._charges.take(ANN, 1 << 29, 0)
    with pytest.raises(PolicyError, match=r"^launch policy: heap: want at most 536870912 for one user, got "):
        launcher._charges.take(ANN, 1, 0)
    launcher._charges.take(BOB, 1 << 28, 0)
    launcher._charges.take(0, 1 << 32, 0)
    launcher._charges.give_back("ann's", ANN, 1 << 29, 0)
    with pytest.raises(PolicyError, match=r"^launch policy: heap: want at most 0, got 1"):
        launcher._charges.take(ANN, 1, 0)


def test_one_users_scratch_leaves_disk_for_others(launcher: launch.Launcher) -> None:
    """Likewise the disk; a launch that is refused for it takes neither place nor heap."""
    for _ in range(40):
        with pytest.raises(
            PolicyError, match=r"^launch policy: scratch: want at most 500 for one user, got 501"
        ):
            launcher._charges.take(ANN, 1 << 29, 501)
    launcher._charges.take(ANN, 1 << 29, 500)
    launcher._charges.take(0, 0, 900)


def test_one_users_launches_leave_turns_for_others() -> None:
    """However many launches a user makes at once, one waits for the spawner, before the next user's."""
    begun: queue.SimpleQueue[int] = queue.SimpleQueue()
    go_on = threading.Event()

    class Slow:
        turns = shares.Turns()

        def launch(self, image: int, *, user: int, **_: object) -> None:
            begun.put(image)
            go_on.wait(300)

    slow: Any = Slow()

    def launch(user: int, image: int) -> None:
        Host(slow, user, slow, slow)._launch({"op": "launch"}, [image])

    with ThreadPoolExecutor(4) as threads:
        several = [threads.submit(launch, ANN, image) for image in (1, 2, 3)]
        first = begun.get(timeout=300)
        bobs = threads.submit(launch, BOB, 4)
        assert begun.get(timeout=300) == 4
        go_on.set()
        for each in (*several, bobs):
            each.result(300)
    assert {first, begun.get(), begun.get()} == {1, 2, 3}


class Store:
    """Layers of one file each, held in 100 bytes of memory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.dropped: list[bytes] = []
        self.names: dict[bytes, str] = {}
        self.holds = holding.Holding(lambda *_: None, self.dropped.append, most_bytes=100)

    def hold(self, name: str, size: int, user: int) -> bytes:
        """Hold a layer of so many bytes for a user; its digest."""
        layer = layer_of(self.place / name, name, name.encode() * size)
        self.names[layer.digest] = name
        with open(self.place / name, "rb") as image:
            self.holds.hold(image.fileno(), layer, user)
        return layer.digest

    @property
    def gone(self) -> list[str]:
        """The names of what was dropped."""
        return [self.names[digest] for digest in self.dropped]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty one."""
    return Store(tmp_path)


def test_one_users_layers_leave_room_for_others(store: Store) -> None:
    """A user whose enclaves use half of the memory gets no more; the next gets half of what is left."""
    store.hold("a", 50, ANN)
    with pytest.raises(UnavailableError, match=r"^layer b: want at most 0 bytes, got 1"):
        store.hold("b", 1, ANN)
    store.hold("c", 25, BOB)
    with pytest.raises(UnavailableError, match=r"^layer d: want at most 13 bytes, got 14"):
        store.hold("d", 14, EVE)
    store.hold("e", 13, EVE)

    assert store.gone == []


def test_one_users_indexes_leave_room_for_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers without data take memory as well: their indexes, the platform's; their folders, the kernel's."""
    small = store.hold("z", 1, 0)
    listed = store.holds._held[small].listed
    monkeypatch.setattr(holding, "MOST_LISTED", 8 * listed)
    for name in "abc":
        store.hold(name, 1, ANN)
    with pytest.raises(
        UnavailableError, match=rf"^layer d: want an index of at most \d+ bytes, got {listed}\n"
    ):
        store.hold("d", 1, ANN)
    store.hold("e", 1, BOB)
    assert store.gone == []


def test_indexes_that_nobody_uses_make_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go like data that nobody uses."""
    idle = store.hold("a", 1, ANN)
    monkeypatch.setattr(holding, "MOST_LISTED", 2 * store.holds._held[idle].listed)
    store.holds.release([idle], ANN)
    store.hold("b", 1, 0)
    assert store.gone == []
    store.hold("c", 1, 0)
    assert store.gone == ["a"]


def test_folders_are_counted(tmp_path: Path) -> None:
    """A short index names many folders."""
    path = "/".join("abcdefgh")
    index, size = encode_index([(f"{path}/{name}", 0o444, 0, sha256(b"").hex()) for name in "xy"])
    layer = Layer("app", "/k/app", sha256(index), parse_index(index, size, "app"), 0, size)
    holds = holding.Holding(lambda *_: None, lambda _: None)
    (tmp_path / "empty").touch()
    with open(tmp_path / "empty", "rb") as image:
        holds.hold(image.fileno(), layer, 0)
    assert holds._held[layer.digest].listed == len(index) + 8 * holding.FOLDER_BYTES


def test_an_image_of_very_many_files_is_not_read(
    launcher: launch.Launcher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The platform's own memory is for all users: a large index is refused before it is read."""
    (tmp_path / "image").write_bytes(samples.image())
    monkeypatch.setattr(holding, "MOST_INDEX_BYTES", 100)
    monkeypatch.setattr(layers, "parse_index", lambda *_: pytest.fail("read"))
    with (
        open(tmp_path / "image", "rb") as image,
        pytest.raises(FormatError, match="want indexes of at most 100"),
    ):
        launcher.launch(
            image.fileno(), user=ANN, allow_missing=frozenset(), granted=(), ended=lambda *_: None
        )


def test_what_nobody_uses_makes_room(store: Store) -> None:
    """The layer that was used last goes last, and one that an enclave uses stays."""
    first, second = store.hold("a", 40, 0), store.hold("b", 40, 0)
    store.holds.release([second], 0)
    store.holds.release([first], 0)
    store.hold("c", 20, 0)
    store.hold("d", 30, 0)
    assert store.gone == ["b"]

    store.holds.hold(-1, layer_of(store.place / "a", "a", b"a" * 40), 0)
    with pytest.raises(UnavailableError, match="want at most 10 bytes, got 11"):
        store.hold("e", 11, 0)
    assert store.gone == ["b"]


def test_what_nobody_uses_is_given_back_after_a_while(store: Store) -> None:
    """Idle layers go; one that is used, and one that was left just now, stay."""
    used, idle = store.hold("a", 10, ANN), store.hold("b", 10, ANN)
    store.holds.release([idle], ANN)
    store.holds.tidy(idle_seconds=60)
    assert store.gone == []

    store.holds.tidy(idle_seconds=0)
    assert store.gone == ["b"]
    assert set(store.holds.files(0)) == {used}


def test_a_layer_that_cannot_be_dropped(store: Store) -> None:
    """The other idle layers are dropped all the same."""
    first, second = store.hold("a", 10, ANN), store.hold("b", 10, ANN)
    store.holds.release([first, second], ANN)

    def drop(digest: bytes) -> None:
        store.dropped.append(digest)
        raise UnavailableError("busy")

    store.holds._drop = drop
    store.holds.tidy(idle_seconds=0)
    assert sorted(store.gone) == ["a", "b"]


def test_two_users_of_one_layer(store: Store) -> None:
    """A layer is in use until the last of its users has left it."""
    layer = store.hold("a", 10, ANN)
    store.hold("a", 10, BOB)
    store.holds.release([layer], ANN)
    store.holds.tidy(idle_seconds=0)
    assert store.gone == []

    store.holds.release([layer], BOB)
    store.holds.tidy(idle_seconds=0)
    assert store.gone == ["a"]


def test_a_layer_that_was_changed_and_is_read_again(store: Store) -> None:
    """The end of an enclave from before the change does not count for one that runs with the layer now."""
    layer = store.hold("a", 10, ANN)
    store.holds.forget(layer)
    assert store.hold("a", 10, ANN) == layer
    store.holds.release([layer], ANN)
    store.holds.tidy(idle_seconds=0)
    assert store.gone == []

    store.holds.release([layer], ANN)
    store.holds.tidy(idle_seconds=0)
    assert store.gone == ["a"]


def test_a_layer_that_was_changed_and_is_not_read_again(store: Store) -> None:
    """The spawner has discarded it: it gets no request to drop it."""
    layer = store.hold("a", 10, ANN)
    store.holds.forget(layer)
    store.holds.release([layer], ANN)
    store.holds.tidy(idle_seconds=0)
    assert store.gone == []
    assert store.holds.files(0) == {}
