"""``kluis inspect``: recognise bytes of any kind and print their contents.

Nothing is verified. ``FILE.runtime.json`` and ``FILE.launch.json`` in a file's folder are shown with it; a
folder is one of configfs-tsm's, with ``provider``, ``outblob`` and ``auxblob``.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, BinaryIO, Final

from kluis.cli import render
from kluis.cli.evidence import inspect_text as text
from kluis.cli.evidence import tsm_folder
from kluis.cli.evidence.files import beside_of
from kluis.cli.image import inspect_image
from kluis.cli.parameters import argument
from kluis.errors import FormatError
from kluis.evidence import sniff as sniffing
from kluis.evidence.sniff import Found
from kluis.files import named
from kluis.formats.encoding.armor import MAX_SIZE
from kluis.views import fields, recognised

STDIN: Final = "-"
_BESIDE: Final = {"runtime_data": "runtime", "launch": "launch"}
_CLOSING: Final = "\n\nnothing above is verified: {} checks it"


def inspect(
    file: Annotated[str, argument("A file, a folder of configfs-tsm, or - for standard input.")],
) -> None:
    """Print the contents of evidence or related files, unverified.

    Reads a quote, report, document or token, and its wrappers; a certificate, a CRL, an event log,
    collateral; an image.

    For example: kluis inspect evidence.bin
    """
    if file != STDIN and inspect_image.is_image(Path(file)):
        image = inspect_image.read_contents(Path(file))
        render.out({"verified": False, **image.value}, render.fold(render.table(image.rows) + image.closing))
        return
    sniffed = sniffing.sniff(read(file))
    beside = _beside(Path(file)) if file != STDIN else {}
    shown = dataclasses.replace(sniffed, within=(*beside.items(), *sniffed.within))
    checks = "kluis token verify" if fields.is_result(sniffed.value) else "kluis verify"
    closing = _CLOSING.format(checks)
    render.out(
        {"verified": False, **recognised.value(shown)}, render.fold("\n".join(text.lines(shown)) + closing)
    )


def read(file: str) -> bytes:
    """Read a file, a folder of configfs-tsm, or standard input: at most 64 MiB.

    Raises:
        UsageError: it cannot be read.
        FormatError: it is larger.
    """
    if file == STDIN:
        return _read_bounded(sys.stdin.buffer, "standard input")
    path = Path(file)
    if path.is_dir():
        return tsm_folder.read(path, _file)
    return _file(path)


def _file(path: Path) -> bytes:
    with named(path) as file:
        return _read_bounded(file, str(path))


def _read_bounded(file: BinaryIO, what: str) -> bytes:
    data = file.read(MAX_SIZE + 1)
    if len(data) > MAX_SIZE:
        raise FormatError(f"{what}: is more than {MAX_SIZE} bytes", code="too_large")
    return data


def _beside(path: Path) -> dict[str, Found]:
    places = {name: beside_of(path, suffix) for name, suffix in _BESIDE.items()}
    return {name: sniffing.sniff(_file(place)) for name, place in places.items() if place is not None}
