"""A folder becomes an image: the same bytes anywhere, any day; whatever is not code stays out."""

from __future__ import annotations

import io
import json
import marshal
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kluis
from kluis.errors import KluisError, UsageError
from kluis.tee import sigstruct
from kluis.tee.image import launchable, read_file, read_image, verify_layers
from kluis.tee.image.build import interpreter
from kluis.tee.image.build.builder import Built, build
from kluis.tee.measure import image
from tests.tee.image import samples

PROGRAM = """
import os, sys
from pathlib import Path
from kluis.tee.image.build.builder import build
os.umask(int(sys.argv[5], 8))
folder, out, key, cache = map(Path, sys.argv[1:5])
build(folder, out, key, cache_folder=cache)
"""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache and a key that the builds of these tests share."""
    folder = tmp_path_factory.mktemp("shared")
    samples.keep_key(folder / "author.pem")
    return folder


def made(folder: Path, shared: Path, **options: bool) -> Built:
    return build(
        folder,
        folder.parent / f"{folder.name}.kluis",
        shared / "author.pem",
        cache_folder=shared / "cache",
        **options,
    )


def files(path: Path, layer: str) -> dict[str, bytes]:
    with path.open("rb") as f:
        found = read_image(f).layer(layer)
        assert found is not None
        return {entry.path: read_file(f, found, entry) for entry in found.files}


def test_a_whole_image(tmp_path: Path, shared: Path) -> None:
    """An image of a folder with app.py is launchable, verified, and lists its contents."""
    built = made(samples.application(tmp_path / "hello"), shared)
    with built.path.open("rb") as f:
        found = read_image(f)
        signed = launchable(found)
        verify_layers(f, found)
    assert signed.mrenclave == built.image_id == found.image_id
    assert signed.mrsigner == built.mrsigner
    assert (found.manifest.name, found.manifest.product_id, found.manifest.svn) == ("hello", 7, 3)
    assert found.manifest.kluis == kluis.__version__
    assert found.manifest.python == interpreter.version()
    assert found.manifest.env == {"LD_LIBRARY_PATH": "/k/python/lib"}
    assert [call["name"] for call in json.loads(found.interface)["ecalls"]] == ["greet"]
    assert built.notes == ()
    assert built.path.stat().st_mode & 0o777 == 0o644


def test_holds_no_path_of_this_machine(tmp_path: Path, shared: Path) -> None:
    """Neither the folder, nor the cache, nor Kluis's own location is in the image's modules."""
    built = made(samples.application(tmp_path / "hello"), shared)
    for layer in ("kluis", "app"):
        for path, data in files(built.path, layer).items():
            if path.endswith((".py", ".pyc")):
                assert str(tmp_path).encode() not in data
                assert str(Path(kluis.__file__).parent).encode() not in data


def test_the_same_bytes_anywhere_any_day(tmp_path: Path, shared: Path) -> None:
    """Two builds in two folders, with other caches, clocks, seeds, umasks and languages, are equal."""
    built = made(samples.application(tmp_path / "one"), shared)
    other = samples.application(tmp_path / "two" / "deep" / "folder")
    (other / "__pycache__").mkdir()
    (other / "__pycache__" / "app.cpython-311.pyc").write_bytes(b"stale")
    os.utime(other / "app.py", (1, 1))
    (other / "app.py").chmod(0o755)
    out = tmp_path / "two.kluis"
    subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            "folder",
            str(out),
            str(shared / "author.pem"),
            str(tmp_path / "cache"),
            "077",
        ],
        cwd=other.parent,
        check=True,
        env={
            "PATH": os.defpath,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONHASHSEED": "12345",
            "SOURCE_DATE_EPOCH": "86400",
            "TZ": "Pacific/Auckland",
            "LC_ALL": "C",
            "HOME": str(tmp_path),
        },
    )
    same = out.read_bytes() == built.path.read_bytes()  # pytest would look for the difference for minutes
    assert same


def test_debug_is_not_in_the_measurement(tmp_path: Path, shared: Path) -> None:
    """The debug build has the same measurement, and its signature has the debug flag."""
    folder = samples.application(tmp_path / "hello")
    plain = image.measure(made(folder, shared).path)
    debug = image.measure(made(folder, shared, debug=True).path)
    assert plain.mrenclave == debug.mrenclave
    assert (plain.debug, debug.debug) == (False, True)


def test_what_is_never_code(tmp_path: Path, shared: Path) -> None:
    """Keys, images, version control, caches and build settings stay out, this build's too."""
    folder = samples.application(
        tmp_path / "hello", data__txt="kept", notes__md="out", kluis__toml='exclude = ["*.md"]'
    )
    for name in (".git/config", "__pycache__/app.cpython-311.pyc", "other.kluis", "other.pem", ".env"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"secret")
    out, key = folder / "image.bin", samples.keep_key(folder / "secret")
    for _ in range(2):
        build(folder, out, key, cache_folder=shared / "cache")
    assert set(files(out, "app")) == {
        "app.py",
        "data.txt",
        f"__pycache__/app.{sys.implementation.cache_tag}.pyc",
    }


def test_a_folder_of_wheels_is_no_code(tmp_path: Path, shared: Path) -> None:
    """The wheels that the requirements come from are not part of the application."""
    folder = samples.application(tmp_path / "wheels")
    samples.wheel(folder / "own", "mine", {"mine.py": b"x = 1\n"})
    (folder / "kluis.toml").write_text('wheels = "own"\n')
    assert not any("mine" in path for path in files(made(folder, shared).path, "app"))


def test_a_file_that_is_left_out_for_its_name(tmp_path: Path, shared: Path) -> None:
    """Possible keys stay out and are reported, except the signing key and what the author excludes."""
    folder = samples.application(
        tmp_path / "hello",
        kluis__toml='exclude = ["old/*"]',
        root__pem="root",
        mine__key="k",
        root__crt="root",
    )
    for path in ("old/other.pem", ".hidden/other.pem", "sub/root.pem"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("root")
    key = samples.keep_key(folder / "author.pem")
    built = build(folder, tmp_path / "x.kluis", key, cache_folder=shared / "cache")
    why = "is left out, for its name is a key's; if it belongs in the image, name it as root.crt is"
    assert built.notes == tuple(f"{name}: {why}" for name in ("mine.key", "root.pem", "sub/root.pem"))
    assert set(files(built.path, "app")) >= {"app.py", "root.crt"}
    assert not [path for path in files(built.path, "app") if path.endswith((".pem", ".key"))]


def test_stale_bytecode_is_compiled_anew(tmp_path: Path, shared: Path) -> None:
    """Bytecode in the image is of the source in the image, whatever lay in the folder and the cache."""
    folder = samples.application(tmp_path / "hello", other__py="x = 1\n")
    made(folder, shared)
    (folder / "other.py").write_text("x = 2\n")
    found = files(made(folder, shared).path, "app")
    namespace: dict[str, object] = {}
    exec(
        marshal.loads(found[f"__pycache__/other.{sys.implementation.cache_tag}.pyc"][16:]),
        namespace,
    )
    assert namespace["x"] == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("start.pth", "{folder}: start.pth: want no .pth file, which would run code at start"),
        (
            "sitecustomize.py",
            "{folder}: sitecustomize.py: want no sitecustomize, which would run code at start",
        ),
        ("module.pyc", "{folder}: module.pyc: want source, got bytecode that nobody can review"),
        ("json.py", "json: is hidden by the standard library"),
        ("msgspec.py", "msgspec: is hidden by Kluis's own part of the image"),
    ],
)
def test_a_file_that_an_image_does_not_take(tmp_path: Path, shared: Path, name: str, message: str) -> None:
    """Start-up hooks, bare bytecode and modules that can never be imported are refused, with their names."""
    folder = samples.application(tmp_path / "hello")
    (folder / name).write_text("")
    with pytest.raises(UsageError) as caught:
        made(folder, shared)
    assert caught.value.message == message.format(folder=folder)


def test_nothing_to_run(tmp_path: Path, shared: Path) -> None:
    """For a folder without the entry point's module the error names the missing file."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError) as caught:
        made(tmp_path / "empty", shared)
    assert caught.value.message == f"{tmp_path}/empty: want app.py, found none"
    assert (
        caught.value.hint
        == "give the folder that has app.py, as in: kluis build cohort, where cohort/app.py is"
    )
    (tmp_path / "empty" / "main.py").write_text(samples.APP)
    with pytest.raises(UsageError) as caught:
        made(tmp_path / "empty", shared)
    assert caught.value.hint == (
        f'call it app.py, or name it in {tmp_path}/empty/kluis.toml: entry = "main:app"'
    )
    samples.application(tmp_path / "empty" / "hello")
    with pytest.raises(UsageError) as caught:
        made(tmp_path / "empty", shared)
    assert caught.value.hint == f"app.py is in a folder below: kluis build {tmp_path}/empty/hello ..."
    with pytest.raises(UsageError) as caught:
        made(tmp_path / "empty" / "main.py", shared)
    assert caught.value.hint == f"give the folder that it is in: kluis build {tmp_path}/empty ..."
    with pytest.raises(UsageError) as caught:
        made(tmp_path / "nowhere", shared)
    assert caught.value.message == f"{tmp_path}/nowhere: want a folder, got nothing"
    with pytest.raises(UsageError) as caught:
        build(tmp_path / "empty", tmp_path / "no" / "out.kluis", None)
    assert caught.value.message == f"{tmp_path}/no/out.kluis: want a folder to write it to, got none"
    assert caught.value.hint == f"mkdir -p {tmp_path}/no"


def test_a_failed_build_leaves_what_was_there(tmp_path: Path, shared: Path) -> None:
    """A failed build changes neither the image nor the key, and leaves no other file."""
    folder = samples.application(tmp_path / "hello")
    out, key = tmp_path / "out.kluis", tmp_path / "author.pem"
    out.write_bytes(b"the old one")
    (folder / "app.py").write_text("1 / 0\n")
    with pytest.raises(UsageError):
        build(folder, out, key, cache_folder=shared / "cache")
    assert out.read_bytes() == b"the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hello", "out.kluis"]
    assert list((shared / "cache" / "scratch").iterdir()) == []


def test_the_key_is_made_if_absent(tmp_path: Path, shared: Path) -> None:
    """The author's key is made once, for its owner's eyes, and used from then on."""
    folder, key = samples.application(tmp_path / "hello"), tmp_path / "author.pem"
    first = build(folder, tmp_path / "a.kluis", key, cache_folder=shared / "cache")
    second = build(folder, tmp_path / "b.kluis", key, cache_folder=shared / "cache")
    assert (first.key_made, second.key_made) == (True, False)
    assert key.stat().st_mode & 0o777 == 0o600
    assert first.mrsigner == second.mrsigner
    assert (tmp_path / "a.kluis").read_bytes() == (tmp_path / "b.kluis").read_bytes()


def test_a_key_that_does_not_fit_is_said_first(tmp_path: Path, shared: Path) -> None:
    """A key that SGX does not take is refused before anything is built."""
    key = tmp_path / "author.pem"
    key.write_text("not a key")
    with pytest.raises(UsageError) as caught:
        build(tmp_path, tmp_path / "a.kluis", key, cache_folder=shared / "cache")
    assert caught.value.message == f"{key}: want an unencrypted PEM private key, got something else"


def test_unsigned(tmp_path: Path, shared: Path) -> None:
    """Without a key the image waits for its signature, and is not launchable."""
    folder = samples.application(tmp_path / "hello")
    built = build(folder, tmp_path / "a.kluis", None, cache_folder=shared / "cache")
    found = read_image(io.BytesIO(built.path.read_bytes()))
    assert built.mrsigner is None
    assert not sigstruct.parse(found.sigstruct).signed
    with pytest.raises(KluisError):
        launchable(found)


def test_a_flipped_byte_in_each_part(tmp_path: Path, shared: Path) -> None:
    """In a real image, a flipped bit in the head, or in any of a spread of files, is refused."""
    path = made(samples.application(tmp_path / "hello"), shared).path
    with path.open("r+b") as f:
        found = read_image(f)
        places = [0, 9, 20, found.sigstruct_offset + 600, found.sigstruct_offset + 1000]
        for layer in found.layers:
            places += [layer.data_offset - 20]
            places += [layer.data_offset + e.offset + e.size // 2 for e in layer.files[::400] if e.size]
        for place in places:
            f.seek(place)
            byte = f.read(1)
            f.seek(place)
            f.write(bytes([byte[0] ^ 1]))
            f.flush()
            with pytest.raises(KluisError):
                image.measure(path)
            f.seek(place)
            f.write(byte)
            f.flush()
    image.measure(path)


def test_a_table_needs_arrow(tmp_path: Path, shared: Path) -> None:
    """An interface with a Table and no pyarrow is refused at build, not at the first call."""
    folder = samples.application(tmp_path / "hello")
    text = samples.APP.replace("import Enclave", "import Enclave, Table")
    (folder / "app.py").write_text(text + "\n\n@app.ecall\ndef count(rows: Table) -> int:\n    return 1\n")
    with pytest.raises(UsageError) as caught:
        made(folder, shared)
    assert caught.value.message == "requirements: want pyarrow, for the interface has a Table, got none"
    assert caught.value.hint == 'add it in kluis.toml: requirements = ["pyarrow"]'
