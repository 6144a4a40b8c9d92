"""Build the benchmark's own images, from bench/apps when they are needed, into build/bench."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bench"
SCIENCE = ("duckdb", "numpy", "polars", "pyarrow", "scikit-learn")
SETTINGS: dict[str, tuple[str, tuple[str, ...], str]] = {
    # heap, requirements, more lines
    "empty": ("128MiB", (), ""),
    "bulk": ("128MiB", (), ""),
    "hashing": ("128MiB", (), ""),
    "release": ("128MiB", (), ""),
    "table": ("1GiB", ("pyarrow",), 'grants = ["table"]\n'),
    "web": (
        "256MiB",
        ("starlette", "uvicorn", "pyOpenSSL", "wsproto"),
        'entry = "inside:app"\ngrants = ["listen:web"]\n',
    ),
    "inference": (
        "2GiB",
        ("starlette", "uvicorn", "pyOpenSSL", "onnxruntime", "tokenizers", "numpy"),
        'entry = "inside:app"\ngrants = ["listen:web"]\nthreads = 16\nexclude = ["key", "outside.py"]\n',
    ),
    "scratch": ("256MiB", (), 'scratch = "2GiB"\n'),
    "science": (
        "4GiB",
        SCIENCE,
        'threads = 32\ngrants = ["table"]\n[env]\nOMP_NUM_THREADS = "2"\nPOLARS_MAX_THREADS = "2"\n',
    ),
}


@functools.cache
def image(name: str) -> Path:
    """Build an image once per run, from a copy of its folder with the versions that are installed here."""
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "apps" / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return compile_image(name, folder)


def compile_image(name: str, folder: Path) -> Path:
    """Build a folder with the settings of that name."""
    heap, requirements, more = SETTINGS[name]
    pinned = ", ".join(f'"{one}=={metadata.version(one)}"' for one in requirements)
    (folder / "kluis.toml").write_text(f'requirements = [{pinned}]\nheap = "{heap}"\n{more}')
    target = BUILD / f"{name}.kluis"
    kluis = str(Path(sys.executable).with_name("kluis"))
    command = [kluis, "build", str(folder), "-o", str(target), "--key", str(BUILD / "author.pem")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return target
