"""Popular packages inside real enclaves: each row of the list, as it is listed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.errors import KluisError, RemoteError
from kluis.host import load
from kluis.tee.image.build import builder
from scripts import reference
from tests.images import ALLOWED

PACKAGES = reference.tried_packages()
# Of each kind one: C called from Python, Python called from C, Rust, a codec, and text.
QUICK = ("lxml", "opendp", "pillow", "pydantic", "sentencepiece")
SECONDS = 1800.0  # of a start, and of a computation: ends a hang, and no more
HANG_SECONDS = 30.0  # of a computation that never ends


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder on a disk, for images too large for memory."""
    with tempfile.TemporaryDirectory(prefix="kluis-packages-", dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def cache() -> Iterator[Path]:
    """One cache on a disk for all packages: many need numpy, and each the same base layer."""
    with tempfile.TemporaryDirectory(prefix="kluis-packages-cache-", dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in PACKAGES]
)
def test_package(name: str, place: Path, cache: Path) -> None:
    """A package does inside what the list states, and nothing that it is said to need is dispensable."""
    package = PACKAGES[name]
    app = place / "app"
    app.mkdir()
    shutil.copy(reference.TRIED / "apps" / f"{name}.py", app / "app.py")
    required = [f"{name}=={package.version}", *package.also]
    settings = {
        "heap": "2GiB",
        "requirements": required,
        "grants": package.grants,
        "scratch": package.scratch or 0,
    }
    (app / "kluis.toml").write_text(
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    )

    def tried(seconds: float) -> str:
        return ran(
            builder.build(app, place / "image.kluis", place / "author.pem", cache_folder=cache).path, seconds
        )

    if package.fails:
        with pytest.raises(KluisError) as raised:
            tried(HANG_SECONDS)
        classes = (getattr(raised.value, "type_name", None), type(raised.value).__name__)
        assert package.fails in classes or package.fails in str(raised.value)
    else:
        assert tried(SECONDS) == package.gives


def ran(built: Path, seconds: float) -> str:
    """What the application's check gives."""
    with load(
        built, timeout_seconds=seconds, start_seconds=SECONDS, insecure_allow_missing=ALLOWED
    ) as enclave:
        found: str = enclave.check()
        return found


def test_the_page_is_the_list() -> None:
    """docs/reference/packages.md is made from the list that the tests hold to, and 27 of its rows run."""
    assert (reference.REFERENCE / "packages.md").read_text() == reference.packages()
    assert sum(not one.fails for one in PACKAGES.values()) >= 27
    assert {path.stem for path in (reference.TRIED / "apps").glob("*.py")} == set(PACKAGES)


def test_code_that_an_image_does_not_grant(place: Path) -> None:
    """A package that generates code fails without the grant, and the error names the grant that it needs."""
    app = place / "app"
    app.mkdir()
    (app / "app.py").write_text(
        "import mmap\nfrom kluis.enclave import Enclave\napp = Enclave('jit')\n\n@app.ecall\n"
        "def check() -> int:\n    return len(mmap.mmap(-1, 4096, prot=7))\n"
    )
    (app / "kluis.toml").write_text("")
    refused = builder.build(app, place / "a.kluis", place / "author.pem").path
    with load(refused, insecure_allow_missing=ALLOWED) as enclave, pytest.raises(RemoteError) as raised:
        enclave.check()
    assert raised.value.type_name == "PermissionError"
    assert 'grants = ["insecure_jit"] in kluis.toml' in str(raised.value.hint)

    (app / "kluis.toml").write_text('grants = ["insecure_jit"]\n')
    granted = builder.build(app, place / "b.kluis", place / "author.pem").path
    with load(granted, insecure_allow_missing=ALLOWED) as enclave:
        assert enclave.check() == 4096
