"""Build the distributions: the wheel and sdist of kluis, and the wheels of kluis-runtime.

``kluis`` is built from a copy of this tree without generated files, so that nothing from an earlier build is
in it.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.13")
MADE = shutil.ignore_patterns(
    ".git", ".venv*", "__pycache__", "*.egg-info", "*.so", ".*_cache", ".hypothesis"
)
MADE_AT_THE_ROOT = {"build", "dist", "site"}
"""Folders of these names elsewhere are packages of ours."""
# Standard output has the paths; what setuptools prints goes with the warnings.
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def _made(folder: str, names: list[str]) -> set[str]:
    return MADE(folder, names) | (MADE_AT_THE_ROOT & set(names) if Path(folder) == ROOT else set())


def _report(step: str) -> None:
    print(f"building {step}", file=sys.stderr, flush=True)


def build(out: Path, pythons: tuple[str, ...] = PYTHONS) -> list[Path]:
    """Build everything into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "kluis"
        shutil.copytree(ROOT, tree, ignore=_made)
        for kind in ("build_wheel", "build_sdist"):
            _report(f"kluis: {kind.removeprefix('build_')}")
            line = [sys.executable, "-c", BUILD, kind, str(out.resolve())]
            subprocess.run(line, cwd=tree, stdout=subprocess.DEVNULL, check=True)
    for python in pythons:
        _report(f"kluis-runtime: wheel for Python {python}, which takes a minute or more")
        line = [
            sys.executable,
            str(ROOT / "runtime/build.py"),
            "wheel",
            "--python",
            python,
            "--out",
            str(out),
        ]
        subprocess.run([*line, "--or-newest"], stdout=subprocess.DEVNULL, check=True)
    return sorted(out.iterdir())


def main() -> None:
    """Build what the command line names, and print the paths."""
    parser = argparse.ArgumentParser(prog="scripts/dist.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="the folder, created if needed")
    runtimes = f"of the runtime's wheels: {' and '.join(PYTHONS)} if none is named"
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", default=PYTHONS, help=runtimes)
    chosen = parser.parse_args()
    if unknown := set(chosen.pythons) - set(PYTHONS):
        parser.error(f"PYTHON: want {' or '.join(PYTHONS)}, got {', '.join(sorted(unknown))}")
    with contextlib.suppress(BrokenPipeError):
        for path in build(chosen.out, tuple(chosen.pythons)):
            print(path)


if __name__ == "__main__":
    main()
