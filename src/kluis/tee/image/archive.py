r"""Reads untrusted ``.kluis`` files; writes the one canonical encoding.

    magic       b"KLUIS\x00\x01\n"
    manifest    u32 length, canonical JSON
    sigstruct   1808 bytes
    interface   u32 length, canonical JSON
    each layer  u64 length, index; u64 length, data      (in the manifest's order)

Integers are little-endian. Every length is checked before that many bytes are read; data is hashed as a
stream. Each image has one file: the reader accepts no other encoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO, Final, NamedTuple

from kluis.errors import AuthenticityError, FormatError
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.tee import sigstruct
from kluis.tee.image import layers, manifest
from kluis.tee.image.layers import Entry, Layer
from kluis.tee.image.manifest import Manifest
from kluis.tee.image.sources import Source

MAGIC: Final = b"KLUIS\x00\x01\n"
MAX_INTERFACE_BYTES: Final = 4 << 20
CHUNK: Final = 1 << 20
_ZEROS: Final = bytes(layers.ALIGNMENT)


@frozen
class Image:
    """A parsed image, not yet verified; its layers' data stays in the file.

    Attributes:
        manifest_bytes: canonical JSON, whose SHA-256 is the image id.
        sigstruct: 1808 bytes; ``launchable`` verifies them.
        sigstruct_offset: in the file.
        interface: canonical JSON; the manifest contains its SHA-256.
    """

    manifest: Manifest
    manifest_bytes: bytes
    sigstruct: bytes
    sigstruct_offset: int
    interface: bytes
    layers: tuple[Layer, ...]

    @property
    def image_id(self) -> bytes:
        """SHA-256 of the manifest, 32 bytes: for the process TEE this is MRENCLAVE."""
        return sha256(self.manifest_bytes)

    def layer(self, name: str) -> Layer | None:
        """The layer called ``name``, or None."""
        return next((layer for layer in self.layers if layer.name == name), None)


def read_image(
    f: BinaryIO, known: Mapping[bytes, tuple[Entry, ...]] | None = None, most_index: int | None = None
) -> Image:
    """Read everything except the layers' data. The file is untrusted.

    Args:
        f: seekable; read from start to end.
        known: files of layers read before, by digest, 32 bytes: their indexes are skipped, and the file's
            content there does not matter.
        most_index: bytes of all other indexes together; None: what the format allows.

    Raises:
        FormatError: any byte violates the format, or the indexes are larger.
    """
    head = read_head(f)
    size = f.seek(0, 2)
    f.seek(head.end)
    read = sum(
        each.index_size for each in head.manifest.layers if bytes.fromhex(each.digest) not in (known or {})
    )
    if most_index is not None and read > most_index:
        raise FormatError(
            f"image: want indexes of at most {most_index} bytes, got {read}",
            hint="leave files out: an index has some 200 bytes for each",
            code="too_large",
        )
    indexes, files = [], 0
    for reference in head.manifest.layers:
        layer = _layer(f, size, reference, known or {})
        files += len(layer.files)
        indexes.append(layer)
    if files > layers.MAX_FILES:
        raise FormatError(f"image: want at most {layers.MAX_FILES} files, got {files}")
    if f.tell() != size:
        raise FormatError(f"image at {f.tell():#x}: {size - f.tell()} bytes after the end")
    return Image(
        head.manifest,
        head.manifest_bytes,
        head.sigstruct,
        head.sigstruct_offset,
        head.interface,
        tuple(indexes),
    )


class Head(NamedTuple):
    """What an image begins with, all but its layers; nothing of it is verified.

    Attributes:
        manifest: as read from ``manifest_bytes``.
        manifest_bytes: canonical JSON, whose SHA-256 is the image id.
        sigstruct: 1808 bytes.
        sigstruct_offset: where they lie in the file.
        interface: canonical JSON; its SHA-256 is in the manifest.
        end: where the layers begin.
    """

    manifest: Manifest
    manifest_bytes: bytes
    sigstruct: bytes
    sigstruct_offset: int
    interface: bytes
    end: int


def read_head(f: BinaryIO, what: str = "image") -> Head:
    """Read the head of an image. The file is untrusted.

    Args:
        f: seekable; read from its start.
        what: names the image in errors.

    Raises:
        FormatError: any byte violates the format.
    """
    size = f.seek(0, 2)
    f.seek(0)
    if (magic := f.read(len(MAGIC))) != MAGIC:
        raise FormatError(
            f"{what}.magic at 0x0: want {MAGIC!r}, got {magic!r}",
            hint="a .kluis file is made by: kluis build DIR -o FILE --key KEY",
        )
    manifest_bytes = _block(f, size, 4, manifest.MAX_MANIFEST_BYTES, f"{what}.manifest")
    parsed = manifest.parse(manifest_bytes)
    at = f.tell()
    signature = _take(f, size, sigstruct.SIZE, f"{what}.sigstruct")
    sigstruct.parse(signature)
    interface = _block(f, size, 4, MAX_INTERFACE_BYTES, f"{what}.interface")
    if (got := sha256(interface).hex()) != parsed.interface:
        raise FormatError(f"{what}.interface: want SHA-256 {parsed.interface}, got {got}")
    return Head(parsed, manifest_bytes, signature, at, interface, f.tell())


def _layer(
    f: BinaryIO, size: int, reference: manifest.LayerReference, known: Mapping[bytes, tuple[Entry, ...]]
) -> Layer:
    what = f"layer {reference.name}"
    block = f"image.{what}"
    digest = bytes.fromhex(reference.digest)
    files = known.get(digest)
    index = b""
    length = int.from_bytes(_take(f, size, 8, f"{block}.index"), "little")
    if length != reference.index_size:
        raise FormatError(f"{what}.index: want {reference.index_size} bytes, got {length}")
    if files is None:
        if length > layers.MAX_INDEX_BYTES:
            raise FormatError(f"{block}.index: want at most {layers.MAX_INDEX_BYTES} bytes, got {length}")
        index = _take(f, size, length, f"{block}.index")
        if (got := layers.digest(index)) != digest:
            raise FormatError(f"{what}.index: want SHA-256 {reference.digest}, got {got.hex()}")
    else:
        f.seek(length, 1)
    data_size = int.from_bytes(_take(f, size, 8, f"{block}.data"), "little")
    if data_size != reference.data_size:
        raise FormatError(f"{what}.data: want {reference.data_size} bytes, got {data_size}")
    at = f.tell()
    if data_size > size - at:
        raise FormatError(f"{what}.data at {at:#x}: needs {data_size} bytes, {size - at} left")
    if files is None:
        files = layers.parse_index(index, data_size, what)
    elif (end := files[-1].offset + files[-1].size if files else 0) != data_size:
        raise FormatError(f"{what}: want {end} bytes of data, as in its index, got {data_size}")
    f.seek(at + data_size)
    return Layer(reference.name, reference.mount, digest, files, at, data_size)


def _block(f: BinaryIO, size: int, width: int, limit: int, what: str) -> bytes:
    length = int.from_bytes(_take(f, size, width, what), "little")
    if length > limit:
        raise FormatError(f"{what}: want at most {limit} bytes, got {length}")
    return _take(f, size, length, what)


def _take(f: BinaryIO, size: int, length: int, what: str) -> bytes:
    at = f.tell()
    if length > size - at:
        raise FormatError(f"{what} at {at:#x}: needs {length} bytes, {size - at} left")
    data = f.read(length)
    if len(data) != length:
        raise FormatError(f"{what} at {at:#x}: needs {length} bytes, got {len(data)}")
    return data


def verify_layers(f: BinaryIO, image: Image) -> None:
    """Hash every file of every layer, in file order, in bounded memory.

    Raises:
        AuthenticityError: a file does not match its index, or bytes lie between files.
        FormatError: the file ends early.
    """
    for layer in image.layers:
        f.seek(layer.data_offset)
        end = 0
        for entry in layer.files:
            padding = f.read(entry.offset - end)
            if padding.strip(b"\0"):
                raise AuthenticityError(f"layer {layer.name}: {entry.path!r}: bytes before it are not zero")
            got = hashlib.sha256()
            _stream(f, entry.size, got.update, f"layer {layer.name}: {entry.path!r}")
            if got.hexdigest() != entry.sha256:
                raise AuthenticityError(
                    f"layer {layer.name}: {entry.path!r}: want SHA-256 {entry.sha256}, got {got.hexdigest()}",
                    hint="the file changed after it was built; get it again, or build it again",
                )
            end = entry.offset + entry.size


def read_file(f: BinaryIO, layer: Layer, entry: Entry) -> bytes:
    """Read one file of a layer and check its hash.

    Raises:
        AuthenticityError: it does not match the index.
    """
    f.seek(layer.data_offset + entry.offset)
    data = f.read(entry.size)
    if sha256(data).hex() != entry.sha256:
        raise AuthenticityError(f"layer {layer.name}: {entry.path!r}: does not match the index")
    return data


def native_objects(f: BinaryIO, image: Image) -> list[str]:
    """Files of the ``app`` layer that are machine code, by path: ELF, or named like an extension module.

    The interpreter imports ``app.so`` before ``app.py``, and its source is not in an image.
    """
    layer = image.layer("app")
    paths = []
    for entry in layer.files if layer else ():
        f.seek(layer.data_offset + entry.offset if layer else 0)
        if f.read(min(entry.size, 4)) == b"\x7fELF" or entry.path.endswith(".so"):
            paths.append(entry.path)
    return paths


def imported_in_place(image: Image) -> list[str]:
    """What an interpreter imports in the place of a module whose source is in the image, too.

    An extension module comes before a source of that name in one folder, a package before both, and each
    before any in a later folder of ``sys.path``. The app layer's machine code is in :func:`native_objects`.

    Returns:
        ``layer/path`` of each, sorted.
    """
    folders = _import_folders(image)
    names = [
        {each[len(prefix) :] for each in paths if each.startswith(prefix)} for _, prefix, paths in folders
    ]
    found = set()
    for place, (layer, prefix, _) in enumerate(folders):
        for path in names[place]:
            folder, slash, last = path.rpartition("/")
            stem, _, kind = last.partition(".")
            module = f"{folder}{slash}{stem}".removesuffix("/__init__")
            native = last.endswith(".so") and layer != "app"
            if not native and (kind != "py" or module == "__init__"):
                continue
            after = names[place if native else place + 1 :]
            if any(f"{module}.py" in those or f"{module}/__init__.py" in those for those in after) or (
                stem == "__init__" and f"{module}.py" in names[place]
            ):
                found.add(f"{layer}/{prefix}{path}")
    return sorted(found)


def _import_folders(image: Image) -> list[tuple[str, str, list[str]]]:
    """The folders of ``sys.path`` in an enclave, in order: the layer, the path in it, the layer's files."""
    library = f"lib/python{'.'.join(image.manifest.python.split('.')[:2])}/"
    prefixes = {"python": (library, f"{library}lib-dynload/")}
    return [
        (layer.name, prefix, [entry.path for entry in layer.files])
        for layer in image.layers
        for prefix in prefixes.get(layer.name, ("",))
    ]


def _stream(f: BinaryIO, size: int, sink: Callable[[bytes], object], what: str) -> None:
    left = size
    while left:
        chunk = f.read(min(left, CHUNK))
        if not chunk:
            raise FormatError(f"{what}: {left} bytes are missing", code="truncated")
        sink(chunk)
        left -= len(chunk)


def write_image(
    out: BinaryIO,
    manifest_bytes: bytes,
    signature: bytes,
    interface: bytes,
    contents: Iterable[tuple[bytes, int, list[Source]]],
) -> None:
    """Write an image, streaming each layer's data.

    Args:
        out: file to write to, at its position.
        manifest_bytes: canonical JSON.
        signature: 1808 bytes of SIGSTRUCT.
        interface: canonical JSON.
        contents: index, data size and files of each layer, in the manifest's order.

    Raises:
        AuthenticityError: a file changed after its layer's index was built.
    """
    out.write(MAGIC)
    for block in (manifest_bytes, signature, interface):
        if block is not signature:
            out.write(len(block).to_bytes(4, "little"))
        out.write(block)
    for index, size, sources in contents:
        out.write(len(index).to_bytes(8, "little"))
        out.write(index)
        out.write(size.to_bytes(8, "little"))
        end = 0
        for source in sorted(sources, key=lambda source: source.path):
            start = layers.align(end)
            out.write(_ZEROS[: start - end])
            source.copy(out.write)
            end = start + source.size
