"""An image carries the modules of Kluis that its application reaches, and reports their size."""

from __future__ import annotations

import ast
import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

import kluis.enclave
import kluis.evidence
from kluis.appraisal.policy import tees
from kluis.cli.main import run
from kluis.errors import FormatError, RemoteError, UsageError
from kluis.evidence.model import Tee
from kluis.host import load
from kluis.tee.image import sources
from kluis.tee.image.build import bytecode, closure, imports, inside
from kluis.tee.image.build.builder import build
from kluis.tee.image.build.closure import Graph, Imports
from kluis.tee.image.sources import Source
from kluis.tee.measure import image as measuring
from tests.images import ALLOWED
from tests.tee.image import samples

OWN = inside.layer()
HELLO = Path(kluis.__file__).parents[2] / "examples" / "hello"
MOST_LINES = 15_000
"""Lines of Kluis in the image of the first example: what a person who trusts its measurement has to read."""


def read(text: str, path: str = "a/b.py") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(imports.imports_of(text.encode(), path))
    return found


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("import x.y, z", ["x.y", "z"]),
        ("from x import y, z as w", ["x.y", "x.z"]),
        ("from x import *", ["x.*"]),
        ("from . import y\nfrom .z import w\nfrom .. import v", ["a.y", "a.z.w", "v"]),
        ("def f():\n    if g():\n        import x", ["x"]),
        (
            "class C:\n    async def f(self):\n        try: import x\n        except ImportError: import y",
            ["x", "y"],
        ),
        ("if TYPE_CHECKING:\n    import x\nelse:\n    import y", ["y"]),
        ("import typing\nif typing.TYPE_CHECKING:\n    import x", ["typing"]),
        ("if not TYPE_CHECKING:\n    import x", ["x"]),
        ("importlib.import_module('x.y')\nimport_module('z')\n__import__('w')", ["w", "x.y", "z"]),
        ("importlib.import_module(name)\nimport_module(f'x.{y}')", []),
    ],
)
def test_what_a_module_imports(text: str, want: list[str]) -> None:
    """Every import counts but those for type checkers; so does a name that import_module is given."""
    assert read(text)["modules"] == want


def test_imports_of_a_package() -> None:
    """Relative imports of a package's own file start at the package."""
    assert read("from . import y\nfrom .. import z", "a/b/__init__.py")["modules"] == ["a.b.y", "a.z"]


@pytest.mark.parametrize("text", ["import", "x = '\\ud8", "(" * 5000, "\0"])
def test_what_is_no_python(text: str) -> None:
    """A source that the interpreter cannot read imports nothing."""
    assert imports.imports_of(text.encode(), "a.py") == b""


def graph(**modules: str) -> Graph:
    """Modules by name, with ``__`` for a dot; one whose text has that marker is a package."""
    named = {name.replace("__", "."): text for name, text in modules.items()}
    packages = {name for name in named if any(other.startswith(f"{name}.") for other in named)}
    trusted = {
        name: sources.of_bytes(
            name.replace(".", "/") + ("/__init__.py" if name in packages else ".py"), text.encode()
        )
        for name, text in named.items()
    }
    return Graph(trusted, {})


def test_packages_come_with_their_modules() -> None:
    """To import a module is to import its packages, and what these import."""
    found = graph(p="import other", p__q="from p.q import r", p__q__r="", p__unused="", other="", nobodys="")
    assert found.reach(["p.q.r"]) == {"p", "p.q", "p.q.r", "other"}


def test_circles_end() -> None:
    """Modules that import each other are each reached once."""
    assert graph(a="import b", b="import a").reach(["a"]) == {"a", "b"}


LAZY = "_LATE: Final = {'One': 'p.one', 'Two': ['p.two', 'Second']}"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("from p import One", {"p.one"}),
        ("from p import Two", {"p.two"}),
        ("from p import *", {"p.one", "p.two"}),
        ("import p\nprint(p.Two)", {"p.two"}),
        ("import q.r as p\nfrom x import One", set()),
        ("import p", set()),
        ("from p.three import Two", {"p.three"}),
    ],
)
def test_what_is_declared_by_name(text: str, want: set[str]) -> None:
    """A module that gives names of others late: only those of the names that are taken are reached."""
    found = graph(p=LAZY, p__one="", p__two="", p__three="", m=text).reach(["m"])
    assert found - {"m", "p"} == want


def test_what_is_declared() -> None:
    """A module that loads any of some, by a name made at run time, reaches them all."""
    found = graph(p="_LATE = ('p.one', 'p.two')", p__one="", p__two="import x", x="", m="import p")
    assert found.reach(["m"]) == {"m", "p", "p.one", "p.two", "x"}


def chosen(
    app: dict[str, str], site: dict[str, str] | None = None, roots: tuple[str, ...] = ("app",)
) -> set[str]:
    """The files of the layer for an application and its requirements, both from text."""

    def made(files: dict[str, str]) -> list[Source]:
        return [sources.of_bytes(path, text.encode()) for path, text in files.items()]

    with tempfile.TemporaryDirectory() as work:
        found = closure.choose(OWN, made(site or {}), made(app), roots, samples.python(), Path(work))
    return {file.path for file in found}


def modules_of(paths: set[str]) -> set[str]:
    return {closure._name(path) for path in paths if path.startswith("kluis/") and path.endswith(".py")}


def test_an_application_reaches_what_its_modules_import() -> None:
    """From the entry point, through the application's own modules, and through requirements."""
    least = modules_of(chosen({"app.py": "from kluis.enclave import Enclave"}))
    assert {"kluis.entry", "kluis.measured", "kluis.missing", "kluis.enclave.runtime.main"} <= least
    assert not {
        name for name in least if name.startswith(("kluis.services", "kluis.evidence", "kluis.cleanroom"))
    }

    app = {
        "app.py": "def f():\n    from own import part",
        "own/__init__.py": "",
        "own/part.py": "import kluis.frozen",
    }
    assert "kluis.evidence.nitro.document" in modules_of(
        chosen({**app, "own/part.py": "from kluis.evidence import NitroClaims"})
    )
    assert modules_of(chosen({**app, "unused.py": "import kluis.evidence"})) == modules_of(chosen(app))
    required = modules_of(chosen({"app.py": ""}, {"lib/late.py": "from kluis.evidence import verify"}))
    assert "kluis.evidence.registry" in required


def test_data_goes_with_its_package() -> None:
    """Roots and lists are in an image whose application verifies evidence, and in no other."""
    without, with_it = chosen({"app.py": ""}), chosen({"app.py": "from kluis.evidence import TrustAnchors"})
    data = {"kluis/evidence/roots/intel-sgx.pem", "kluis/evidence/denylist.toml"}
    assert data & without == set()
    assert data <= with_it
    assert "kluis/py.typed" in without


METADATA = "Metadata-Version: 2.1\nName: x\nRequires-Dist: cffi (>=1.0)\n"


def test_libraries_that_nothing_reaches_stay_out() -> None:
    """Cffi and pycparser go in if something imports them, or a requirement's record names them."""

    def spared(paths: set[str]) -> set[str]:
        return {path.split("/")[0].split("-")[0] for path in paths} & {"cffi", "pycparser"}

    without = chosen({"app.py": ""})
    assert spared(without) == set()
    assert [path for path in without if path.startswith("_cffi_backend")] != []
    assert {"cryptography/__init__.py", "msgspec/__init__.py"} <= without
    assert spared(chosen({"app.py": "def f():\n    from cffi import FFI"})) == {"cffi", "pycparser"}
    assert spared(chosen({"app.py": ""}, {"x-1.dist-info/METADATA": METADATA})) == {"cffi", "pycparser"}


def test_modules_that_kluis_toml_names() -> None:
    """``modules`` adds what no import names, with what it imports; a name of no module is refused."""
    found = modules_of(chosen({"app.py": ""}, roots=("app", "kluis.evidence.nitro.document")))
    assert {"kluis.evidence", "kluis.evidence.nitro.document", "kluis.formats.encoding.cbor"} <= found
    with pytest.raises(
        UsageError, match=r"modules: want modules of Kluis or of this folder, got 'kluis\.evidnce'"
    ):
        chosen({"app.py": ""}, roots=("app", "kluis.evidnce"))


def test_what_loads_late_declares_it() -> None:
    """Each module of Kluis that loads by a name made at run time declares modules that there are."""
    own = {
        closure._name(file.path): file
        for file in OWN
        if file.path.startswith("kluis/") and file.path.endswith(".py")
    }
    for name, file in own.items():
        found = msgspec.json.decode(imports.imports_of(file.read(), file.path), type=Imports)
        late = {*found.always(), *found.by_name(frozenset("*"))}
        assert late <= own.keys(), name
        tree = ast.parse(file.read())
        loads = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        loads |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        if "import_module" in loads and name != "kluis.enclave.runtime.main":  # whose root is the entry point
            assert late != set(), name
    assert kluis.enclave._LATE.keys() == set(kluis.enclave.__all__) - {"Enclave", "Table"}
    assert kluis.evidence._LATE.keys() <= set(kluis.evidence.__all__)
    assert {name.rpartition(".")[2] for name in tees._LATE} == set(Tee)


def test_a_source_takes_too_long_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Applications may be hostile: their sources are read within bounds, and one past them is named."""
    monkeypatch.setattr(bytecode, "MOST_OUTPUT_BYTES", 64 << 10)
    with pytest.raises(FormatError, match=r"app\.py: want source that compiles within bounds"):
        chosen({"app.py": "".join(f"import module_{number}\n" for number in range(10_000))})


def test_the_hello_image_is_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``kluis measure`` prints the size of an image's source; the first example's has little of Kluis."""
    built = build(HELLO, tmp_path / "hello.kluis")
    assert run(["measure", str(built.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["source"]
    assert list(found) == ["kluis", "interpreter", "libraries", "application"]
    assert 0 < found["kluis"]["lines"] <= MOST_LINES
    app = (HELLO / "app.py").read_text()
    assert found["application"] == {"files": 1, "lines": len(app.splitlines())}

    assert run(["measure", str(built.path)]) == 0
    text = capsys.readouterr().out
    for kind, each in found.items():
        files = f"{each['files']:,} file" + "s" * (each["files"] != 1)
        assert f"source of {kind}".ljust(23) + f"{each['lines']:,} lines in {files}\n" in text


def test_lines_are_counted(tmp_path: Path) -> None:
    """Each file of Python counts where it belongs; a last line without its end is a line."""
    path = tmp_path / "a.kluis"
    files = {"app.py": b"a\nb", "empty.py": b"", "data.txt": b"x\ny\n", "b.py": b"\n\n"}
    path.write_bytes(samples.image(samples.contents(app=files)))
    found = measuring.measure(path).sources
    assert (found["application"].files, found["application"].lines) == (3, 4)


LATE = """
import importlib
from kluis.enclave import Enclave
app = Enclave("late")

@app.ecall
def bring(name: str) -> str:
    return importlib.import_module(name).__name__

@app.ecall
def take() -> str:
    from kluis import enclave
    return enclave.quote.__name__
"""


def folder(path: Path, text: str, settings: str = "") -> Path:
    path.mkdir()
    (path / "app.py").write_text(text)
    (path / "kluis.toml").write_text(settings)
    return path


def test_a_module_that_is_missing(tmp_path: Path) -> None:
    """The error for a missing module names it, and the line that adds it; with the line it is there."""
    key = tmp_path / "author.pem"
    lacks = build(folder(tmp_path / "lacks", LATE), tmp_path / "lacks.kluis", key).path
    with load(lacks, insecure_allow_missing=ALLOWED) as enclave:
        with pytest.raises(
            RemoteError, match=r"kluis\.formats\.encoding\.cbor: is not in this image"
        ) as raised:
            enclave.bring("kluis.formats.encoding.cbor")
        assert raised.value.hint is not None
        assert raised.value.hint.endswith('add it in kluis.toml: modules = ["kluis.formats.encoding.cbor"]')
        assert enclave.take() == "quote"
    line = 'modules = ["kluis.formats.encoding.cbor"]'
    has = build(folder(tmp_path / "has", LATE, line), tmp_path / "has.kluis", key).path
    with load(has, insecure_allow_missing=ALLOWED) as enclave:
        assert enclave.bring("kluis.formats.encoding.cbor") == "kluis.formats.encoding.cbor"


def test_a_module_that_is_missing_as_it_starts(tmp_path: Path) -> None:
    """The build reports it already, if the application imports it at once."""
    text = LATE + "\nimportlib.import_module('kluis.' + 'cleanroom')\n"
    with pytest.raises(UsageError, match=r"app:app: kluis\.cleanroom: is not in this image") as raised:
        build(folder(tmp_path / "lacks", text), tmp_path / "lacks.kluis", tmp_path / "author.pem")
    assert 'modules = ["kluis.cleanroom"]' in str(raised.value.hint)
