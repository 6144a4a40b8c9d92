"""Layers held: one host's slow file keeps nobody else waiting."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kluis.errors import AuthenticityError, UnavailableError
from kluis.tee.image import canonical
from kluis.tee.image.layers import Layer, encode_index, parse_index
from kluis.tee.platform.launching import holding

dropped: list[bytes] = []


def layer_of(path: Path, name: str, data: bytes) -> Layer:
    """A layer of one file, whose data is the file at ``path``."""
    path.write_bytes(data)
    index, size = encode_index([("file", 0o444, len(data), hashlib.sha256(data).hexdigest())])
    return Layer(name, f"/k/{name}", hashlib.sha256(index).digest(), parse_index(index, size, name), 0, size)


def test_a_file_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's image lies on a file system that answers when it likes: another's layer is held meanwhile."""
    slow, quick = layer_of(tmp_path / "a", "slow", b"a" * 10), layer_of(tmp_path / "b", "quick", b"b" * 10)
    reading, answer, copy = threading.Event(), threading.Event(), holding._copy
    held: list[bytes] = []
    holds = holding.Holding(lambda layer, *_: held.append(layer.digest), dropped.append)

    def waits(source: int, target: int, offset: int, size: int, name: str) -> None:
        if name == "slow":
            reading.set()
            answer.wait(300)
        copy(source, target, offset, size, name)

    def hold(path: Path, layer: Layer) -> None:
        image = os.open(path, os.O_RDONLY)
        try:
            holds.hold(image, layer, 0)
        finally:
            os.close(image)

    monkeypatch.setattr(holding, "_copy", waits)
    first = threading.Thread(target=hold, args=(tmp_path / "a", slow))
    first.start()
    assert reading.wait(300)
    second = threading.Thread(target=hold, args=(tmp_path / "b", quick))
    second.start()
    second.join(300)
    assert held == [quick.digest]

    answer.set()
    first.join(300)
    assert held == [quick.digest, slow.digest]


def test_more_than_this_machine_holds(tmp_path: Path) -> None:
    """A layer too large for the memory left is refused before a byte is copied; a smaller one is held."""
    large, small = layer_of(tmp_path / "a", "large", b"a" * 90), layer_of(tmp_path / "b", "small", b"b" * 60)
    held: list[bytes] = []
    holds = holding.Holding(lambda layer, *_: held.append(layer.digest), dropped.append, most_bytes=100)
    with open(tmp_path / "b", "rb") as image:
        holds.hold(image.fileno(), small, 0)
    with open(tmp_path / "a", "rb") as image, pytest.raises(UnavailableError) as refused:
        holds.hold(image.fileno(), large, 0)
    assert refused.value.message == "layer large: want at most 40 bytes, got 90"
    assert held == [small.digest]


def test_a_refused_layer_takes_no_room(tmp_path: Path) -> None:
    """A refused layer releases the space that it requested."""
    layer = layer_of(tmp_path / "a", "changed", b"a" * 90)
    holds = holding.Holding(lambda *_: None, dropped.append, most_bytes=100)
    (tmp_path / "a").write_bytes(b"b" * 90)
    for _ in range(3):
        with open(tmp_path / "a", "rb") as image, pytest.raises(AuthenticityError):
            holds.hold(image.fileno(), layer, 0)


def test_the_layer_on_which_the_platform_runs(tmp_path: Path) -> None:
    """Only its index is read, whatever data a file has; once it was found changed, its data is read too."""
    layer = layer_of(tmp_path / "a", "base", b"a" * 90)
    unpacked: list[tuple[bytes, int | None, int]] = []

    def unpack(_layer: Layer, part: holding.Part) -> None:
        index = os.pread(part.file, part.index_size, part.index_at)
        unpacked.append((index, part.data_at, os.fstat(part.file).st_size))

    holds = holding.Holding(unpack, dropped.append, laid=layer.digest)
    index = canonical.encode(list(layer.files))
    other = tmp_path / "other"
    other.write_bytes(b"")
    with other.open("rb") as image:
        assert holds.hold(image.fileno(), layer, 0) == index
    assert unpacked == [(index, None, len(index))]

    holds.forget(layer.digest)
    other.write_bytes(b"b" * 90)
    with other.open("rb") as image, pytest.raises(AuthenticityError):
        holds.hold(image.fileno(), layer, 0)
    with open(tmp_path / "a", "rb") as image:
        holds.hold(image.fileno(), layer, 0)
    assert unpacked[1:] == [(index, 0, 90 + len(index))]


def test_an_index_that_is_not_that_of_the_laid_layer(tmp_path: Path) -> None:
    """A file that names the digest of the platform's layer, and has an index of its own, is refused."""
    real, forged = layer_of(tmp_path / "a", "base", b"a" * 90), layer_of(tmp_path / "b", "base", b"b" * 90)
    lying = dataclasses.replace(forged, digest=real.digest)
    unpacked: list[Layer] = []
    holds = holding.Holding(lambda layer, *_: unpacked.append(layer), dropped.append, laid=real.digest)
    with open(tmp_path / "b", "rb") as image, pytest.raises(AuthenticityError, match="not canonical"):
        holds.hold(image.fileno(), lying, 0)
    assert unpacked == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("fault", ["second file", "memory"])
def test_each_half_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Of two threads the second one finds another file, or ends for lack of memory: nothing is unpacked."""
    data = b"abc".ljust(4096, b"\0") + b"abc"
    files = [(name, 0o444, 3, hashlib.sha256(b"abc").hexdigest()) for name in ("one", "two")]
    index, size = encode_index(files)
    layer = Layer("app", "/k/app", hashlib.sha256(index).digest(), parse_index(index, size, "app"), 0, size)
    (tmp_path / "image").write_bytes(data[:-1] + b"d" if fault == "second file" else data)

    def digest(part: bytes | memoryview) -> Any:
        if fault == "memory" and threading.current_thread().name == "measure":
            raise MemoryError
        return hashlib.new("sha256", part)

    monkeypatch.setattr(holding, "hashlib", SimpleNamespace(sha256=digest))
    with (tmp_path / "image").open("rb") as image, pytest.raises(AuthenticityError) as refused:
        holding.Holding(lambda *_: pytest.fail("unpacked"), dropped.append).hold(image.fileno(), layer, 0)
    assert refused.value.code == "layer_changed"
    wanted = "'two': want SHA-256" if fault == "second file" else "not all of it could be measured"
    assert wanted in refused.value.message


def test_a_sealed_image_is_not_copied(tmp_path: Path) -> None:
    """Of an image that nobody can change, a layer is measured and unpacked where it is."""
    plain = layer_of(tmp_path / "a", "app", b"a" * 90)
    index = canonical.encode(list(plain.files))
    image = sealed(b"head", index, b"a" * 90)
    layer = dataclasses.replace(plain, data_offset=4 + 8 + len(index) + 8)
    parts: list[holding.Part] = []
    holds = holding.Holding(lambda _, part: parts.append(part), dropped.append)
    assert holds.hold(image, layer, 0) == index
    os.close(image)
    assert parts == [holding.Part(image, layer.data_offset, 4 + 8, len(index))]


@pytest.mark.parametrize("other", [b"b" * 90, b"a" * 89 + b"b"], ids=["all", "one byte"])
def test_a_sealed_image_with_other_data(tmp_path: Path, other: bytes) -> None:
    """It is measured like any other."""
    plain = layer_of(tmp_path / "a", "app", b"a" * 90)
    index = canonical.encode(list(plain.files))
    image = sealed(b"", index, other)
    layer = dataclasses.replace(plain, data_offset=8 + len(index) + 8)
    with pytest.raises(AuthenticityError, match="want SHA-256"):
        holding.Holding(lambda *_: pytest.fail("unpacked"), dropped.append).hold(image, layer, 0)
    os.close(image)


@pytest.mark.parametrize("shift", [0, 1, -40])
def test_a_sealed_image_with_another_index(tmp_path: Path, shift: int) -> None:
    """The index that is unpacked is the one of the digest, also where a cached layer's was not read."""
    plain = layer_of(tmp_path / "a", "app", b"a" * 90)
    index = canonical.encode(list(plain.files))
    image = sealed(b"", index if shift else index.replace(b"file", b"life"), b"a" * 90)
    layer = dataclasses.replace(plain, data_offset=8 + len(index) + 8 + shift)
    with pytest.raises(AuthenticityError, match="its index is not in the image"):
        holding.Holding(lambda *_: pytest.fail("unpacked"), dropped.append).hold(image, layer, 0)
    os.close(image)


def sealed(head: bytes, index: bytes, data: bytes) -> int:
    """A sealed memory file with one layer behind ``head``."""
    made = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    parts = (head, len(index).to_bytes(8, "little"), index, len(data).to_bytes(8, "little"), data)
    os.write(made, b"".join(parts))
    holding.seal(made)
    return made


def test_nothing_hides_between_files(tmp_path: Path) -> None:
    """Bytes between two files, which no hash covers, must be zero."""
    image = tmp_path / "image"
    files = [(name, 0o444, 3, hashlib.sha256(b"abc").hexdigest()) for name in ("one", "two")]
    index, size = encode_index(files)
    data = bytearray(b"abc".ljust(4096, b"\0") + b"abc")
    layer = Layer("app", "/k/app", hashlib.sha256(index).digest(), parse_index(index, size, "app"), 0, size)
    image.write_bytes(data)
    held: list[bytes] = []
    with open(image, "rb") as file:
        holding.Holding(lambda layer, *_: held.append(layer.digest), dropped.append).hold(
            file.fileno(), layer, 0
        )
    data[100] = 1
    image.write_bytes(data)
    with open(image, "rb") as file, pytest.raises(AuthenticityError) as refused:
        holding.Holding(lambda *_: None, dropped.append).hold(file.fileno(), layer, 0)

    assert held == [layer.digest]
    assert refused.value.message == "layer app: 'two': bytes before it are not zero"
