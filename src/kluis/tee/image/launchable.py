"""Check whether an image may be launched: its signature, and the required contents of its layers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from kluis.errors import AuthenticityError, FormatError, UnavailableError
from kluis.frozen import frozen
from kluis.tee import sigstruct
from kluis.tee.image import manifest, pyc, sources
from kluis.tee.image.archive import Image
from kluis.tee.image.layers import PROGRAM_MODE, Layer
from kluis.tee.sigstruct import SigStruct

LOADERS: Final = re.compile(r"lib/ld-linux-([a-z0-9_-]{1,32})\.so\.[0-9]")


@frozen
class Signed:
    """The signer of an image: MRSIGNER (32 bytes), and the signed statement."""

    mrenclave: bytes
    mrsigner: bytes
    product_id: int
    svn: int
    debug: bool
    flags: int
    xfrm: int


def launchable(image: Image) -> Signed:
    """Check that an image is signed and complete enough to start. ``verify_layers`` checks its layers' bytes.

    1. The signature structure verifies under its own key.
    2. It names this manifest: MRENCLAVE, product id, SVN and date.
    3. Its attributes are INIT, MODE64 and KSS, with or without DEBUG, and its mask enforces them.
    4. The layers contain the launcher, the loader, Kluis and the application.
    5. No file is one that an interpreter runs automatically, and no bytecode is without its source.

    Raises:
        AuthenticityError: 1 to 3.
        FormatError: 4 and 5.
        UnavailableError: it has the loader of another architecture.
    """
    struct = sigstruct.parse(image.sigstruct)
    mrsigner = sigstruct.verify(struct)  # 1
    check_manifest(image, struct)  # 2
    sigstruct.check_attributes(struct)  # 3
    for name in ("python", "kluis", "app"):  # 4
        if image.layer(name) is None:
            raise FormatError(f"image: want a layer {name}, got none")
    for layer in image.layers:  # 5
        _check_files(layer)
    return Signed(
        struct.enclavehash, mrsigner, struct.isvprodid, struct.isvsvn, struct.debug, struct.flags, struct.xfrm
    )


def check_manifest(image: Image, struct: SigStruct) -> None:
    """Check that a SIGSTRUCT, signed or not, describes this image.

    Raises:
        AuthenticityError: it describes another image.
    """
    manifest = image.manifest
    for field, want, got in (
        ("mrenclave", image.image_id.hex(), struct.enclavehash.hex()),
        ("product_id", manifest.product_id, struct.isvprodid),
        ("svn", manifest.svn, struct.isvsvn),
        ("date", manifest.date, f"{struct.date:08x}"),
    ):
        if want != got:
            raise AuthenticityError(f"SIGSTRUCT {field}: want {want}, as in the manifest, got {got}")


def _check_architecture(paths: Iterable[str]) -> None:
    """Refuse an image that is complete for other processors: its loader has another name."""
    architectures = {path: match[1] for path in paths if (match := LOADERS.fullmatch(path))}
    if architectures and manifest.LOADER not in architectures:
        raise UnavailableError(
            f"image: architecture: want x86-64, got {', '.join(sorted(architectures.values()))}",
            hint="build it on x86-64: kluis build DIR -o FILE --key KEY",
            code="architecture",
        )


def _check_files(layer: Layer) -> None:
    modes = {entry.path: entry.mode for entry in layer.files}
    if layer.name == "python":
        _check_architecture(modes)
        for path in (manifest.LAUNCHER, manifest.LOADER):
            if modes.get(path) != PROGRAM_MODE:
                raise FormatError(f"layer python: want the program {path}, got none")
    for path in modes:  # 5
        if "__pycache__" not in path:
            try:
                sources.refuse_hooks(path, f"layer {layer.name}")
            except sources.HookError as error:
                raise FormatError(error.message) from error
            continue
        source = pyc.source_path(path)
        if source not in modes:
            raise FormatError(
                f"layer {layer.name}: {path}: want bytecode next to its source, found no {source or 'module'}"
            )
