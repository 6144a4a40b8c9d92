"""The image: what code is, as a deterministic archive of layers, and who signed it.

Reading is what every launch does, and is imported at once; building and comparing are an author's,
and are imported when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from kluis.tee.image.archive import Image, read_file, read_image, verify_layers
from kluis.tee.image.launchable import Signed, check_manifest, launchable
from kluis.tee.image.layers import Entry, Layer
from kluis.tee.image.manifest import LayerReference, Manifest

if TYPE_CHECKING:
    from kluis.tee.image.builder import Built, build
    from kluis.tee.image.changes import Change, diff

__all__ = [
    "Built",
    "Change",
    "Entry",
    "Image",
    "Layer",
    "LayerReference",
    "Manifest",
    "Signed",
    "build",
    "check_manifest",
    "diff",
    "launchable",
    "read_file",
    "read_image",
    "verify_layers",
]

_LATER: Final = {"Built": "builder", "build": "builder", "Change": "changes", "diff": "changes"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value
