"""The image format: a deterministic archive of code layers, with a signature.

Every launch reads images, so the reader is imported here. Authors build images (:mod:`kluis.tee.image.build`)
and compare them (:mod:`kluis.tee.image.build.changes`).
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
