"""Show a ``.kluis`` image for ``kluis inspect``: the contents of its manifest, unverified."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from kluis.files import named

MAGIC: Final = b"KLUIS\x00\x01\n"
_STATED: Final = (
    "image_id",
    "name",
    "product_id",
    "svn",
    "kluis",
    "python",
    "entry",
    "heap_bytes",
    "threads",
)
_CLOSING: Final = "\n\nnothing above is verified: kluis measure {file} checks every byte of it"


class Shown(NamedTuple):
    """The description of an image, for ``--json`` and as rows for people."""

    value: dict[str, Any]
    rows: list[tuple[str, str]]
    closing: str


def is_image(path: Path) -> bool:
    """Whether a file begins as an image does.

    Raises:
        UsageError: it cannot be read.
    """
    if not path.is_file():
        return False
    with named(path) as file:
        return file.read(len(MAGIC)) == MAGIC


def read_contents(path: Path) -> Shown:
    """The contents of an image's manifest.

    Raises:
        FormatError: it is not in the image format.
    """
    # The verifier's commands load no part of the attester, unless the user gives them an image.
    from kluis.tee import sigstruct
    from kluis.tee.image.archive import read_image

    with path.open("rb") as file:
        image = read_image(file)
    stated = image.manifest
    signed = sigstruct.parse(image.sigstruct).signed
    value = {
        "kind": "Kluis image",
        "bytes": path.stat().st_size,
        "image_id": image.image_id.hex(),
        "name": stated.name,
        "product_id": stated.product_id,
        "svn": stated.svn,
        "signed": signed,
        "kluis": stated.kluis,
        "python": stated.python,
        "entry": stated.entry,
        "heap_bytes": stated.heap_bytes,
        "threads": stated.threads,
        "grants": list(stated.grants),
        "layers": [{"name": layer.name, "files": len(layer.files)} for layer in image.layers],
    }
    rows = [("kind", "Kluis image"), ("size", f"{value['bytes']} bytes")]
    rows += [(name, str(value[name])) for name in _STATED]
    rows.append(("signed", "yes: kluis measure names the signer" if signed else "no: kluis sign does that"))
    rows.append(("grants", ", ".join(stated.grants) or "none"))
    rows += [(f"layer {layer.name}", f"{len(layer.files)} files") for layer in image.layers]
    return Shown(value, rows, _CLOSING.format(file=path))
