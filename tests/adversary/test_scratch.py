"""Root reads and changes what an enclave wrote to its encrypted scratch."""

from __future__ import annotations

import math
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis.errors import EnclaveDied
from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.tee.image.build.builder import build
from kluis.tee.platform.client import Platform
from kluis.tee.process import sandbox
from tests.adversary import attacks
from tests.adversary.spilling.app import GROUP, SORT, first_by_hash
from tests.adversary.test_memory import outside_the_list
from tests.adversary.victim_secret import secret_of

HERE = Path(__file__).parent
COPIES = 100_000
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the attacker is root")


@pytest.fixture(scope="session")
def scratch_image(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of an enclave with scratch."""
    place = tmp_path_factory.mktemp("scratch")
    return build(HERE / "scratch", place / "scratch.kluis", place / "author.pem", debug=False).path


@pytest.fixture
def enclave(scratch_image: Path, allowed: frozenset[str]) -> Iterator[EnclaveProxy]:
    """An enclave with scratch."""
    with load(scratch_image, insecure_allow_missing=allowed) as running:
        yield running


def backing_of(enclave: EnclaveProxy) -> Path:
    """The way to the backing that root has: the enclave's descriptor."""
    return Path(f"/proc/{enclave.pid}/fd/{sandbox.SCRATCH_FD}")


def blocks_of(enclave: EnclaveProxy) -> list[bytes]:
    """The blocks of the backing that were written."""
    data = backing_of(enclave).read_bytes().rstrip(b"\0")
    return [data[at : at + 4096] for at in range(0, len(data), 4096)]


def planted(data: bytes, seed: str) -> int:
    """Count the pieces of the secret in these bytes, whatever is between the pieces."""
    secret = secret_of(seed)
    return sum(data.count(secret[at : at + 16]) for at in range(0, 64, 16))


@root
def test_the_backing_is_noise(enclave: EnclaveProxy) -> None:
    """Megabytes of one secret, written: root reads the backing, and finds noise and no copy of it."""
    seed = secrets.token_hex(8)
    size = enclave.write("secret", seed, COPIES)
    data = backing_of(enclave).read_bytes()
    written = data.rstrip(b"\0")
    spread = Counter(written)

    assert enclave.read("secret", seed) == COPIES
    assert len(data) == 64 << 20
    assert len(written) >= size > 7_000_000
    assert planted(data, seed) == 0
    assert planted(secret_of(seed) * 3, seed) == 12
    assert -sum(n / len(written) * math.log2(n / len(written)) for n in spread.values()) > 7.999


@root
def test_the_same_bytes_are_never_the_same_noise(enclave: EnclaveProxy) -> None:
    """No two blocks are equal, though what was written repeats; nor are two writes of one block."""
    enclave.write("repeats", "x", COPIES)
    before = blocks_of(enclave)
    enclave.rewrite("repeats", "x", COPIES)
    after = blocks_of(enclave)

    assert len(set(before)) == len(before) == len(after) == 1758
    assert not set(before) & set(after)


@root
def test_no_file_system_shows_it(enclave: EnclaveProxy, home: Path) -> None:
    """Neither root, descriptors, the platform's state nor memory shows a name or content."""
    seed = secrets.token_hex(8)
    enclave.write("a-name-to-find", seed, COPIES)
    inside = Path(f"/proc/{enclave.pid}/root")

    assert enclave.listing() == ["a-name-to-find"]
    assert "scratch" not in os.listdir(inside)
    for link in Path(f"/proc/{enclave.pid}/fd").iterdir():
        if os.readlink(link).startswith("/"):
            assert b"a-name-to-find" not in link.read_bytes()
    assert [path for path in home.rglob("*") if "scratch-" in path.name] == []
    assert attacks.copies(enclave.pid, seed)[1] == 0


@root
def test_only_places_of_it(enclave: EnclaveProxy) -> None:
    """The backing is not swapped in plain, is no mapping of the enclave, and leaves no plain memory."""
    enclave.write("mapped", "seed", COPIES)

    assert "scratch" not in Path(f"/proc/{enclave.pid}/maps").read_text()
    assert outside_the_list(enclave) == []


def flip(backing: Path, _: bytes) -> None:
    """Change one bit of the first block."""
    with backing.open("r+b", buffering=0) as file:
        old = os.pread(file.fileno(), 1, 100)
        os.pwrite(file.fileno(), bytes([old[0] ^ 1]), 100)


def put_back(backing: Path, older: bytes) -> None:
    """Write what was there before."""
    with backing.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), older, 0)


def exchange(backing: Path, _: bytes) -> None:
    """Swap the first two blocks, each of them genuine."""
    with backing.open("r+b", buffering=0) as file:
        first, second = os.pread(file.fileno(), 4096, 0), os.pread(file.fileno(), 4096, 4096)
        os.pwrite(file.fileno(), second + first, 0)


def cut(backing: Path, _: bytes) -> None:
    """Make it shorter."""
    os.truncate(backing, 0)


@root
@pytest.mark.parametrize("change", [flip, put_back, exchange, cut], ids=lambda change: change.__name__)
def test_a_changed_backing_is_seen(enclave: EnclaveProxy, change: Callable[[Path, bytes], None]) -> None:
    """A bit, an older state, a block in another's place, an end too early: reading it ends the enclave."""
    enclave.write("one", "first", COPIES)
    backing = backing_of(enclave)
    older = backing.read_bytes()
    enclave.rewrite("one", "second", COPIES)
    assert enclave.read("one", "second") == COPIES
    change(backing, older)

    with pytest.raises(EnclaveDied, match="status 65, as of one whose scratch was changed from outside"):
        enclave.read("one", "second")


@root
def test_a_stolen_backing_is_only_noise(enclave: EnclaveProxy) -> None:
    """Root duplicates the descriptor, as it can: it holds noise, and outlives the key by nothing."""
    seed = secrets.token_hex(8)
    enclave.write("gone", seed, COPIES)
    stolen = attacks.steal(enclave.pid, sandbox.SCRATCH_FD)
    enclave.close()

    with open(stolen, "rb") as file:
        assert planted(file.read(), seed) == 0


@pytest.fixture(scope="module")
def spilling_image(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of an enclave whose libraries spill."""
    place = tmp_path_factory.mktemp("spilling")
    shutil.copytree(HERE / "spilling", place / "spilling")
    return build(place / "spilling", place / "spilling.kluis", place / "author.pem", debug=False).path


@root
@pytest.mark.slow
def test_duckdb_spills(spilling_image: Path) -> None:
    """DuckDB sorts and groups more than the heap holds, with the answers that it gives outside."""
    import duckdb

    with load(spilling_image) as enclave:
        *answers, spilled = enclave.sort_and_group()

        assert int(spilled) > 512 << 20
        assert answers == [str(duckdb.sql(query).fetchall()[0]) for query in (SORT, GROUP)]
        assert outside_the_list(enclave) == []


@root
@pytest.mark.slow
def test_polars_spills(spilling_image: Path) -> None:
    """Polars spills what is above the budget it is given, and sorts as it does outside."""
    with load(spilling_image) as enclave:
        answer, spilled = enclave.polars_sort()

        assert int(spilled) > 16 << 20
        assert answer == first_by_hash()
        assert outside_the_list(enclave) == []


@root
@pytest.mark.slow
def test_libraries_keep_files(spilling_image: Path) -> None:
    """numpy, pyarrow, polars and DuckDB write files and read them back, by every way they have."""
    with load(spilling_image) as enclave:
        assert enclave.files() == [
            "True", "[10 11 12]", "True", "499999", "True", "500000", "('0', 17857107142)", "7", "7", "7",
            "(499999, '3')", "[(1007,)]", "(124999750000,)",
        ]  # fmt: skip
        assert outside_the_list(enclave) == []
