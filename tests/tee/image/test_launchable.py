"""Conditions for a launch: signed, by the stated signer, and no file that runs automatically."""

from __future__ import annotations

import dataclasses
import io

import pytest

from kluis.errors import AuthenticityError, FormatError, UnavailableError
from kluis.tee import sigstruct
from kluis.tee.image import launchable, read_image
from tests.tee.image import samples


def test_says_who_vouches_for_what() -> None:
    """A signed image gives its measurement, signer, product, SVN and attributes."""
    found = read_image(io.BytesIO(samples.image(signer=samples.key())))
    n = samples.key().public_key().public_numbers().n

    signed = launchable(found)

    assert signed.mrenclave == found.image_id
    assert signed.mrsigner == sigstruct.sha256(n.to_bytes(384, "little"))
    assert (signed.product_id, signed.svn, signed.debug) == (7, 3, False)
    assert (signed.flags, signed.xfrm) == (0x85, 0xE7)


def test_debug_does_not_change_the_measurement() -> None:
    """The debug build of an image has its measurement, and the debug flag."""
    plain = launchable(read_image(io.BytesIO(samples.image(signer=samples.key()))))
    debug = launchable(read_image(io.BytesIO(samples.image(signer=samples.key(), debug=True))))
    assert debug == dataclasses.replace(plain, debug=True, flags=0x87)


def test_unsigned() -> None:
    """An unsigned image is not launchable, and the hint shows how to sign."""
    with pytest.raises(AuthenticityError) as caught:
        launchable(read_image(io.BytesIO(samples.image())))
    assert caught.value.message == "SIGSTRUCT: want a signature, got none"
    assert caught.value.hint == "sign it: kluis sign FILE --key author.pem"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"isvprodid": 8}, "SIGSTRUCT product_id: want 7, as in the manifest, got 8"),
        ({"isvsvn": 4}, "SIGSTRUCT svn: want 3, as in the manifest, got 4"),
        ({"date": 0x20260102}, "SIGSTRUCT date: want 20260101, as in the manifest, got 20260102"),
        ({"flags": 0x95}, "SIGSTRUCT flags: want 0x85, got 0x95"),
        ({"flags_mask": 0}, "SIGSTRUCT flags_mask: want 0xffffffffffffffff, got 0x0"),
    ],
)
def test_a_signature_that_says_otherwise(changed: dict[str, object], message: str) -> None:
    """A signature that holds, by a real key, over something else than the manifest, is refused."""
    data = samples.image()
    found = read_image(io.BytesIO(data))
    struct = dataclasses.replace(sigstruct.parse(found.sigstruct), **changed)  # type: ignore[arg-type]
    signed = sigstruct.sign(struct, samples.key()).encode()
    with pytest.raises(AuthenticityError) as caught:
        launchable(dataclasses.replace(found, sigstruct=signed))
    assert caught.value.message == message


def test_a_signature_of_another_image() -> None:
    """A genuine signature, moved to another image, is refused."""
    other = read_image(io.BytesIO(samples.image(signer=samples.key(), svn=3, threads=9)))
    found = read_image(io.BytesIO(samples.image(signer=samples.key())))
    with pytest.raises(AuthenticityError, match="SIGSTRUCT mrenclave: want "):
        launchable(dataclasses.replace(found, sigstruct=other.sigstruct))


@pytest.mark.parametrize(
    ("layer", "path", "message"),
    [
        ("site", "evil.pth", "layer site: evil.pth: want no .pth file, which would run code at start"),
        (
            "app",
            "sitecustomize.py",
            "layer app: sitecustomize.py: want no sitecustomize, which would run code at start",
        ),
        (
            "kluis",
            "usercustomize/__init__.py",
            "layer kluis: usercustomize/__init__.py: want no usercustomize, which would run code at start",
        ),
        ("app", "module.pyc", "layer app: module.pyc: want source, got bytecode that nobody can review"),
        (
            "app",
            "__pycache__/hidden.cpython-311.pyc",
            "layer app: __pycache__/hidden.cpython-311.pyc: want bytecode next to its source, found"
            " no hidden.py",
        ),
        (
            "site",
            "a/__pycache__/b/c.py",
            "layer site: a/__pycache__/b/c.py: want bytecode next to its source, found no module",
        ),
    ],
)
def test_a_file_that_runs_unasked(layer: str, path: str, message: str) -> None:
    """An author cannot add start-up hooks, or bytecode without its source."""
    data = samples.image(samples.contents(**{layer: {path: b"x"}}), signer=samples.key())
    with pytest.raises(FormatError) as caught:
        launchable(read_image(io.BytesIO(data)))
    assert caught.value.message == message


def test_bytecode_beside_its_source() -> None:
    """Bytecode whose source is there is what every layer has."""
    files = {"m/a.py": b"", "m/__pycache__/a.cpython-311.pyc": b"x", "__pycache__/app.cpython-311.pyc": b"y"}
    launchable(read_image(io.BytesIO(samples.image(samples.contents(app=files), signer=samples.key()))))


def test_a_launcher_is_a_program() -> None:
    """Without the launcher or the loader as programs in it, nothing can start."""
    made = samples.contents()
    made["python"] = [file for file in made["python"] if file.path != "bin/kluis-launcher"]
    with pytest.raises(FormatError) as caught:
        launchable(read_image(io.BytesIO(samples.image(made, signer=samples.key()))))
    assert caught.value.message == "layer python: want the program bin/kluis-launcher, got none"


def test_another_architecture() -> None:
    """An image for other processors is refused with what it is for, and how to build one for these."""
    made = samples.contents(python={"lib/ld-linux-aarch64.so.1": b"\x7fELF loader"})
    launchable(read_image(io.BytesIO(samples.image(made, signer=samples.key()))))
    made["python"] = [file for file in made["python"] if file.path != "lib/ld-linux-x86-64.so.2"]
    with pytest.raises(UnavailableError) as caught:
        launchable(read_image(io.BytesIO(samples.image(made, signer=samples.key()))))
    assert caught.value.message == "image: architecture: want x86-64, got aarch64"
    assert (caught.value.code, caught.value.exit_code) == ("architecture", 7)
    assert caught.value.hint == "build it on x86-64: kluis build DIR -o FILE --key KEY"


@pytest.mark.parametrize("name", ["python", "kluis", "app"])
def test_a_layer_is_missing(name: str) -> None:
    """Three layers every image has; without one it is not launchable."""
    made = {key: files for key, files in samples.contents().items() if key != name}
    with pytest.raises(FormatError) as caught:
        launchable(read_image(io.BytesIO(samples.image(made, signer=samples.key()))))
    assert caught.value.message == f"image: want a layer {name}, got none"
