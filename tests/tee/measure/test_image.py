"""What an image measures to, after every byte of it was checked."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from kluis.errors import AuthenticityError, UsageError
from kluis.hashes import sha256
from kluis.tee.image import read_image
from kluis.tee.image.build import interpreter
from kluis.tee.measure import image
from tests.tee.image import samples


def test_says_all_of_it(tmp_path: Path) -> None:
    """Image id, measurement, signer, product, SVN, debug and each layer's digest."""
    path = tmp_path / "a.kluis"
    path.write_bytes(samples.image(signer=samples.key()))
    found = read_image(io.BytesIO(path.read_bytes()))
    n = samples.key().public_key().public_numbers().n

    document = image.measure(path).document()

    assert document == {
        "name": "hello",
        "image_id": found.image_id.hex(),
        "mrenclave": found.image_id.hex(),
        "mrsigner": sha256(n.to_bytes(384, "little")).hex(),
        "product_id": 7,
        "svn": 3,
        "bytecode": "compared" if interpreter.version() == "3.11.7" else "not compared",
        "debug": False,
        "interpreter": "another",
        "native_objects": [],
        "in_place": [],
        "source": {
            "kluis": {"files": 2, "lines": 1},
            "interpreter": {"files": 1, "lines": 1},
            "libraries": {"files": 0, "lines": 0},
            "application": {"files": 1, "lines": 1},
        },
        "measurements": {"process": found.image_id.hex()},
        "interface": sha256(samples.INTERFACE).hex(),
        "kluis": "0.1.0",
        "python": "3.11.7",
        "grants": [],
        "layers": [
            {
                "name": layer.name,
                "mount": layer.mount,
                "digest": layer.digest.hex(),
                "files": len(layer.files),
                "bytes": sum(entry.size for entry in layer.files),
            }
            for layer in found.layers
        ],
    }


def test_unsigned(tmp_path: Path) -> None:
    """An image that waits for its signature measures too, and names no signer."""
    path = tmp_path / "a.kluis"
    path.write_bytes(samples.image())
    assert image.measure(path).mrsigner is None


def test_a_changed_byte(tmp_path: Path) -> None:
    """A file that does not match its index has no measurement."""
    path = tmp_path / "a.kluis"
    path.write_bytes(samples.image(signer=samples.key()).replace(b"app = 1\n", b"app = 3\n"))
    with pytest.raises(AuthenticityError):
        image.measure(path)


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there is the caller's mistake."""
    with pytest.raises(UsageError) as caught:
        image.measure(tmp_path / "a.kluis")
    assert caught.value.message == f"{tmp_path}/a.kluis: cannot be read: No such file or directory"
