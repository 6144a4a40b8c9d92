"""An image's file, put together inside a machine: from what the host sends, and what the machine holds.

What the host sends is written to its place as it arrives. A layer that the platform holds is a hole in the
file: the platform reads neither its index nor its data. A layer of the runtime is copied from the machine's
own. So each layer crosses once. Of the layer on which the platform itself runs, only the index is copied.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from kluis.errors import FormatError, UnavailableError
from kluis.hashes import sha256
from kluis.parcels import Place
from kluis.tee.image import archive
from kluis.tee.image.archive import Head
from kluis.tee.image.manifest import LayerReference
from kluis.tee.platform.launching import holding
from kluis.tee.process import native
from kluis.tee.remote.messages import BLOCK_BYTES, read

MAX_HEAD_BYTES: Final = 8 << 20


def read_head(descriptor: int) -> tuple[bytes, Head]:
    """Read the head of an image from a sealed memory file.

    Raises:
        FormatError: not the head of an image, or more than that.
        UnavailableError: the machine's memory is too small for its layers.
    """
    data = read(descriptor, MAX_HEAD_BYTES)
    head = archive.read_head(io.BytesIO(data))
    if head.end != len(data):
        raise FormatError(f"image: {len(data) - head.end} bytes after its head")
    size, most = sum(block_size(each) for each in head.manifest.layers), holding.half_of_memory()
    if size > most:
        raise UnavailableError(
            f"image: want at most {most} bytes, half of the machine's memory, got {size}",
            hint="start the machine with more memory",
            code="machine_memory",
        )
    return data, head


def image_id(head: Head) -> bytes:
    """The image id, 32 bytes."""
    return sha256(head.manifest_bytes)


def block_size(layer: LayerReference) -> int:
    """Bytes of a layer in an image's file: two lengths, index and data."""
    return BLOCK_BYTES + layer.index_size + layer.data_size


def own_layers() -> dict[str, Path]:
    """The layers of this machine's runtime, by digest in hex, each in the form of an image."""
    runtime = native.runtime()
    return {runtime.digest: native.base_layer(), runtime.inside: native.inside_layer()}


def assemble(
    data: bytes,
    head: Head,
    received: Mapping[str, Callable[[Place], None]],
    own: Mapping[str, Path],
    laid: str | None,
) -> int:
    """Put an image's file together, in a sealed memory file.

    Args:
        data: its head, in bytes.
        head: as parsed.
        received: layers from the host by digest: each is called once, to write the layer to its place.
        own: layers of the runtime, by digest. All others are holes.
        laid: the digest of the one whose data the platform does not read; None if there is none.

    Returns:
        A descriptor that the caller must close.
    """
    image = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(image, len(data) + sum(block_size(each) for each in head.manifest.layers))
        at = 0
        while at < len(data):
            at += os.write(image, data[at:])
        written: dict[str, int] = {}
        for layer in head.manifest.layers:
            size = block_size(layer)
            if layer.digest in written:
                _copy(image, written[layer.digest], image, at, size)
            elif layer.digest in received:
                received[layer.digest](Place(image, at, size))
                written[layer.digest] = at
            elif layer.digest in own:
                size -= layer.data_size if layer.digest == laid else 0
                with own[layer.digest].open("rb") as file:
                    _copy(file.fileno(), 0, image, at, size)
            else:
                os.pwrite(image, layer.index_size.to_bytes(8, "little"), at)
                os.pwrite(image, layer.data_size.to_bytes(8, "little"), at + 8 + layer.index_size)
            at += block_size(layer)
        holding.seal(image)
    except BaseException:
        os.close(image)
        raise
    return image


def _copy(source: int, start: int, image: int, at: int, size: int) -> None:
    os.lseek(image, at, os.SEEK_SET)
    done = 0
    while done < size:
        copied = os.sendfile(image, source, start + done, size - done)
        if not copied:
            raise FormatError(f"layer: {size - done} bytes are missing", code="truncated")
        done += copied
