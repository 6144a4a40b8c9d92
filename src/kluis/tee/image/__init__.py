"""The image: what code is, as a deterministic archive of layers, and who signed it.

Reading is what every launch does, and is imported here. Building is an author's
(:mod:`kluis.tee.image.build`), and comparing too (:mod:`kluis.tee.image.build.changes`).
"""

from __future__ import annotations

from kluis.tee.image.archive import Image, read_file, read_image, verify_layers
from kluis.tee.image.launchable import Signed, check_manifest, launchable
from kluis.tee.image.layers import Entry, Layer
from kluis.tee.image.manifest import LayerReference, Manifest

__all__ = [
    "Entry",
    "Image",
    "Layer",
    "LayerReference",
    "Manifest",
    "Signed",
    "check_manifest",
    "launchable",
    "read_file",
    "read_image",
    "verify_layers",
]
