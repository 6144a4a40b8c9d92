"""What pip installs works: an enclave is built, run and verified with no checkout and no compiler."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.meta import installed
from tests.meta.tree import ROOT

APP = """
from kluis.enclave import Enclave

app = Enclave("cohort", product_id=7, svn=3)


@app.ecall
def mean_age(ages: list[int]) -> float:
    return sum(ages) / len(ages)
"""
COMMANDS = (
    "attest cohort.kluis -o quote.bin --nonce 9f02aa77",
    "platform root -o root.pem",
    "platform collateral -o collateral.json",
    "verify quote.bin --root root.pem --collateral collateral.json",
    "policy init -o policy.toml --image cohort.kluis --root root.pem"
    " --protection process --protection process-user",
    "appraise quote.bin --policy policy.toml --nonce 9f02aa77 --root root.pem --collateral collateral.json",
)
CAP_SYS_RESOURCE = 24
MAY_LIFT = bool(
    int(re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())[1], 16) >> CAP_SYS_RESOURCE & 1  # type: ignore[index]
)
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The Python that runs these tests; what is installed for the other one is tried by the slow ones."""
NOBODY = 64321
"""An ordinary user of these tests', with no name and no rights."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder far from the checkout, which every user may enter."""
    with tempfile.TemporaryDirectory(prefix="kluis-installed-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def _kluis(bin_folder: Path, folder: Path, *words: str, user: int = 0) -> str:
    """Run one command as a user, whose limit on locked memory is lifted where root may do so."""

    def become() -> None:
        if MAY_LIFT:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if user:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)

    done = subprocess.run(
        [str(bin_folder / "kluis"), *words],
        cwd=folder,
        env=installed.clean(folder),
        preexec_fn=become,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, f"$ kluis {' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def _whole(bin_folder: Path, folder: Path, user: int = 0) -> str:
    """Build, run, attest and verify; returns the image id."""
    (folder / "cohort").mkdir(exist_ok=True)
    (folder / "cohort/app.py").write_text(APP)
    for path in (folder, folder / "cohort", folder / "cohort/app.py"):
        if os.geteuid() == 0:
            os.chown(path, user, user)
    built = _kluis(
        bin_folder, folder, "build", "cohort", "-o", "cohort.kluis", "--key", "k.pem", "--json", user=user
    )
    try:
        lacking = bool(user) and not MAY_LIFT  # 8 MiB is what Debian lets an ordinary user lock
        allow = ["--insecure-allow-missing=secret-memory"] if lacking else []
        said = _kluis(
            bin_folder, folder, "run", *allow, "cohort.kluis", "mean_age", "[61, 60, 59]", user=user
        )
        assert said.strip() == "60.0"
        for line in COMMANDS:
            command, *words = line.split()
            more = allow if command == "attest" else []
            if line.startswith("policy init") and lacking:
                more = ["--missing", "secret-memory"]
            _kluis(bin_folder, folder, command, *words, *more, user=user)
    finally:
        _kluis(bin_folder, folder, "platform", "stop", user=user)
    return str(json.loads(built)["image_id"])


@pytest.fixture(
    scope="module",
    params=[pytest.param(each, marks=[] if each == HERE else pytest.mark.slow) for each in ("3.11", "3.13")],
)
def programs(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The programs of an empty environment with Kluis in it, for each Python."""
    python = installed.interpreter(request.param)
    if python is None:
        pytest.skip(f"no python{request.param} with venv on this machine")
    with tempfile.TemporaryDirectory(prefix="kluis-installed-") as path:
        Path(path).chmod(0o755)
        yield installed.environment(Path(path), python, "kluis[enclave]")


def test_an_installed_kluis_does_it_all(folder: Path, programs: Path) -> None:
    """Build, run, attest, verify and appraise; the checkout that runs this test builds the same image id."""
    place = next((programs.parent / "lib").glob("python*/site-packages"))
    assert not list(place.glob("*editable*"))
    image_id = _whole(programs, folder)
    if place.parent.name == f"python{HERE}":
        assert _built_here(folder / "here") == image_id


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes an ordinary user")
def test_an_ordinary_user_too(folder: Path, programs: Path) -> None:
    """The same as an ordinary user, with a platform of that user's."""
    if not installed.for_everyone(programs / "python"):
        pytest.skip(f"{(programs / 'python').resolve()}: only its owner may run it")
    _whole(programs, folder, NOBODY)


def _built_here(folder: Path) -> str:
    (folder / "cohort").mkdir(parents=True)
    (folder / "cohort/app.py").write_text(APP)
    program = "from kluis.cli.main import main; raise SystemExit(main())"
    line = [sys.executable, "-c", program, "build", "cohort", "-o", "here.kluis", "--key", "h.pem"]
    done = subprocess.run([*line, "--json"], cwd=folder, capture_output=True, text=True, check=True)
    return str(json.loads(done.stdout)["image_id"])


def test_the_wheel_is_pure() -> None:
    """Kluis holds no program and no library, whatever was built in the checkout before."""
    (wheel,) = installed.dist().glob("kluis-*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert b"Root-Is-Purelib: true" in archive.read(
            next(n for n in archive.namelist() if n.endswith("/WHEEL"))
        )
        assert [name for name in archive.namelist() if archive.read(name)[:4] == b"\x7fELF"] == []
        assert (
            "License-Expression: Apache-2.0"
            in archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
        )
    (sdist,) = installed.dist().glob("kluis-*.tar.gz")
    with tarfile.open(sdist) as source:
        files = [member for member in source if member.isfile()]
        assert [m.name for m in files if (f := source.extractfile(m)) and f.read(4) == b"\x7fELF"] == []
        names = {member.name.partition("/")[2] for member in files}
    assert {"LICENSE", "native/launcher.c", "runtime/build.py", "runtime/cp311.lock"} <= names


def test_the_runtimes_wheel() -> None:
    """Each runtime is for one CPython, is a platform's, and names all that it is built from."""
    wheels = sorted(installed.dist().glob("kluis_runtime-*.whl"))
    assert [re.search(r"-(cp\d+-cp\d+-manylinux\w+)\.whl", path.name)[1] for path in wheels] == [  # type: ignore[index]
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp313-cp313-manylinux_2_17_x86_64",
    ]
    for path in wheels:
        with zipfile.ZipFile(path) as archive:
            info = next(name for name in archive.namelist() if name.endswith(".dist-info/inputs.lock"))
            lock = archive.read(info).decode()
            licences = [name for name in archive.namelist() if name.endswith(".copyright")]
        assert lock.count("sha256 = ") > 20
        assert len(licences) >= 12


@pytest.mark.slow
def test_the_runtime_is_built_to_the_same_bytes(tmp_path: Path) -> None:
    """Built twice from its inputs, in different folders, the wheel has the same bytes."""
    made = set()
    for name in ("one", "two"):
        line = [sys.executable, str(ROOT / "runtime/build.py"), "wheel", "--again", "--or-newest"]
        subprocess.run([*line, "--out", str(tmp_path / name)], check=True, capture_output=True)
        made |= {path.read_bytes() for path in (tmp_path / name).iterdir()}
    assert len(made) == 1


@pytest.mark.slow
def test_the_hint_installs_what_it_names(folder: Path) -> None:
    """The verifier by itself hints how to get the enclave's part; typed literally, with its DIR, that
    works.
    """
    programs = installed.environment(folder, sys.executable, "kluis")
    # A user's environment has pip.
    subprocess.run([str(programs / "python"), "-m", "ensurepip"], check=True, env=installed.clean(folder))
    (folder / "cohort").mkdir()
    (folder / "cohort/app.py").write_text(APP)
    build = [str(programs / "kluis"), "build", "cohort", "-o", "cohort.kluis", "--unsigned"]
    keep = {"cwd": folder, "env": installed.clean(folder), "capture_output": True, "text": True}
    refused = subprocess.run(build, check=False, **keep)
    assert refused.returncode == 7, refused.stderr
    (hint,) = re.findall(r"^kluis: hint: (.*)$", refused.stderr, re.MULTILINE)
    command, _, meant = hint.partition(", where DIR has ")
    assert meant
    line = command.replace("--find-links DIR", f"--find-links {installed.dist()}")
    done = subprocess.run(["/bin/sh", "-c", line], check=False, **keep)
    assert done.returncode == 0, done.stderr
    built = subprocess.run(build, check=False, **keep)
    assert built.returncode == 0, built.stderr


@pytest.mark.slow
def test_a_new_project_needs_only_what_is_printed(folder: Path) -> None:
    """A new project's test runs with the extra ``enclave`` and the packages that ``kluis new`` prints."""
    programs = installed.environment(folder, sys.executable, "kluis[enclave]")
    said = json.loads(_kluis(programs, folder, "new", "shop", "--template", "api", "--json"))
    # A user's environment has pip.
    subprocess.run([str(programs / "python"), "-m", "ensurepip"], check=True, env=installed.clean(folder))
    install, build, *_ = said["next"]
    assert build.startswith("kluis build")
    assert install.startswith("python -m pip install")
    for line in (install, "python -m pytest -q shop"):
        done = subprocess.run(
            [str(programs / "python"), *shlex.split(line)[1:]],
            cwd=folder,
            env=installed.clean(folder),
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "pipx install --pip-args '--find-links dist' 'kluis[enclave]'",
        "uv tool install --find-links dist 'kluis[enclave]'",
    ],
    ids=lambda line: line.split()[0],
)
def test_other_installers(folder: Path, line: str) -> None:
    """Installed by pipx and uv, as in the README, it builds, runs, attests and verifies."""
    assert f"`{line}`" in (ROOT / "README.md").read_text()
    program, *words = shlex.split(line)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "own")], check=True)
    subprocess.run([str(folder / "own/bin/pip"), "install", "-q", program], check=True)
    (folder / "dist").symlink_to(installed.dist())
    where = {
        "PIPX_HOME": str(folder / "pipx"),
        "PIPX_BIN_DIR": str(folder / "bin"),
        "PIPX_DEFAULT_PYTHON": sys.executable,
        "UV_PYTHON": sys.executable,
        "UV_SYSTEM_CERTS": "1",  # as pip, which reads those of this machine
        "UV_NATIVE_TLS": "1",  # its older name
        "UV_TOOL_DIR": str(folder / "uv"),
        "UV_TOOL_BIN_DIR": str(folder / "bin"),
    }
    done = subprocess.run(
        [str(folder / "own/bin" / program), *words],
        cwd=folder,
        env={**os.environ, **where, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    home = folder / "home"
    home.mkdir()
    _whole(folder / "bin", home)
