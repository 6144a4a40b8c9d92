"""Images whose bytecode does something else than their source shows."""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

import pytest

from kluis.cli.main import run
from kluis.errors import AuthenticityError, FormatError
from kluis.tee.image import archive, pyc, sources
from kluis.tee.image.build import bytecode, interpreter
from kluis.tee.image.build.changes import diff
from kluis.tee.image.launchable import launchable
from kluis.tee.measure import image as measure
from tests.images import image_of
from tests.tee.image import samples

HELLO = Path(__file__).parents[2] / "examples" / "hello"
OLD = b"app = 1\n"
NEW = b"app = 1  # a comment\n"
HIDDEN = b"app = 1\nimport os; os.system('id')\n"
PLACE = "/k/app/app.py"
PYC = pyc.pyc_path("app.py", sys.implementation.cache_tag)


def image(path: Path, source: bytes, compiled: bytes | None, version: str = "", at: str = PYC) -> Path:
    """A signed image whose ``app.py`` is ``source``, and whose bytecode is of ``compiled``."""
    files = {"app.py": source}
    if compiled is not None:
        with tempfile.TemporaryDirectory() as work:
            both = [(PLACE, compiled), (PLACE, source)]
            made, honest = bytecode.compile_all(both, samples.python(), Path(work))
        # The header names the source that a reader sees: the interpreter does not look.
        files[at] = honest[:16] + made[16:]
    contents = samples.contents(app=files)
    python = version or interpreter.version()
    path.write_bytes(samples.image(contents, signer=samples.key(), python=python))
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image whose bytecode is of its source."""
    return image(tmp_path_factory.mktemp("good") / "good.kluis", OLD, OLD)


# With its codec, the interpreter runs what follows the escaped line end; a reader sees comments.
ESCAPED = b"# coding: %s\napp = 1  # \\x0aapp = 2\n"


@pytest.mark.parametrize(
    "name", ["unicode_escape", "utf-7", "raw-unicode-escape", "latin-1", "big5", "rot13"]
)
@pytest.mark.parametrize("head", [b"", b"#!/usr/bin/python\r", b"\xef\xbb\xbf", b" \t\f"])
@pytest.mark.parametrize("compiled", [b"app = 2\n", None])
def test_no_encoding_hides_code(
    tmp_path: Path, good: Path, name: str, head: bytes, compiled: bytes | None
) -> None:
    """A source in another encoding is refused, with its name, with bytecode and without."""
    source = head + ESCAPED % name.encode()
    files = {"app.py": source} | ({} if compiled is None else {PYC: bytes(16)})
    bad = tmp_path / "bad.kluis"
    contents = samples.contents(app=files)
    bad.write_bytes(samples.image(contents, signer=samples.key(), python=interpreter.version()))
    want = f"^{PLACE}: want source in UTF-8, got encoding {name.replace('_', '-')}\n"
    with pytest.raises(FormatError, match=want) as refused:
        measure.measure(bad)
    assert refused.value.code == "source_encoding"
    with pytest.raises(FormatError, match=want):
        diff(good, bad)


@pytest.mark.parametrize(
    "head",
    [b"# coding: utf-8\n", b"#!x\n# -*- coding: UTF_8 -*-\n", b"\xef\xbb\xbf", b"# vim: fileencoding=utf8\n"],
)
def test_utf8_is_taken(tmp_path: Path, head: bytes) -> None:
    """Declared or not, with a byte order mark or without."""
    source = head + "app = 'é'\n".encode()
    assert measure.measure(image(tmp_path / "good.kluis", source, source)).bytecode


def test_a_long_comment_hides_no_encoding(tmp_path: Path) -> None:
    """A declaration past what is looked at is refused, unseen."""
    source = b"#" + b" " * (1 << 16) + b"coding: utf-7\n"
    with pytest.raises(FormatError, match="want source in UTF-8, got encoding unknown"):
        bytecode.check_encoding(source, PLACE)
    bytecode.check_encoding(b"x = 1" + source, PLACE)


def test_a_build_refuses_it(tmp_path: Path) -> None:
    """In the application it ends the build."""
    for text in (ESCAPED % b"unicode_escape", b"# coding: utf-7\n" + bytes(bytecode.MAX_SOURCE_BYTES)):
        files = [sources.of_bytes("app.py", text)]
        with pytest.raises(FormatError, match=r"^/k/app/app\.py: want source in UTF-8, got encoding u"):
            bytecode.layer(files, "/k/app", tmp_path, tmp_path, samples.python(), lambda line: None)


def test_native_objects_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``app.so`` is imported before ``app.py``: that its bytecode is compared does not cover it."""
    plain = image(tmp_path / "plain.kluis", OLD, OLD)
    files = {"app.py": OLD, "app.so": b"x", "data": b"\x7fELF", "notes.txt": b"\x7fEL"}
    mixed = tmp_path / "mixed.kluis"
    contents = samples.contents(app=files)
    mixed.write_bytes(samples.image(contents, signer=samples.key(), python=interpreter.version()))
    assert measure.measure(mixed).native_objects == ("app.so", "data")
    assert run(["measure", str(mixed)]) == 0
    assert "2 in the app layer: machine code, not compared with any source" in capsys.readouterr().out
    assert run(["measure", str(plain)]) == 0
    assert "native objects" in (shown := capsys.readouterr().out)
    assert "0 in the app layer\n" in shown
    assert run(["diff", str(plain), str(mixed)]) == 0
    assert (
        "machine code, not compared with any source:\n  2 in the app layer, such as app.so"
        in capsys.readouterr().out
    )
    assert run(["diff", str(mixed), str(mixed)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("the measurement is the same\n")
    assert "2 in the app layer" in shown
    assert run(["diff", str(mixed), str(plain)]) == 0
    assert "machine code" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("layer", "path"),
    [
        ("kluis", "kluis/errors.so"),
        ("kluis", "kluis/errors.cpython-311-x86_64-linux-gnu.so"),
        ("kluis", "kluis/errors/__init__.so"),
        ("kluis", "kluis/__init__.abi3.so"),
        ("kluis", "app.abi3.so"),
        ("kluis", "app/__init__.so"),
        ("python", "lib/python3.11/os.so"),
        ("python", "lib/python3.11/lib-dynload/kluis.so"),
    ],
)
def test_machine_code_in_the_place_of_a_source_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layer: str, path: str
) -> None:
    """An interpreter imports it, and never the source, whose bytecode is right."""
    plain, mixed = tmp_path / "plain.kluis", tmp_path / "mixed.kluis"
    files = {"lib/python3.11/lib-dynload/os.so": b"x", "lib/libx.so": b"x"}  # the first os is a source
    contents = samples.contents(python=files)
    plain.write_bytes(samples.image(contents, signer=samples.key()))
    own = files if layer == "python" else {}
    contents = samples.contents(**{"python": files, layer: {**own, path: b"x"}})
    mixed.write_bytes(samples.image(contents, signer=samples.key()))
    assert measure.measure(plain).in_place == ()
    assert measure.measure(mixed).in_place == (f"{layer}/{path}",)
    assert run(["measure", str(mixed)]) == 0
    assert f"{layer}/{path}: machine code, which is imported" in capsys.readouterr().out
    assert run(["diff", str(plain), str(mixed)]) == 0
    assert f"IN THE PLACE OF A SOURCE:\n  {layer}/{path}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("layer", "path"),
    [
        ("site", "app.py"),
        ("site", "app/__init__.py"),
        ("kluis", "app.py"),
        ("app", "app/__init__.py"),
        ("python", "lib/python3.11/app.py"),
    ],
)
def test_another_source_in_the_place_of_a_source_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layer: str, path: str
) -> None:
    """The application that a reader finds in its layer is not the one that runs."""
    it, own = tmp_path / "it.kluis", {"kluis/__init__.py": b""} if layer == "kluis" else {}
    contents = samples.contents(**{layer: {**own, path: HIDDEN}})
    it.write_bytes(samples.image(contents, signer=samples.key()))
    assert measure.measure(it).in_place == (f"{layer}/{path}",)
    assert run(["measure", str(it)]) == 0
    assert f"{layer}/{path}: another source, which is imported" in capsys.readouterr().out


def test_another_interpreter_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An image's interpreter may run anything; the installed runtime's is known by its digest."""
    own = tmp_path / "own.kluis"
    own.write_bytes(samples.image(signer=samples.key()))
    for path, installed in ((own, False), (image_of(HELLO), True)):
        assert measure.measure(path).installed_interpreter is installed
        assert run(["measure", str(path)]) == 0
        assert ("NOT THE INSTALLED RUNTIME'S" in capsys.readouterr().out) is not installed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LD_PRELOAD", "/k/site/fast/fast.so"),
        ("LD_AUDIT", "/k/site/fast/fast.so"),
        ("LD_LIBRARY_PATH", "/k/site/fast:/k/python/lib"),
        ("OPENSSL_CONF", "/k/app/openssl.cnf"),
        ("PYTHONHASHSEED", "0"),
    ],
)
def test_no_variable_brings_machine_code(tmp_path: Path, name: str, value: str) -> None:
    """The loader's variables would run a library in the place of the interpreter's: no such image is read."""
    environment = {"LD_LIBRARY_PATH": "/k/python/lib", name: value}
    (tmp_path / "it.kluis").write_bytes(samples.image(signer=samples.key(), env=environment))
    with pytest.raises(FormatError, match=rf"manifest\.env\.{name}: want a variable of the application's"):
        measure.measure(tmp_path / "it.kluis")


def test_a_new_package_hides_no_file_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A list of changes names each folder of libraries in which a file changed, of whatever version."""
    before, after = tmp_path / "1.kluis", tmp_path / "2.kluis"
    for path, version, text in ((before, "1", b"x = 1\n"), (after, "2", b"x = 2\n")):
        packages = {
            "old/__init__.py": text,
            "new/__init__.py": text,
            f"new-{version}.dist-info/METADATA": b"",
            "old-1.dist-info/METADATA": b"",
        }
        path.write_bytes(samples.image(samples.contents(site=packages), signer=samples.key()))
    assert run(["diff", str(before), str(after)]) == 0
    shown = capsys.readouterr().out
    assert "packages:\n  site: new 1 -> 2\n" in shown
    assert "  site/new: 1 file: changed\n" in shown
    assert "  site/old: 1 file: changed\n" in shown


def hidden(before: Path, after: Path) -> list[str]:
    """What ``diff`` finds that its source does not show."""
    return [change.what for change in diff(before, after) if change.kind == "hidden"]


def test_measure_refuses_it(tmp_path: Path) -> None:
    """An image that runs something else than its source is named, with the file."""
    assert measure.measure(image(tmp_path / "good.kluis", OLD, OLD)).bytecode
    with pytest.raises(AuthenticityError) as refused:
        measure.measure(image(tmp_path / "bad.kluis", OLD, HIDDEN))
    assert refused.value.message == f"image: app/{PYC}: want what its source compiles to, got other bytecode"
    assert refused.value.code == "bytecode"


def test_bytecode_of_the_same_length(tmp_path: Path) -> None:
    """Bytecode that differs in one constant is found, by ``measure`` and by ``diff``."""
    before = image(tmp_path / "1.kluis", OLD, OLD)
    after = image(tmp_path / "2.kluis", OLD, b"app = 2\n")
    assert before.stat().st_size == after.stat().st_size
    assert hidden(before, after) == [f"app/{PYC}"]
    with pytest.raises(AuthenticityError, match="other bytecode"):
        measure.measure(after)


def test_a_changed_comment_hides_nothing_from_diff(tmp_path: Path) -> None:
    """Source and bytecode both change from one release to the next: the bytecode is held to the source."""
    before = image(tmp_path / "1.kluis", OLD, OLD)
    assert hidden(before, image(tmp_path / "2.kluis", NEW, NEW)) == []
    assert hidden(before, image(tmp_path / "3.kluis", NEW, HIDDEN)) == [f"app/{PYC}"]
    assert hidden(before, image(tmp_path / "4.kluis", OLD, HIDDEN)) == [f"app/{PYC}"]


def test_a_source_that_changes_under_its_old_bytecode(tmp_path: Path) -> None:
    """Bytecode that stays where its source is made harmless is named too."""
    before = image(tmp_path / "1.kluis", HIDDEN, HIDDEN)
    after = image(tmp_path / "2.kluis", OLD, HIDDEN)
    assert hidden(before, after) == [f"app/{PYC}"]


def compiled(source: bytes, place: str) -> bytes:
    """The bytecode of one module."""
    with tempfile.TemporaryDirectory() as work:
        (made,) = bytecode.compile_all([(place, source)], samples.python(), Path(work))
    return made


def test_a_source_whose_name_has_dots(tmp_path: Path) -> None:
    """The bytecode of ``a.b.py`` is compared with that, not with ``a.py``; the module may be launched."""
    cached = pyc.pyc_path("a.b.py", sys.implementation.cache_tag)
    made = compiled(HIDDEN, "/k/app/a.b.py")
    paths = []
    for number, source in enumerate((HIDDEN, OLD)):
        paths.append(tmp_path / f"{number}.kluis")
        contents = samples.contents(app={"a.py": b"", "a.b.py": source, cached: made})
        paths[-1].write_bytes(samples.image(contents, signer=samples.key(), python=interpreter.version()))
    assert hidden(*paths) == [f"app/{cached}"]
    contents = samples.contents(app={"a.b.py": OLD, cached: made})
    launchable(archive.read_image(io.BytesIO(samples.image(contents, signer=samples.key()))))


def test_a_source_that_is_gone(tmp_path: Path) -> None:
    """Bytecode that stays where its source is removed is named too."""
    before = image(tmp_path / "1.kluis", HIDDEN, HIDDEN)
    contents = samples.contents(app={PYC: compiled(HIDDEN, PLACE)})
    contents["app"] = [file for file in contents["app"] if file.path != "app.py"]
    after = tmp_path / "2.kluis"
    after.write_bytes(samples.image(contents, python=interpreter.version()))
    assert hidden(before, after) == [f"app/{PYC}"]


@pytest.mark.parametrize("name", ["app.cpython-311.opt-1.pyc", "app.cpython-399.pyc", "app.pyc"])
def test_bytecode_under_another_name(tmp_path: Path, name: str) -> None:
    """Bytecode for an interpreter that runs otherwise has no place in an image."""
    bad = image(tmp_path / "bad.kluis", OLD, OLD, at=f"__pycache__/{name}")
    with pytest.raises(AuthenticityError, match="other bytecode"):
        measure.measure(bad)


def test_another_pythons_bytecode_is_said_to_be_unknown(tmp_path: Path) -> None:
    """What this interpreter cannot compile the same way is not called the same."""
    before = image(tmp_path / "1.kluis", OLD, OLD, version="3.99.0")
    after = image(tmp_path / "2.kluis", NEW, HIDDEN, version="3.99.0")
    assert not measure.measure(after).bytecode
    (unknown,) = [change for change in diff(before, after) if change.kind == "uncompared"]
    assert unknown.what == f"1 files: want Python 3.99.0 here, got {interpreter.version()}"


@pytest.mark.parametrize(
    ("compiled", "version", "code"),
    [(HIDDEN, "", "bytecode"), (HIDDEN, "3.99.0", "bytecode_uncompared"), (OLD, "", None)],
)
def test_a_room_is_not_proposed_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], compiled: bytes, version: str, code: str | None
) -> None:
    """``room propose`` signs no image whose bytecode differs from its source, or was not compared with it."""
    made = image(tmp_path / "a.kluis", OLD, compiled, version=version)
    (tmp_path / "root.pem").write_text("")
    room, home = str(tmp_path / "room"), str(tmp_path / "homes")
    party = ["--as", "a", "--home", home]
    assert run(["room", "init", room, *party, "--title", "t", "--purpose", "p"]) == 0
    capsys.readouterr()
    files = [
        "--plan",
        str(tmp_path / "none.toml"),
        "--image",
        str(made),
        "--root",
        str(tmp_path / "root.pem"),
    ]
    assert run(["room", "propose", room, *party, *files]) != 0
    said = capsys.readouterr().err
    if code is None:  # an honest image gets further: to the root, which is empty
        assert said.startswith("kluis: error: root certificate: holds no certificate\n")
        return
    assert f"(kluis explain {code})\n" in said
    if version:
        assert said.startswith(
            "kluis: error: image: its bytecode was not compared with its source:"
            f" want Python 3.99.0 here, got {interpreter.version()}\n"
        )
        release = re.escape(archive.read_image(io.BytesIO(made.read_bytes())).manifest.kluis)
        assert re.search(
            rf"hint: in an environment of Python 3\.99: pip install 'kluis\[rooms\]=={release}', ", said
        )
