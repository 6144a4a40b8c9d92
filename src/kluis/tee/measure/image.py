"""Measure an image: its image id, the measurement of each TEE, and its signer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kluis.files import named
from kluis.frozen import frozen
from kluis.tee import sigstruct
from kluis.tee.image import Image, archive, check_manifest, composition
from kluis.tee.image.build import recompiled
from kluis.tee.image.layers import Layer


@frozen
class Measured:
    """The result of ``measure``; digests are 32 bytes.

    Attributes:
        mrenclave: as reported by the process TEE and in SGX-shaped evidence: the image id.
        mrsigner: None for an unsigned image.
        bytecode: whether the image's bytecode was compared with its compiled source, and is equal; False: it
            is for another version of Python, and was not compared.
        installed_interpreter: whether its interpreter and libraries, which are machine code, are those of the
            installed runtime.
        native_objects: files of the app layer that are machine code, which is not compared with a source.
        in_place: machine code of other layers, and sources, that are imported in the place of a module whose
            source is in the image, too, as ``layer/path``.
        sources: how much source the image contains, by origin.
    """

    image: Image
    image_id: bytes
    mrenclave: bytes
    mrsigner: bytes | None
    debug: bool
    bytecode: bool
    installed_interpreter: bool
    native_objects: tuple[str, ...]
    in_place: tuple[str, ...]
    sources: dict[str, composition.Source]

    @property
    def measurements(self) -> dict[str, bytes]:
        """The measurement of each TEE that can launch this image, by backend."""
        return {"process": self.mrenclave}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The image's layers, in order."""
        return self.image.layers

    def document(self) -> dict[str, Any]:
        """All of it as JSON values, digests in hex."""
        manifest = self.image.manifest
        return {
            "name": manifest.name,
            "image_id": self.image_id.hex(),
            "mrenclave": self.mrenclave.hex(),
            "mrsigner": self.mrsigner.hex() if self.mrsigner else None,
            "product_id": manifest.product_id,
            "svn": manifest.svn,
            "debug": self.debug,
            "bytecode": "compared" if self.bytecode else "not compared",
            "interpreter": "installed" if self.installed_interpreter else "another",
            "native_objects": list(self.native_objects),
            "in_place": list(self.in_place),
            "source": {
                kind: {"files": source.files, "lines": source.lines} for kind, source in self.sources.items()
            },
            "measurements": {backend: value.hex() for backend, value in self.measurements.items()},
            "interface": manifest.interface,
            "kluis": manifest.kluis,
            "python": manifest.python,
            "grants": manifest.grants,
            "layers": [
                {
                    "name": layer.name,
                    "mount": layer.mount,
                    "digest": layer.digest.hex(),
                    "files": len(layer.files),
                    "bytes": sum(entry.size for entry in layer.files),
                }
                for layer in self.image.layers
            ],
        }


def measure(path: Path) -> Measured:
    """Measure every byte of the image at ``path``, and check its signature if it has one.

    The source of every module is compiled, and compared with its bytecode in the image.

    Raises:
        FormatError: not an image; or a source exceeds the time or memory limit of compilation (code
            ``compile_limit``), or is not in UTF-8 (code ``source_encoding``).
        AuthenticityError: a layer does not match the manifest, or the signature is wrong; or bytecode does
            not match its source (code ``bytecode``).
        UsageError: the file cannot be read.
    """
    with named(path) as f:
        image = archive.read_image(f)
        archive.verify_layers(f, image)
        compared = recompiled.check(f, image)
        native = tuple(archive.native_objects(f, image))
        sources = composition.sources(f, image)
    struct = sigstruct.parse(image.sigstruct)
    mrsigner = sigstruct.verify(struct) if struct.signed else None
    check_manifest(image, struct)
    return Measured(
        image,
        image.image_id,
        struct.enclavehash,
        mrsigner,
        struct.debug,
        compared,
        recompiled.has_installed_interpreter(image),
        native,
        tuple(archive.imported_in_place(image)),
        sources,
    )
