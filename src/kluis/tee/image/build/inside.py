"""Collect the ``kluis`` layer: the part of Kluis that runs inside, and the libraries that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import kluis
from kluis.tee.image import sources
from kluis.tee.image.build import interpreter
from kluis.tee.image.sources import Source
from kluis.tee.process import native

# What an enclave may import. The host, the platform and the command line stay outside.
PACKAGES: Final = (
    "formats", "evidence", "appraisal", "authority", "collateral", "ledger", "enclave", "cleanroom",
    "services",
)  # fmt: skip
MODULES: Final = (
    "__init__.py", "cards.py", "entry.py", "errors.py", "files.py", "frozen.py", "hashes.py", "measured.py",
    "missing.py", "parcels.py", "parents.py", "streams.py", "py.typed",
)  # fmt: skip
# Who installed a package, from where and when, depends on this machine and would change the image.
_KEPT_METADATA: Final = frozenset({"METADATA", "entry_points.txt", "top_level.txt", "licenses", "sboms"})


def layer() -> list[Source]:
    """Every file of the layer: Kluis's own as installed here, and the libraries of the runtime.

    Raises:
        UnavailableError: there is no runtime.
    """
    root = Path(kluis.__file__).resolve().parent
    files = [sources.read(f"kluis/{name}", root / name) for name in MODULES]
    for package in PACKAGES:
        if (root / package).is_dir():
            files += [
                sources.read(f"kluis/{package}/{path}", origin)
                for path, origin in sources.walk(root / package, _keep)
            ]
    return files + interpreter.inside()


def versions() -> dict[str, str]:
    """The distributions in the layer, and their versions."""
    return native.runtime().inside_versions


def kept_metadata(path: str) -> bool:
    """Whether a file of a ``dist-info`` folder goes into an image; True for every other file."""
    folder, _, rest = path.partition("/")
    return not folder.endswith(".dist-info") or rest.partition("/")[0] in _KEPT_METADATA


def _keep(path: str, folder: bool) -> bool:
    return "__pycache__" not in path.split("/") and not path.endswith((".pyc", ".pyo", ".pth"))
