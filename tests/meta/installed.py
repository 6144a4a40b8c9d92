"""What people get: Kluis installed from its own wheels, away from any checkout."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import site
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.meta.tree import ROOT

TOOLS = ("bwrap", "unshare", "useradd", "env", "true")
"""The system's programs that Kluis uses; a compiler is not one of them."""


@functools.cache
def dist() -> Path:
    """The wheels and the sdist, built once in a test run, by the first process that needs them."""
    out = Path(os.environ["XDG_CACHE_HOME"]) / "kluis/dist"
    with (out / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(out.glob("*.whl")):
            with tempfile.TemporaryDirectory() as folder:
                line = [sys.executable, str(ROOT / "scripts/dist.py"), folder]
                subprocess.run(line, check=True, capture_output=True)
                for made in Path(folder).iterdir():
                    shutil.copy(made, out)
    return out


def interpreter(version: str) -> str | None:
    """A CPython of that version on this machine that can make environments; the system's, if there is one."""
    named = [f"/usr/bin/python{version}", shutil.which(f"python{version}")]
    named += [sys.executable] if sys.version.startswith(version + ".") else []
    for found in named:
        if found is not None and os.access(found, os.X_OK):
            tried = subprocess.run([found, "-c", "import venv, ensurepip"], capture_output=True, check=False)
            if tried.returncode == 0:
                return found
    return None


def for_everyone(python: Path) -> bool:
    """Whether every user may run this interpreter: no folder on the way to it is its owner's only."""
    real = python.resolve()
    return all(path.stat().st_mode & 0o001 for path in (real, *real.parents))


def environment(folder: Path, python: str, *what: str) -> Path:
    """An empty environment with what pip installs into it, from the wheels and PyPI; returns its programs."""
    return _made(folder, python, "--find-links", str(dist()), *what)


def borrowed(folder: Path) -> Path:
    """An environment with the installed wheels, and all other libraries from the one that runs the tests."""
    wheels = [str(path) for path in dist().glob("*.whl") if "runtime" not in path.name or _fits(path)]
    programs = _made(folder, sys.executable, "--no-deps", *wheels)
    # A folder that a .pth names is searched; its own .pth files are not read: the editable Kluis stays out.
    place = next((programs.parent / "lib").glob("python*/site-packages"))
    (place / "borrowed.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return programs


def _made(folder: Path, python: str, *words: str) -> Path:
    """A new environment, and in it what the pip that is here installs: to lay its own takes seconds."""
    venv = folder / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", str(venv)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "install", "-q"]
    line = [*pip, "--disable-pip-version-check", *words]
    subprocess.run(line, cwd=folder, check=True, env=clean(folder))
    return venv / "bin"


def _fits(path: Path) -> bool:
    return f"-cp{sys.version_info.major}{sys.version_info.minor}-" in path.name


def tools(folder: Path) -> Path:
    """A folder with the system's programs that Kluis needs, and no compiler."""
    place = folder / "tools"
    place.mkdir(exist_ok=True)
    for name in TOOLS:
        found = shutil.which(name)
        if found is not None and not (place / name).exists():
            (place / name).symlink_to(found)
    return place


def clean(folder: Path) -> dict[str, str]:
    """The environment of a new user: no compiler on the path, a new home, pip's settings kept."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return {**kept, "PATH": str(tools(folder)), "HOME": str(folder), "KLUIS_HOME": str(folder / "state")}
