"""The image: what code is, as a deterministic archive of layers, and who signed it."""

from __future__ import annotations

from kluis.tee.image.archive import Image, read_file, read_image, verify_layers
from kluis.tee.image.builder import Built, build
from kluis.tee.image.changes import Change, diff
from kluis.tee.image.launchable import Signed, check_manifest, launchable
from kluis.tee.image.layers import Entry, Layer
from kluis.tee.image.manifest import LayerReference, Manifest

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
