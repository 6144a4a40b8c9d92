"""The ``kluis`` layer: the part of Kluis that runs inside, and the libraries it stands on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Final

import kluis
from kluis.errors import UnavailableError
from kluis.tee.image import sources
from kluis.tee.image.sources import Source

# What an enclave may import. The host, the platform and the command line stay outside.
PACKAGES: Final = (
    "formats", "evidence", "appraisal", "authority", "collateral", "ledger", "enclave", "cleanroom",
    "services",
)  # fmt: skip
# What a service's host runs for it.
OUTSIDE: Final = frozenset({"services/running", "services/storage"})
MODULES: Final = (
    "__init__.py", "entry.py", "errors.py", "files.py", "frozen.py", "hashes.py", "measured.py", "py.typed",
)  # fmt: skip
DISTRIBUTIONS: Final = ("cffi", "cryptography", "msgspec", "pycparser")
# Who installed a package, from where and when, is this machine's business and differs on the next.
_KEPT_METADATA: Final = frozenset({"METADATA", "entry_points.txt", "top_level.txt", "licenses", "sboms"})


def layer() -> list[Source]:
    """Every file of the layer, as installed here.

    Raises:
        UnavailableError: a distribution is not installed, or does not say what its files are.
    """
    root = Path(kluis.__file__).resolve().parent
    found = [sources.held(f"kluis/{name}", root / name) for name in MODULES]
    for package in PACKAGES:
        if (root / package).is_dir():
            found += [
                sources.held(f"kluis/{package}/{path}", origin)
                for path, origin in sources.walk(root / package, _inside(package))
            ]
    for name in DISTRIBUTIONS:
        found += _distribution(name)
    return found


def versions() -> dict[str, str]:
    """The distributions that the layer holds, and their versions here."""
    return {name: _find(name).version for name in DISTRIBUTIONS}


def _inside(package: str) -> Callable[[str, bool], bool]:
    def keep(path: str, folder: bool) -> bool:
        return f"{package}/{path}" not in OUTSIDE and _keep(path, folder)

    return keep


def _distribution(name: str) -> list[Source]:
    distribution = _find(name)
    if distribution.files is None:
        raise UnavailableError(
            f"{name}: want a RECORD of its files, found none", hint=f"pip install --force-reinstall {name}"
        )
    found = []
    for file in distribution.files:
        path = file.as_posix()
        if path.startswith("../") or not _keep(path, False) or not kept_metadata(path):
            continue
        found.append(sources.of_file(path, Path(str(file.locate()))))
    return found


def _find(name: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise UnavailableError(f"{name}: not installed", hint=f"pip install {name}") from error


def kept_metadata(path: str) -> bool:
    """Whether a file of a ``dist-info`` folder goes into an image; true of every other file."""
    folder, _, rest = path.partition("/")
    return not folder.endswith(".dist-info") or rest.partition("/")[0] in _KEPT_METADATA


def _keep(path: str, folder: bool) -> bool:
    return "__pycache__" not in path.split("/") and not path.endswith((".pyc", ".pyo", ".pth"))
