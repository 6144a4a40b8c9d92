"""A sealed model opens only as it was sealed: key, order, names, lengths and content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kluis.enclave.models import open_model
from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.formats.kluis.sealed_model import CHUNK_BYTES, Header, ModelKeys, SealedFile
from kluis.host import models
from kluis.host.models import seal_model

KEY = bytes(range(32))
WEIGHTS = bytes(range(251)) * (2 * CHUNK_BYTES // 251 + 9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of three chunks, of one, and of none."""
    weights = tmp_path / "weights"
    (weights / "chat").mkdir(parents=True)
    (weights / "chat" / "model.onnx.data").write_bytes(WEIGHTS)
    (weights / "chat" / "model.onnx").write_bytes(b"graph")
    (weights / "empty").write_bytes(b"")
    return weights


@pytest.fixture
def sealed(folder: Path, tmp_path: Path) -> bytes:
    """The sealed model of the folder."""
    seal_model(folder, tmp_path / "model.sealed", KEY)
    return (tmp_path / "model.sealed").read_bytes()


def refusal(sealed: bytes | Path, key: bytes = KEY) -> str:
    """The message with which a model is refused."""
    with pytest.raises((AuthenticityError, FormatError)) as raised:
        open_model(sealed, key)
    return raised.value.message


def test_opens(folder: Path, tmp_path: Path) -> None:
    """A sealed model has the files that were sealed, from a path and from bytes, and no plaintext."""
    header = seal_model(folder, tmp_path / "model.sealed", KEY)
    data = (tmp_path / "model.sealed").read_bytes()
    for each in (tmp_path / "model.sealed", data):
        with open_model(each, KEY, model_id=header.model_id()) as model:
            assert {name: bytes(view) for name, view in model.files.items()} == {
                "chat/model.onnx": b"graph",
                "chat/model.onnx.data": WEIGHTS,
                "empty": b"",
            }
            assert all(view.readonly for view in model.files.values())
        assert not model.files
    assert WEIGHTS[:64] not in data
    assert b"graph" not in data


def test_two_sealings_differ(folder: Path, tmp_path: Path) -> None:
    """Each sealing has its own keys and id: no nonce is used twice under one key."""
    first = seal_model(folder, tmp_path / "a", KEY)
    second = seal_model(folder, tmp_path / "b", KEY)

    assert first.model_id() != second.model_id()
    assert (tmp_path / "a").read_bytes()[-32:] != (tmp_path / "b").read_bytes()[-32:]


def test_another_key(sealed: bytes) -> None:
    """A model of another key is refused before a chunk is opened."""
    assert refusal(sealed, bytes(32)) == "sealed model: is sealed under another key"


def test_another_model(sealed: bytes) -> None:
    """An application that names a model opens no other one of the same key."""
    want = bytes(32)
    with pytest.raises(AuthenticityError) as raised:
        open_model(sealed, KEY, model_id=want)
    got = Header.parse(sealed, len(sealed))[0].model_id().hex()
    assert raised.value.message == f"sealed model: want {want.hex()}, got {got}"


def test_cut(sealed: bytes) -> None:
    """A model that is cut at a chunk's end, or anywhere, is refused."""
    for size in (len(sealed) - 1, len(sealed) - CHUNK_BYTES - 16, 100):
        with pytest.raises(FormatError):
            open_model(sealed[:size], KEY)


def test_each_changed_part(sealed: bytes, tmp_path: Path) -> None:
    """A changed bit in a chunk or its tag is refused, with the file's name."""
    _, first = Header.parse(sealed, len(sealed))
    for at, name in ((first, "chat/model.onnx: chunk 0"), (first + 21 + 5, "chat/model.onnx.data: chunk 0"),
                     (len(sealed) - 1, "empty: chunk 0")):  # fmt: skip
        changed = bytearray(sealed)
        changed[at] ^= 1
        (tmp_path / "changed").write_bytes(changed)
        for each in (bytes(changed), tmp_path / "changed"):
            assert refusal(each) == f"sealed model: {name} was changed, or is not at its place"


def test_two_chunks_swapped(sealed: bytes) -> None:
    """Chunks of one file do not open at each other's place."""
    _, first = Header.parse(sealed, len(sealed))
    start, size = first + 21, CHUNK_BYTES + 16
    one, two = sealed[start : start + size], sealed[start + size : start + 2 * size]
    swapped = sealed[:start] + two + one + sealed[start + 2 * size :]
    assert (
        refusal(swapped) == "sealed model: chat/model.onnx.data: chunk 0 was changed, or is not at its place"
    )


def test_two_names_swapped(tmp_path: Path) -> None:
    """Two files of one size do not change places: the names are authenticated."""
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "a").write_bytes(b"1" * 9)
    (weights / "b").write_bytes(b"2" * 9)
    seal_model(weights, tmp_path / "sealed", KEY)
    data = (tmp_path / "sealed").read_bytes()
    swapped = data.replace(b'"name":"a"', b'"name":"x"').replace(b'"name":"b"', b'"name":"y"')
    assert swapped != data
    assert refusal(swapped) == "sealed model: a: chunk 0 was changed, or is not at its place".replace(
        "a:", "x:"
    )


def test_another_content_of_one_id() -> None:
    """A holder of the key cannot give one id a second content: the header states a MAC of the plaintext."""
    salt = bytes(32)
    keys = ModelKeys(KEY, salt)
    mac = keys.mac()
    mac.update(b"first")
    header = Header(salt, keys.commitment, (SealedFile("w", 5, mac.digest()),))
    for content, opens in ((b"first", True), (b"other", False)):
        data = header.encode() + keys.seal(header.model_id(), 0, 0, content)
        if opens:
            assert bytes(open_model(data, KEY).files["w"]) == content
        else:
            assert refusal(data) == "sealed model: w: has another content than stated"


def test_odd_folders(folder: Path, tmp_path: Path) -> None:
    """A link, a name that is not plain, an empty folder and a missing one are refused; nothing is written."""
    out = tmp_path / "model.sealed"
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="want a regular file, got a link"):
        seal_model(folder, out, KEY)
    (folder / "link").unlink()
    (folder / "a b").write_bytes(b"")
    with pytest.raises(FormatError, match="file name"):
        seal_model(folder, out, KEY)
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="want 1 to 256 files, got 0"):
        seal_model(tmp_path / "none", out, KEY)
    with pytest.raises(UsageError, match="want a folder of weights, got no folder"):
        seal_model(tmp_path / "missing", out, KEY)
    assert not out.exists()


def test_key_files(tmp_path: Path) -> None:
    """A key is written once, for its owner only; another document is refused without quoting it."""
    path = tmp_path / "key.jwk"
    key = models.new_key(path)
    assert models.read_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="File exists"):
        models.new_key(path)
    for bad in (
        b"",
        b"secret",
        b'{"kty":"oct","k":"c2VjcmV0"}',
        b'{"kty":"RSA","k":""}',
        b'{"kty":"oct","k":7}',
    ):
        path.write_bytes(bad)
        with pytest.raises(FormatError) as raised:
            models.read_key(path)
        assert raised.value.message == f"{path}: want a JWK of type oct with 32 bytes, got another"
        assert "secret" not in str(raised.value)


def stored_in(name: str) -> bytes:
    """An ONNX model that adds a weight from a file."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: scripts/setup.sh test")
    weight = onnx.TensorProto(name="w", data_type=1, dims=[2], data_location=1)
    weight.external_data.add(key="location", value=name)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [value("x", 1, [2])],
        [value("y", 1, [2])],
        [weight],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def test_a_session_takes_its_weights_from_the_model(tmp_path: Path) -> None:
    """External data comes from the model's memory, relative to the graph; the plaintext may go afterwards."""
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: scripts/setup.sh test")
    weights = tmp_path / "weights"
    (weights / "a").mkdir(parents=True)
    (weights / "a" / "m.onnx").write_bytes(stored_in("m.data"))
    (weights / "a" / "m.data").write_bytes(numpy.array([1, 2], numpy.float32).tobytes())
    seal_model(weights, tmp_path / "sealed", KEY)
    with open_model(tmp_path / "sealed", KEY) as model:
        session = model.session("a/m.onnx")
        processors = len(os.sched_getaffinity(0))
        assert session.get_session_options().intra_op_num_threads == processors
        with pytest.raises(UsageError, match=r"want one of a/m\.data, a/m\.onnx, got 'b'"):
            model.session("b")
    assert session.run(None, {"x": numpy.zeros(2, numpy.float32)})[0].tolist() == [1, 2]


@pytest.mark.parametrize("name", ["/etc/passwd", "../m.data", "other.data", "a/../m.data"])
def test_a_graph_that_asks_for_another_file(tmp_path: Path, name: str) -> None:
    """A file outside the model is refused by its name, also if it exists."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: scripts/setup.sh test")
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "m.onnx").write_bytes(stored_in(name))
    (weights / "m.data").write_bytes(bytes(8))
    (tmp_path / "other.data").write_bytes(bytes(8))
    seal_model(weights, tmp_path / "sealed", KEY)
    with open_model(tmp_path / "sealed", KEY) as model, pytest.raises(FormatError) as raised:
        model.session("m.onnx")
    want = f"sealed model: m.onnx: want external data only in files of the model, got '{name}'"
    assert (raised.value.message, raised.value.code) == (want, "model_file")


def test_weights_that_are_too_short_for_their_graph(tmp_path: Path) -> None:
    """What onnxruntime refuses is an error of ours, without its text, which may quote the model."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: scripts/setup.sh test")
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "m.onnx").write_bytes(stored_in("m.data"))
    (weights / "m.data").write_bytes(bytes(4))
    seal_model(weights, tmp_path / "sealed", KEY)
    with (
        open_model(tmp_path / "sealed", KEY) as model,
        pytest.raises(FormatError, match="onnxruntime refuses it"),
    ):
        model.session("m.onnx")
