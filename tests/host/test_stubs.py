"""Typed enclaves: the module of an interface runs, and a type checker finds wrong calls in it."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kluis.enclave.boundary.interface import FORMAT
from kluis.errors import UsageError
from kluis.formats.encoding import jcs
from kluis.hashes import sha256
from kluis.host import EnclaveProxy, TypedEnclave, load
from kluis.host.interface import parse, shape
from kluis.host.stubs import stubs_of
from kluis.testing.images import ALLOWED, built
from kluis.testing.rehearsal import interface_of

__all__ = ["built"]

SUBJECT = Path(__file__).parents[1] / "enclave" / "subject" / "app.py"
STREAMING = Path(__file__).parents[1] / "enclave" / "streaming" / "app.py"
HELLO = Path(__file__).parents[2] / "examples" / "hello"

USE = """
import asyncio
from typing import assert_type

from hello_stubs import AsyncHello, Hello
from kluis.host import load
from streaming_stubs import AsyncStreaming, Streaming
from subject_stubs import Colour, Person, Subject

with load("hello.kluis", Hello) as hello:
    assert_type(hello.mean([3.0, 4.0]), float)
    assert_type(hello.mean.within(3.0)(values=[3.0]), float)
    assert_type(hello.mean.submit([3.0]).result(), float)
    assert_type(hello.image_id, bytes)
    hello.mean_agee()  # 1
    hello.mean(["3"])  # 2
    hello.greet()  # 3
    hello.greet("Ada", loud=True)  # 4
with load("subject.kluis", Subject) as subject:
    Person(name="Ada", friends=[Person(name="Bo")], colour=Colour.RED)
    Person(nam="Ada")  # 5
with load("any.kluis") as other:
    other.anything(1)
    AsyncHello(other)  # 6
with load("streaming.kluis", Streaming) as streaming:
    for number in streaming.count(3, pause=0.5):
        assert_type(number, int)
    with streaming.words.within(3.0)("a b") as words:
        assert_type(next(words), str)
    assert_type(streaming.later("a"), str)
    streaming.count("3")  # 7
    streaming.count.submit(3)  # 8


async def wait() -> None:
    async with await AsyncStreaming.load("streaming.kluis", timeout_seconds=3.0) as awaited:
        assert_type(await awaited.later("a", 0.5), str)
        first, second = await asyncio.gather(awaited.later("a"), awaited.logged())
        assert_type(first, str)
        assert_type(second, list[str])
        async for number in awaited.count(3):
            assert_type(number, int)
        async with awaited.words("a b") as words:
            assert_type(await anext(words), str)
        assert_type(awaited.enclave, Streaming)
        await awaited.count(3)  # 9
        await awaited.later(3)  # 10
        awaited.latter("a")  # 11
        awaited.later("a") + "b"  # 12
"""


def module(path: Path, text: str) -> Any:
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = made  # msgspec resolves the annotations of its classes there
    spec.loader.exec_module(made)
    return made


async def _awaited(ecall: Callable[[str], Awaitable[Any]], name: str) -> Any:
    return await ecall(name)


def test_a_type_checker_finds_what_is_wrong(tmp_path: Path) -> None:
    """Right calls and both modules pass mypy --strict, and each wrong call is named; also from a .pyi."""
    apps = (("hello", HELLO / "app.py", "py"), ("subject", SUBJECT, "pyi"), ("streaming", STREAMING, "py"))
    for name, app, suffix in apps:
        (tmp_path / f"{name}_stubs.{suffix}").write_text(stubs_of(interface_of(app)[0])[1])
    (tmp_path / "use.py").write_text(USE)
    line = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary"]
    done = subprocess.run(
        [
            *line,
            f"--cache-dir={tmp_path / 'cache'}",
            "use.py",
            "hello_stubs.py",
            "subject_stubs.pyi",
            "streaming_stubs.py",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    wrong = {number for number, text in enumerate(USE.splitlines(), 1) if "  # " in text}
    errors = [text for text in done.stdout.splitlines() if ": error: " in text]
    assert {int(text.split(":")[1]) for text in errors if text.startswith("use.py")} == wrong, done.stdout
    assert [text for text in errors if not text.startswith("use.py")] == [], done.stdout
    assert '"Hello" has no attribute "mean_agee"' in done.stdout


@pytest.mark.skipif(bool(ALLOWED), reason="the example allows no protection to be missing")
def test_an_enclave_is_one_of_the_class(built: Callable[..., Path], tmp_path: Path) -> None:
    """load() returns an enclave of the class, whose calls run; it refuses a class of another interface."""
    image = built(HELLO)
    name, text = stubs_of(interface_of(HELLO / "app.py")[0])
    hello = module(tmp_path / "hello_typed.py", text)
    kind = getattr(hello, name)
    with load(image, kind) as enclave:
        assert isinstance(enclave, kind)
        assert isinstance(enclave, TypedEnclave)
        assert not isinstance(enclave, EnclaveProxy)
        assert enclave.greet("Ada") == "hello, Ada, from inside"
        awaited = getattr(hello, f"Async{name}")(enclave)
        assert asyncio.run(_awaited(awaited.greet, "Bo")) == "hello, Bo, from inside"
        with pytest.raises(AttributeError, match="has no ecall greeet"):
            _ = enclave.greeet

    name, text = stubs_of(interface_of(SUBJECT)[0])
    other = getattr(module(tmp_path / "subject_typed.py", text), name)
    with pytest.raises(UsageError) as refused:
        load(image, other)
    assert refused.value.code == "stubs"
    assert refused.value.hint == f"kluis stubs {image} -o subject_typed.py writes it again"


def test_results_are_of_the_modules_classes(tmp_path: Path) -> None:
    """With the module's classes, a document has the same signatures, of those classes."""
    interface, _ = interface_of(SUBJECT)
    name, text = stubs_of(interface)
    made = module(tmp_path / "subject_classes.py", text)
    typed = parse(jcs.dumps(interface.document), getattr(made, name)._types)
    assert typed.types["Person"] is made.Person
    assert typed.types["Colour"] is made.Colour
    assert made.Person(name="Ada").friends is msgspec.UNSET
    assert getattr(made, name)._interface == sha256(shape(interface.document)).hex()


def test_descriptions_do_not_change_the_shape() -> None:
    """A class stays valid if only a description or the version changes, and not if a type does."""
    document = interface_of(HELLO / "app.py")[0].document
    before = shape(document)
    assert (
        shape({**document, "svn": 9, "ecalls": [{**one, "doc": "x"} for one in document["ecalls"]]}) == before
    )
    assert shape({**document, "ecalls": document["ecalls"][1:]}) != before


def test_text_of_an_image_never_runs() -> None:
    """Descriptions and values of a hostile image stay literals, and its classes hide no other name."""
    evil = '"""\'\'\'\n");print("owned")#\\'
    document = {
        "format": FORMAT,
        "name": evil[:64],
        "product_id": 0,
        "svn": 0,
        "max_message_bytes": 1 << 20,
        "max_table_bytes": 1 << 20,
        "ecalls": [
            {
                "name": "f",
                "parameters": [
                    {"name": "self", "type": {"kind": "literal", "values": [evil]}, "default": evil},
                    {"name": "x", "type": {"kind": "float"}, "default": {"float": "inf"}},
                    {"name": "y", "type": {"ref": "int"}},
                ],
                "returns": {"ref": "Future"},
                "raises": [],
                "doc": evil,
            }
        ],
        "ocalls": [],
        "types": {
            "int": {"kind": "enum", "members": {"a": evil}},
            "Future": {
                "kind": "struct",
                "fields": [{"name": "z", "type": {"kind": "str"}}],
                "tag_field": "t",
                "tag": evil,
            },
            "PrintOwned": {"kind": "namedtuple", "fields": []},
            "_class": {"kind": "namedtuple", "fields": []},
            "_1": {"kind": "namedtuple", "fields": []},
            "_": {"kind": "namedtuple", "fields": []},
        },
    }
    interface = parse(jcs.dumps(document))
    name, text = stubs_of(interface)
    tree = ast.parse(text)
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert {ast.unparse(each) for each in called} == {"float"}
    classes = [each.name for each in tree.body if isinstance(each, ast.ClassDef)]
    types = ["Future_", "PrintOwned", "Type", "Type1", "class_", "int_"]
    assert classes == [*types, "_f", "_async_f", name, f"Async{name}"]
    assert name == "PrintOwnedEnclave"
