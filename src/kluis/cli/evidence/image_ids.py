"""Measure image files, for the options that name code by its image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kluis.files import named


def measure(images: Iterable[Path]) -> list[bytes]:
    """The image id of each file, 32 bytes.

    Raises:
        FormatError: it is not an image.
        UsageError: it cannot be read.
    """
    return [_measure(image) for image in images]


def _measure(image: Path) -> bytes:
    from kluis.tee.image.archive import read_image  # the verifier's commands load no part of the attester

    with named(image) as file:
        return read_image(file).image_id
