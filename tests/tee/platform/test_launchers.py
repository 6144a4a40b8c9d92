"""A platform's checks of an image before it starts it."""

from __future__ import annotations

import io

import pytest

from kluis.errors import UnavailableError
from kluis.tee.image import archive
from kluis.tee.platform.launchers import check_launcher
from kluis.tee.process import native
from tests.tee.image import samples


@pytest.mark.parametrize(
    ("python", "also"),
    [
        (
            "3.14.1",
            "; or run it unchanged on a separate platform: KLUIS_HOME=DIR kluis run FILE, with a"
            " kluis of Python 3.14",
        ),
        (None, ""),
    ],
)
def test_an_image_of_another_runtime(python: str | None, also: str) -> None:
    """Both runtimes are named, with the Python and the Kluis of each; and each command that fixes it."""
    own = native.runtime()
    stated = python or own.python
    image = archive.read_image(io.BytesIO(samples.image(python=stated, kluis="0.0.9")))
    layer = image.layer("python")
    assert layer is not None
    launcher = next(each.sha256 for each in layer.files if each.path == "bin/kluis-launcher")
    with pytest.raises(UnavailableError) as caught:
        check_launcher(image)
    assert caught.value.code == "launcher_unknown"
    assert caught.value.message == (
        f"image hello: launcher: want {own.launcher[:16]}, of this platform's kluis-runtime {own.kluis}"
        f" for Python {own.python}, got {launcher[:16]}, of kluis-runtime 0.0.9 for Python {stated}"
    )
    mine = ".".join(own.python.split(".")[:2])
    assert caught.value.hint == (
        f"build it again: kluis build DIR -o FILE --key KEY, with a kluis of Python {mine}, as here{also}"
    )
