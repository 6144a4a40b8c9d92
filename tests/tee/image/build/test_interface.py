"""An application's interface is determined with only the image's files on its path."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

from kluis.errors import KluisError, UsageError
from kluis.tee.image import sources
from kluis.tee.image.build import inside, interface, walls
from kluis.tee.image.build.interface import Answer
from kluis.tee.process import sandbox
from tests.tee.image import samples

FAKE = """
class Fake:
    name, product_id, svn = "fake", 1, 2
    def interface(self):
        {body}
app = Fake()
"""


def ask(work: Path, text: str, **layers: dict[str, bytes]) -> Answer:
    made = {
        name: [sources.of_bytes(path, data) for path, data in files.items()] for name, files in layers.items()
    }
    return interface.ask(
        "app:app", {"app": [sources.of_bytes("app.py", text.encode())], **made}, {}, samples.python(), work
    )


def test_a_real_enclave(tmp_path: Path) -> None:
    """A real application's interface comes back canonical, with its name, product and SVN."""
    contents = {"kluis": inside.layer(), "app": [sources.of_bytes("app.py", samples.APP.encode())]}
    found = interface.ask("app:app", contents, {}, samples.python(), tmp_path)
    assert (found.name, found.product_id, found.svn) == ("hello", 7, 3)
    assert [call["name"] for call in json.loads(found.interface)["ecalls"]] == ["greet"]
    assert list(tmp_path.iterdir()) == []


def test_sees_nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment, no site-packages, no user site, no folder of the author's reaches the application."""
    monkeypatch.setenv("SECRET", "token")
    monkeypatch.setenv("PYTHONPATH", str(Path(samples.__file__).parent))
    body = (
        "import os, sys; held = []\n"
        "        for fd in range(256):\n"
        "            try: os.fstat(fd); held.append(fd)\n"
        "            except OSError: pass\n"
        "        return {'env': dict(os.environ), 'path': sys.path, 'argv': sys.argv, 'held': held,"
        " 'cwd': os.getcwd(), 'root': sorted(os.listdir('/')), 'k': sorted(os.listdir('/k'))}"
    )
    found = json.loads(ask(tmp_path, FAKE.format(body=body)).interface)
    assert found["env"] == {**sandbox.environment(1, walls.MOST_MEMORY_BYTES), "PWD": "/"}
    assert not any("site-packages" in path or "dist-packages" in path for path in found["path"])
    assert found["path"][-1] == "/k/app"
    assert found["argv"] == ["/k/asked.py"]
    assert (found["cwd"], found["root"]) == ("/", ["dev", "k", "tmp"])
    assert found["k"] == ["app", "asked.py", "python"]
    assert len(found["held"]) <= 5


def test_the_images_environment(tmp_path: Path) -> None:
    """The variables of ``kluis.toml`` are set when the application is imported."""
    app = sources.of_bytes("app.py", FAKE.format(body="import os; return {'x': os.environ['X']}").encode())
    found = interface.ask("app:app", {"app": [app]}, {"X": "1"}, samples.python(), tmp_path)
    assert found.interface == b'{"x":"1"}'


def test_requirements_are_importable_and_nothing_else(tmp_path: Path) -> None:
    """A module of the site layer is found; one that is only installed here is not."""
    site = {"lib/__init__.py": b"x = 5\n", "lib/data.txt": b""}
    found = ask(tmp_path, FAKE.format(body="import lib; return {'x': lib.x}"), site=site)
    assert found.interface == b'{"x":5}'
    with pytest.raises(UsageError) as caught:
        ask(tmp_path, "import hypothesis")
    assert caught.value.message == (
        "app:app: cannot be imported: ModuleNotFoundError: No module named 'hypothesis'"
    )
    assert caught.value.hint == (
        "name what it imports under requirements in kluis.toml, and put its own modules in the folder"
    )


def test_a_whole_package_is_mounted(tmp_path: Path) -> None:
    """Files of a cached wheel are found through one mount of their tree."""
    tree = tmp_path / "tree"
    (tree / "lib").mkdir(parents=True)
    (tree / "lib" / "__init__.py").write_text("x = 6\n")
    made = sources.Source("lib/__init__.py", 0o444, 6, "", tree / "lib" / "__init__.py", tree=tree)
    app = sources.of_bytes("app.py", FAKE.format(body="import lib; return {'x': lib.x}").encode())
    assert (
        interface.ask("app:app", {"site": [made], "app": [app]}, {}, samples.python(), tmp_path).interface
        == b'{"x":6}'
    )
    assert not (tree / "lib" / "__pycache__").exists()


def test_what_it_prints_is_no_answer(tmp_path: Path) -> None:
    """An application that prints as it is imported does not confuse the build."""
    found = ask(tmp_path, "print('{\"interface\": 1}')\n" + FAKE.format(body="return {}"))
    assert found.interface == b"{}"


def test_what_mends_it(tmp_path: Path) -> None:
    """For an Enclave of another name the hint shows how to name it; for any other error, how to see it
    whole.
    """
    for text, hint in {
        "enclave = 1": 'call the Enclave app, or name it in kluis.toml: entry = "app:NAME"',
        "1 / 0": "python -c 'import app' in the folder shows the whole error",
    }.items():
        with pytest.raises(UsageError) as caught:
            ask(tmp_path, text)
        assert caught.value.hint == hint


KLUIS_ERROR = """
class Refused(Exception):
    hint = {hint!r}
Refused.__module__ = "kluis.errors"
raise Refused("f.x: has no type hint")
"""


@pytest.mark.parametrize("hint", [None, "write one"])
def test_kluis_own_words(tmp_path: Path, hint: str | None) -> None:
    """What Kluis itself refuses of an application comes with its own hint, and without a class's name."""
    with pytest.raises(UsageError) as caught:
        ask(tmp_path, KLUIS_ERROR.format(hint=hint))
    assert (caught.value.message, caught.value.hint) == ("app:app: f.x: has no type hint", hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "app:app: cannot be imported: ZeroDivisionError: division by zero"),
        ("x = 1", "app:app: cannot be imported: AttributeError: module 'app' has no attribute 'app'"),
        ("app = 1", "app:app: cannot be imported: AttributeError: 'int' object has no attribute 'interface'"),
        ("import os; os._exit(3)", "app:app: cannot be imported: the interpreter said nothing"),
        (
            FAKE.format(body="return []"),
            "app:app: want an Enclave with a name, product_id and svn, got something else",
        ),
        (FAKE.format(body="return {'x': 1.5}"), "app:app.interface(): 1.5 is not an integer"),
        ("import os; os._exit(0)", "app:app.interface() at 0x0: is not JSON: Expecting value"),
    ],
)
def test_an_application_that_cannot_be_asked(tmp_path: Path, text: str, message: str) -> None:
    """What is wrong with an application is said in its own words, in one line."""
    with pytest.raises(KluisError) as caught:
        ask(tmp_path, text)
    assert caught.value.message == message
    assert list(tmp_path.iterdir()) == []


def test_an_application_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that does not end is ended, and nothing stays."""
    monkeypatch.setattr(interface, "TIMEOUT_SECONDS", 1)
    text = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(99)"
    with pytest.raises(UsageError) as caught:
        ask(tmp_path, text)
    assert caught.value.message == "app:app: want an import that ends, got none in 1 s"
    for _ in range(600):  # the kernel ends what is within the walls soon after bubblewrap
        if not (left := running(str(tmp_path))):
            break
        time.sleep(0.1)
    assert left == []


def running(word: str) -> list[str]:
    """Processes of this machine with ``word`` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def test_ctrl_c_that_only_it_heard(tmp_path: Path) -> None:
    """An import that Ctrl-C ends stops the build: the application is not said to be wrong."""
    # What is begun in the background has it ignored, and hands that on.
    hears = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path, f"import os, signal; {hears}; os.kill(os.getpid(), signal.SIGINT)")
