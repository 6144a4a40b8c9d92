"""The very same image, signed again by its host with a key of the host's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.enclave.store import ocalls
from kluis.errors import RemoteError
from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.serve.store import Database, keeping
from kluis.tee.image import signing
from kluis.tee.image.build import builder
from kluis.tee.platform.client import Platform
from tests.keys import author_key

KEEPER = Path(__file__).parent.parent / "enclave" / "store" / "keeper"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One image, by its author and by its host: the same measurement, two signers."""
    place = tmp_path_factory.mktemp("resigned")
    first, second = place / "author.kluis", place / "host.kluis"
    built = builder.build(KEEPER, first, place / "author.pem", debug=False)
    mrsigner = signing.sign(first, author_key(1), second)
    assert mrsigner != built.mrsigner
    return first, second


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the host keeps the store, and what it copied of it."""
    (tmp_path / "now").mkdir()
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


class Opened:
    """The store's database, and an enclave over it."""

    def __init__(self, path: Path, signed: Path, allowed: frozenset[str]) -> None:
        self._database = Database(f"sqlite:///{path}/store.db")
        records = keeping.records(self._database, "keeper")
        self.enclave = load(signed, ocalls=ocalls.serving(records), insecure_allow_missing=allowed)

    def __enter__(self) -> EnclaveProxy:
        return self.enclave

    def __exit__(self, *_: object) -> None:
        self.enclave.close()
        self._database.close()


def test_a_store_that_was_set_back_is_seen_under_another_signature(
    platform: Platform, images: tuple[Path, Path], folder: Path, allowed: frozenset[str]
) -> None:
    """An old record does not come back when the host signs the image itself and shows the older store."""
    author, host = images
    with Opened(folder / "now", author, allowed) as enclave:
        enclave.put("k", b"old")
    shutil.copytree(folder / "now", folder / "before")
    with Opened(folder / "now", author, allowed) as enclave:
        enclave.put("k", b"new")
    # The host's own signature first: no counter of that signer has counted anything yet.
    for signed in (host, author):
        with (
            Opened(folder / "before", signed, allowed) as enclave,
            pytest.raises(RemoteError, match="AuthenticityError"),
        ):
            enclave.get("k")
    with Opened(folder / "now", host, allowed) as enclave:
        assert enclave.get("k") == b"new"  # the same code: it has the key, and the store as it is


def test_a_store_key_that_is_handed_over_keeps_its_witness(
    platform: Platform, images: tuple[Path, Path], folder: Path, allowed: frozenset[str]
) -> None:
    """A joiner that its host signed learns how far the store has come, and opens no older one."""
    author, host = images
    with Opened(folder / "now", author, allowed) as giver:
        giver.put("k", b"old")
        shutil.copytree(folder / "now", folder / "before")
        giver.put("k", b"new")
        with Opened(folder / "before", host, allowed) as joiner:
            with pytest.raises(RemoteError, match="AuthenticityError"):
                joiner.store_key_take(giver.store_key_give(joiner.store_key_ask(giver.store_key_challenge())))
            with pytest.raises(RemoteError, match="AuthenticityError"):
                joiner.get("k")
