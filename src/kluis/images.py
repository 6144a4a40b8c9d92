"""Images of enclaves: build one from a folder, read one from a file."""

from __future__ import annotations

from kluis.tee.image import Image, read_file, read_image
from kluis.tee.image.build.builder import Built, build

__all__ = ["Built", "Image", "build", "read_file", "read_image"]
