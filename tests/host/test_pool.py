"""A pool of enclaves: one image, several at once, each attested, none lost or left."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.errors import AuthenticityError, EnclaveDied, PolicyError, RemoteError, UsageError
from kluis.host import Pool
from kluis.host.proxy import EnclaveProxy
from kluis.tee import places
from kluis.tee.image.build.builder import build
from kluis.tee.platform import start
from tests import machines

ROOT = os.geteuid() == 0
OPTIONS = {"insecure_allow_missing": frozenset() if ROOT else frozenset({"secret-memory"})}
APP = '''"""Counts its own calls."""

import os
import time

from kluis.enclave import Enclave

app = Enclave("pooled", svn={svn})
calls = 0


@app.ecall
def nap(seconds: float) -> int:
    """Sleep, and say which call of this enclave it was."""
    global calls
    calls += 1
    time.sleep(seconds)
    return calls


@app.ecall(raises=(ValueError,))
def fail() -> None:
    """Fail, and live on."""
    raise ValueError("no")


@app.ecall
def die() -> None:
    """End at once."""
    os._exit(3)
'''


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An image, on a platform of these tests' own, or for the machine of this run."""
    if machines.given():
        yield _build(tmp_path_factory.mktemp("pool"), 1)
        return
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    folder = Path(tempfile.mkdtemp(prefix="kluis-pool-", dir="/run" if ROOT else None))
    folder.chmod(0o755)
    before = os.environ.get("KLUIS_HOME")
    os.environ["KLUIS_HOME"] = str(folder / "home")
    try:
        yield _build(folder, 1)
    finally:
        start.stop(places.mine())
        if before is None:
            del os.environ["KLUIS_HOME"]
        else:
            os.environ["KLUIS_HOME"] = before
        shutil.rmtree(folder, ignore_errors=True)


def _build(folder: Path, svn: int) -> Path:
    (folder / "app").mkdir(exist_ok=True)
    (folder / "app" / "app.py").write_text(APP.replace("{svn}", str(svn)))
    (folder / "app" / "kluis.toml").write_text('heap = "128MiB"\n')
    build(folder / "app", folder / f"pooled-{svn}.kluis", folder / "author.pem", debug=False)
    return folder / f"pooled-{svn}.kluis"


def test_calls_run_side_by_side(image: Path) -> None:
    """Two calls at once are in two enclaves, and more of them wait for one that is free."""
    met: list[EnclaveProxy] = []
    both = threading.Barrier(2, timeout=300)

    def meet(enclave: EnclaveProxy) -> int:
        both.wait()
        return int(enclave.nap(0.0))

    with Pool(image, 2, prepare=met.append, **OPTIONS) as pool:
        assert [one.result() for one in [pool.submit(meet), pool.submit(meet)]] == [1, 1]
        assert len(met) == 2
        assert [one.result() for one in [pool.submit(meet), pool.submit(meet)]] == [2, 2]
        assert len(list(pool.map("nap", [0.0] * 6))) == 6
        assert len(met) == 2
        assert pool.submit(lambda enclave, seconds: enclave.nap(seconds), 0.0).result() >= 1
        pids = [enclave.pid for enclave in met]
    assert machines.given() or not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_what_fails_and_what_dies(image: Path) -> None:
    """An error leaves the enclave in the pool; a death takes it out, and the next call finds another."""
    met: list[EnclaveProxy] = []
    with Pool(image, 1, prepare=met.append, **OPTIONS) as pool:
        with pytest.raises(RemoteError, match="no"):
            pool.submit("fail").result()
        assert pool.submit("nap", 0.0).result() == 1
        assert len(met) == 1
        with pytest.raises(EnclaveDied):
            pool.submit("die").result()
        assert pool.submit("nap", 0.0).result() == 1
        assert len(met) == 2


def test_an_enclave_that_is_refused(image: Path) -> None:
    """A refused enclave raises the error, and no enclave is left."""
    met: list[EnclaveProxy] = []

    def refuse(enclave: EnclaveProxy) -> None:
        met.append(enclave)
        raise PolicyError("not this one")

    with pytest.raises(PolicyError, match="not this one"):
        Pool(image, 1, prepare=refuse, **OPTIONS)
    if machines.given():
        return  # its process is in the machine
    deadline = time.monotonic() + 120
    while Path(f"/proc/{met[0].pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{met[0].pid}").exists()


def test_one_identity(image: Path, tmp_path: Path) -> None:
    """A file that changes under a pool gives it no other code."""
    changing = tmp_path / "changing.kluis"
    shutil.copy(image, changing)
    with Pool(changing, 1, **OPTIONS) as pool:
        shutil.copy(_build(image.parent, 2), changing)
        with pytest.raises(EnclaveDied):
            pool.submit("die").result()
        with pytest.raises(AuthenticityError, match="pool: want image id") as caught:
            pool.submit("nap", 0.0).result()
    assert caught.value.code == "image_changed"


@pytest.mark.parametrize("size", [0, 257])
def test_sizes(size: int) -> None:
    """A pool has at least one enclave, and an end."""
    with pytest.raises(UsageError, match=rf"^pool: want a size of 1\.\.256, got {size}$"):
        Pool("none.kluis", size)


def test_what_is_no_call(image: Path) -> None:
    """What is neither a name nor a function is refused before a thread takes it."""
    with Pool(image, 1, **OPTIONS) as pool, pytest.raises(UsageError, match="want an ecall's name"):
        pool.submit(7)
