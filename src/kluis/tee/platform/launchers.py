"""Check that an image was built with this platform's launcher."""

from __future__ import annotations

from kluis.errors import UnavailableError
from kluis.tee import image as images
from kluis.tee.image.manifest import LAUNCHER
from kluis.tee.process import native


def check_launcher(read: images.Image) -> None:
    """Check that the image's launcher is this platform's own: its attestation depends on the launcher's
    restrictions.

    Raises:
        UnavailableError: it is another one; names the runtimes of both.
    """
    runtime, stated = native.runtime(), read.manifest
    layer = read.layer("python")
    digest = next((e.sha256 for e in layer.files if e.path == LAUNCHER), "") if layer else ""
    if digest == runtime.launcher:
        return
    raise UnavailableError(
        f"image {stated.name}: launcher: want {runtime.launcher[:16]},"
        f" of this platform's kluis-runtime {runtime.kluis} for Python {runtime.python},"
        f" got {digest[:16] or 'none'}, of kluis-runtime {stated.kluis} for Python {stated.python}",
        code="launcher_unknown",
        hint=_other_runtime(runtime.python, stated.python),
    )


def _other_runtime(own: str, other: str) -> str:
    """How to fix an image for another runtime: by another build or platform, depending on its Python."""
    mine, its = (".".join(each.split(".")[:2]) for each in (own, other))
    build = f"build it again: kluis build DIR -o FILE --key KEY, with a kluis of Python {mine}, as here"
    if mine == its:
        return build
    return (
        f"{build}; or run it unchanged on a separate platform: KLUIS_HOME=DIR kluis run FILE, with a"
        f" kluis of Python {its}"
    )
