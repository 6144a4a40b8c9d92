"""The ``.kluis`` file: what is read is what was written, and whatever else is refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kluis.errors import AuthenticityError, FormatError, KluisError
from kluis.hashes import sha256
from kluis.tee.image import archive, launchable, layers, read_file, read_image, sources, verify_layers
from tests.strategies import examples
from tests.tee.image import samples

GOOD = samples.image(signer=samples.key())


def whole(data: bytes) -> archive.Image:
    f = io.BytesIO(data)
    found = read_image(f)
    launchable(found)
    verify_layers(f, found)
    return found


def test_reads_what_was_written() -> None:
    """Manifest, interface and every file come back as they went in."""
    found = whole(GOOD)
    layer = found.layer("app")

    assert found.image_id == sha256(found.manifest_bytes)
    assert found.interface == samples.INTERFACE
    assert [layer.name for layer in found.layers] == ["python", "kluis", "app"]
    assert layer is not None
    assert {e.path: read_file(io.BytesIO(GOOD), layer, e) for e in layer.files} == {
        "app.py": b"app = 1\n",
        "empty.txt": b"",
    }


def again(data: bytes) -> bytes:
    """Read an image and write it again from the result."""
    f = io.BytesIO(data)
    found = read_image(f)
    verify_layers(f, found)
    out = io.BytesIO()
    contents = []
    for layer in found.layers:
        index, size = layers.encode_index((e.path, e.mode, e.size, e.sha256) for e in layer.files)
        made = [sources.of_bytes(e.path, read_file(f, layer, e), e.mode) for e in layer.files]
        contents.append((index, size, made))
    archive.write_image(out, found.manifest.encode(), found.sigstruct, found.interface, contents)
    return out.getvalue()


def test_writes_what_was_read() -> None:
    """An image that is read and written again is the same bytes."""
    assert again(GOOD) == GOOD


EDGES = sorted(
    {0, 7, 8, 11, 12, len(GOOD) - 1}
    | {
        GOOD.index(mark) + skip
        for mark in (b'"argv"', b"\x06\x00\x00\x00\xe1", b'{"ecalls', b'[{"mode"')
        for skip in (-8, -4, -1, 0, 3)
    }
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good image with one to three edits: a flipped bit, bytes cut, put in, doubled, or moved."""
    data = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.one_of(st.sampled_from(EDGES), st.integers(0, len(data) - 1))) % len(data)
        match draw(st.sampled_from(["flip", "flip", "flip", "cut", "insert", "double", "zero", "number"])):
            case "flip":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + draw(st.integers(1, 5000))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=16))
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 5000))]
            case "zero":
                data[at : at + 4] = bytes(4)
            case _:
                data[at : at + 8] = draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little")
        if not data:
            data = bytearray(GOOD[:8])
    return bytes(data)


@given(mutated())
@settings(max_examples=examples(500), deadline=None)
def test_a_changed_image_is_refused(data: bytes) -> None:
    """Whatever is launchable and verified is the very file that was signed; only our errors escape."""
    try:
        whole(data)
    except KluisError:
        return
    assert data == GOOD


@given(mutated())
@settings(max_examples=examples(300), deadline=None)
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever reads and verifies, signed or not, writes back to the same bytes."""
    try:
        made = again(data)
    except KluisError:
        return
    assert made == data


def test_every_part_is_covered() -> None:
    """A flipped bit in each part of the file, every 37th byte and all boundaries, is refused."""
    for at in sorted({*EDGES, *range(0, len(GOOD), 37)}):
        changed = bytearray(GOOD)
        changed[at] ^= 1
        with pytest.raises(KluisError):
            whole(bytes(changed))


@pytest.mark.parametrize("size", [0, 1, 8, 11, 12, 500, 2500, len(GOOD) - 1])
def test_cut_short(size: int) -> None:
    """A file that ends early is a format error, wherever it ends."""
    with pytest.raises(FormatError):
        read_image(io.BytesIO(GOOD[:size]))


def test_trailing_bytes() -> None:
    """Bytes after the end are refused, so that one image has one file."""
    with pytest.raises(FormatError) as caught:
        read_image(io.BytesIO(GOOD + b"\0"))
    assert caught.value.message == f"image at {len(GOOD):#x}: 1 bytes after the end"


def test_not_an_image() -> None:
    """Another file is recognised by its first bytes, with the command that makes an image."""
    with pytest.raises(FormatError) as caught:
        read_image(io.BytesIO(b"PK\x03\x04 a zip file"))
    assert caught.value.message == (r"image.magic at 0x0: want b'KLUIS\x00\x01\n', got b'PK\x03\x04 a z'")
    assert caught.value.hint == "a .kluis file is made by: kluis build DIR -o FILE --key KEY"


def test_lengths_are_bounded_before_they_are_read() -> None:
    """A length of four gigabytes allocates no memory."""

    class Counting(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.largest = max(self.largest, size or 0)
            return super().read(size)

    f = Counting(GOOD[:8] + b"\xff\xff\xff\xff" + GOOD[12:])
    with pytest.raises(FormatError) as caught:
        read_image(f)
    assert caught.value.message == "image.manifest: want at most 1048576 bytes, got 4294967295"
    assert f.largest <= 1 << 20


def test_bytes_hidden_between_files() -> None:
    """Bytes in the padding between two files are found when the layers are verified."""
    found = read_image(io.BytesIO(GOOD))
    layer = found.layers[0]
    changed = bytearray(GOOD)
    changed[layer.data_offset + layer.files[0].size] = 1
    f = io.BytesIO(bytes(changed))
    image = read_image(f)
    with pytest.raises(AuthenticityError) as caught:
        verify_layers(f, image)
    assert caught.value.message == ("layer python: 'lib/ld-linux-x86-64.so.2': bytes before it are not zero")


def test_a_changed_file_is_named() -> None:
    """A flipped byte in a layer is refused, and the file is named."""
    changed = GOOD.replace(b"app = 1\n", b"app = 2\n")
    f = io.BytesIO(changed)
    with pytest.raises(AuthenticityError, match=r"layer app: 'app\.py': want SHA-256 "):
        verify_layers(f, read_image(f))


def test_a_layer_swapped_for_another() -> None:
    """A layer of another image, whole and well made, is refused under this manifest."""
    other = samples.image(samples.contents(app={"app.py": b"app = 2\n"}))
    head = GOOD[: GOOD.index(b'[{"mode"') - 8]
    with pytest.raises(FormatError, match="want SHA-256"):
        read_image(io.BytesIO(head + other[other.index(b'[{"mode"') - 8 :]))


def test_a_file_that_changes_during_a_build(tmp_path: Path) -> None:
    """The writer holds every file to the hash that its index names."""
    (tmp_path / "app.py").write_text("changed!")
    lying = sources.Source("app.py", 0o444, 8, "0" * 64, tmp_path / "app.py")
    with pytest.raises(AuthenticityError) as caught:
        samples.image({**samples.contents(), "app": [lying]})
    assert caught.value.message == f"{tmp_path / 'app.py'}: changed while the image was built"


def test_known_layers_are_passed_over() -> None:
    """Of a layer that is known by its digest the index is not read again; all else is as before."""
    first = read_image(io.BytesIO(GOOD))
    known = {layer.digest: layer.files for layer in first.layers}
    changed = bytearray(GOOD)
    changed[GOOD.index(b'[{"mode"') + 3] ^= 1

    assert read_image(io.BytesIO(GOOD), known) == first
    assert read_image(io.BytesIO(bytes(changed)), known) == first
    with pytest.raises(FormatError):
        read_image(io.BytesIO(bytes(changed)))


def test_known_layers_have_one_size() -> None:
    """A manifest that gives a known layer another size is refused as it would be unknown."""
    known = {layer.digest: layer.files[:1] for layer in read_image(io.BytesIO(GOOD)).layers}

    with pytest.raises(FormatError, match="bytes of data, as in its index, got"):
        read_image(io.BytesIO(GOOD), known)
