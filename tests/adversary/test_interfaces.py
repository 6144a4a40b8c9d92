"""Images that nobody signed, whose interface is written to run code or to cost much where it is only read."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import GenericAlias
from typing import Any

import msgspec
import pytest

from kluis.enclave.boundary.codec import Codec
from kluis.enclave.boundary.frames import RETURN
from kluis.enclave.boundary.interface import Signature, check
from kluis.errors import FormatError, KluisError, UsageError
from kluis.formats.encoding import jcs
from kluis.host import interface, load
from tests.tee.image import samples

DOCUMENT: dict[str, Any] = {
    "format": interface.FORMAT,
    "name": "subject",
    "product_id": 7,
    "svn": 3,
    "max_message_bytes": 1 << 20,
    "max_table_bytes": 1 << 20,
    "ecalls": [
        {
            "name": "f",
            "doc": "doc",
            "parameters": [
                {"name": "a", "type": {"ref": "A"}},
                {"name": "e", "type": {"ref": "E"}},
                {"name": "n", "type": {"ref": "N"}},
                {"name": "l", "type": {"kind": "literal", "values": ["text"]}},
                {"name": "s", "type": {"kind": "list", "items": {"kind": "str", "pattern": "x"}}},
                {"name": "d", "type": {"kind": "str"}, "default": "text"},
            ],
            "returns": {"ref": "A"},
            "raises": ["Refused"],
        }
    ],
    "ocalls": [],
    "types": {
        "A": {
            "kind": "struct",
            "tag": "text",
            "tag_field": "kind",
            "fields": [
                {"name": "x", "type": {"ref": "A"}},
                {"name": "y", "type": {"kind": "list", "items": {"ref": "A"}}, "optional": True},
                {"name": "z", "type": {"kind": "str"}, "default": "text"},
            ],
        },
        "E": {"kind": "enum", "members": {"ONE": "text"}},
        "N": {"kind": "namedtuple", "fields": [{"name": "x", "type": {"ref": "N"}}]},
    },
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every text in the document, keys of objects included."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key, None)
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def put(path: tuple[Any, ...], text: str) -> dict[str, Any]:
    """The document with ``text`` in one place."""
    changed = copy.deepcopy(DOCUMENT)
    at: Any = changed
    *parents, last = path[:-1] if path[-1] is None else path
    for step in parents:
        at = at[step]
    if path[-1] is None:
        at[text] = at.pop(last)
    else:
        at[last] = text
    return changed


def texts(marker: Path) -> Iterator[str]:
    """Texts that would make ``marker`` if Python evaluated them, by themselves or after a name."""
    run = f"__import__('os').close(__import__('os').open({str(marker)!r}, 65, 384))"
    yield run
    yield f"A or {run}"
    yield f"A if {run} else A"
    yield f"x=1, y={run}"
    yield f"__annotations__[{run}]"
    yield "{0.__class__}" + run


def test_no_text_of_an_interface_is_evaluated(tmp_path: Path) -> None:
    """Code in place of any text runs neither when the document is read nor when calls are made ready."""
    marker = tmp_path / "ran"
    read = 0
    for path in places(DOCUMENT):
        for text in texts(marker):
            try:
                declared = interface.parse(jcs.dumps(put(path, text)))
                for kind, one in enumerate(declared.ecalls):
                    Codec(one, kind, RETURN, declared.limits)
                read += 1
            except KluisError:
                pass
            assert not marker.exists(), (path, text)
    assert read  # a text that is data is read as data, as a literal is


def test_the_document_itself_is_read() -> None:
    """What the attacks change is a document that is read, and whose calls can be made."""
    declared = interface.parse(jcs.dumps(DOCUMENT))
    codec = Codec(declared.ecalls[0], 0, RETURN, declared.limits)
    made = declared.types["A"]
    assert made.__annotations__["x"] is made
    assert codec.count == 6


COMMANDS = {
    "run": ["run", "IMAGE"],
    "run-call": ["run", "IMAGE", "f", '{"kind": "text", "x": {}}', '"text"', "[[]]", '"text"', "[]"],
    "attest": ["attest", "IMAGE", "-o", "evidence.bin", "--nonce", "9f02"],
    "measure": ["measure", "IMAGE"],
    "diff": ["diff", "IMAGE", "IMAGE"],
    "inspect": ["inspect", "IMAGE"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unsigned_image_runs_no_command(command: str, tmp_path: Path) -> None:
    """An image of a few KB, which is unsigned, is given to a command: none of its text is run."""
    text = next(text for text in texts(tmp_path / "ran") if text.startswith("A if "))
    document = put(("types", "A", "fields", 0, "type", "ref"), text)
    image = tmp_path / "bad.kluis"
    image.write_bytes(samples.image(interface=jcs.dumps(document)))
    words = [str(image) if word == "IMAGE" else word for word in COMMANDS[command]]
    ended = subprocess.run(
        [sys.executable, "-c", "from kluis.cli.main import main; main()", *words],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "KLUIS_HOME": str(tmp_path / "home")},
    )
    assert not (tmp_path / "ran").exists()
    assert b"Traceback" not in ended.stderr
    if command in {"run", "run-call", "attest"}:
        assert b"interface: " in ended.stderr, ended.stderr


def test_load_refuses_it_before_a_platform_is_asked(tmp_path: Path) -> None:
    """``load``, which ``kluis room run`` and ``kluis serve`` call too, refuses such a document outright."""
    image = tmp_path / "bad.kluis"
    for text in texts(tmp_path / "ran"):
        document = put(("types", "A", "fields", 1, "type", "items", "ref"), text)
        image.write_bytes(samples.image(interface=jcs.dumps(document)))
        with pytest.raises(FormatError, match=r"^interface: "):
            load(image, platform=_Unasked())  # type: ignore[arg-type]
        assert not (tmp_path / "ran").exists()


class _Unasked:
    def launch(self, *_: object, **__: object) -> None:
        raise AssertionError("the platform was asked")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a\n",
        "class",
        "__init__",
        "__class_getitem__",
        "x=1",
        "ﬁ",
        "\U00010400",
        "n" * 129,
        "1a",
        "a-b",
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        ("ecalls", 0, "name"),
        ("ecalls", 0, "parameters", 0, "name"),
        ("types", "A", "fields", 0, "name"),
        ("types", "A", "tag_field"),
        ("types", "N", "fields", 0, "name"),
        ("types", "E", "members", "ONE", None),
        ("types", "E", None),
    ],
)
def test_names_are_identifiers(path: tuple[Any, ...], name: str) -> None:
    """Names that Python does not accept or reserves are refused."""
    with pytest.raises(FormatError, match=r"^interface: "):
        interface.parse(jcs.dumps(put(path, name)))


@pytest.mark.parametrize("name", ["_secret", "attest", "close", "call"])
def test_calls_do_not_take_the_proxys_own_names(name: str) -> None:
    """A call that has the name of what the host's proxy does itself is refused."""
    with pytest.raises(FormatError, match=rf"^interface: {name}: this name is not free\Z"):
        interface.parse(jcs.dumps(put(("ecalls", 0, "name"), name)))


def large() -> Iterator[dict[str, Any]]:
    """Documents that are costly in one way each."""
    many = range(2000)
    integer = {"kind": "int"}
    yield {"types": {f"T{i}": {"kind": "struct", "fields": []} for i in many}}
    yield {"types": {"E": {"kind": "enum", "members": {f"m{i}": i for i in many}}}}
    yield {
        "types": {f"T{i}": {"kind": "enum", "members": {f"m{j}": j for j in range(1000)}} for i in range(100)}
    }
    yield {"types": {"T": {"kind": "struct", "fields": [{"name": f"f{i}", "type": integer} for i in many]}}}
    for node in (
        {"kind": "union", "of": [{"kind": "literal", "values": [i]} for i in many]},
        {"kind": "literal", "values": list(many)},
        {"kind": "tuple", "items": [integer] * 2000},
    ):
        yield {"ecalls": [{"name": "f", "parameters": [], "returns": node, "raises": []}]}
    call = {"name": "f", "parameters": [], "returns": integer, "raises": []}
    yield {"ecalls": [call] * 2000}
    for bad in (-1, 1 << 41):
        yield {"max_message_bytes": bad}
        yield {"max_table_bytes": bad}


@pytest.mark.parametrize("number", range(len(list(large()))))
def test_sizes_are_bounded(number: int) -> None:
    """A document that would make many classes, values or bytes is refused."""
    data = jcs.dumps(DOCUMENT | list(large())[number])
    begun = time.process_time()
    with pytest.raises(FormatError, match=r"^interface: "):
        interface.parse(data)
    assert time.process_time() - begun < 5


def test_an_images_regular_expression_does_not_run_here() -> None:
    """The host does not evaluate a pattern that takes endless time: the enclave enforces its patterns."""
    document = put(("ecalls", 0, "parameters", 4, "type", "items", "pattern"), "^(a+)+$")
    declared = interface.parse(jcs.dumps(document))
    text = declared.ecalls[0].parameters[4].hint
    begun = time.process_time()
    assert msgspec.json.decode(b'["' + b"a" * 40 + b'!"]', type=text) == ["a" * 40 + "!"]
    assert time.process_time() - begun < 5


def _read(hint: dict[str, Any], types: dict[str, Any] | None = None) -> None:
    """Read an interface whose only call returns ``hint``, and make the call's decoders."""
    call = {"name": "f", "parameters": [], "returns": hint, "raises": []}
    document = DOCUMENT | {"ecalls": [call], "types": types or {}}
    declared = interface.parse(jcs.dumps(document))
    Codec(declared.ecalls[0], 0, RETURN, declared.limits)


@pytest.mark.parametrize(
    "hint",
    [
        {"kind": "int", "ge": {"int": "-" + "9" * 4000}},
        {"kind": "int", "ge": {"int": "9" * 4000}},
        {"kind": "str", "max_length": {"int": "9" * 40}},
        {"kind": "literal", "values": [{"int": "9" * 30}]},
        {"kind": "literal", "values": [{"float": "1.5"}]},
        {"ref": "E"},
        {"ref": "C0"},
        {"ref": "N0"},
    ],
)
def test_what_the_decoders_cannot_hold_is_refused(hint: dict[str, Any]) -> None:
    """Numbers and chains of classes past msgspec's own limits are refused, with an error of ours."""
    types: dict[str, Any] = {"E": {"kind": "enum", "members": {"b": {"int": "9" * 30}}}}
    letter = str(hint.get("ref"))[0]
    for number in range(1000):
        of = {"ref": f"{letter}{number + 1}"} if number < 999 else {"kind": "int"}
        kind = "namedtuple" if letter == "N" else "struct"
        types[f"{letter}{number}"] = {"kind": kind, "fields": [{"name": "f", "type": of}]}
    with pytest.raises(KluisError):
        _read(hint, types)


@pytest.mark.parametrize("kind", ["struct", "namedtuple"])
def test_types_are_nested_at_most_a_hundred_levels(kind: str) -> None:
    """A chain of classes is as long on every Python: 99 and the number at its end, and no more."""
    for count in (99, 100):
        types: dict[str, Any] = {}
        for number in range(count):
            of = {"ref": f"C{number + 1}"} if number < count - 1 else {"kind": "int"}
            types[f"C{number}"] = {"kind": kind, "fields": [{"name": "f", "type": of}]}
        if count == 99:
            _read({"ref": "C0"}, types)
            continue
        with pytest.raises(FormatError) as caught:
            _read({"ref": "C0"}, types)
        assert caught.value.message == "interface: want at most 100 levels of types, got more"


def _chain(names: list[str], end: dict[str, Any]) -> dict[str, Any]:
    types = {}
    for name, of in zip(names, [*({"ref": each} for each in names[1:]), end], strict=True):
        types[name] = {"kind": "struct", "fields": [{"name": "f", "type": of}]}
    return types


def test_no_order_hides_how_deeply_types_are_nested() -> None:
    """Classes that an earlier parameter reached, or that contain each other, count where they are used."""
    for count in (90, 180, 1000):  # each 90 are within the limit, if what they lead to were not counted
        names = [f"C{number}" for number in range(count)]
        hint = {"kind": "tuple", "items": [{"ref": each} for each in names[::-90]]}
        if count == 90:
            _read(hint, _chain(names, {"kind": "int"}))
            continue
        with pytest.raises(FormatError, match="want at most 100 levels"):
            _read(hint, _chain(names, {"kind": "int"}))
    ring = [f"R{number}" for number in range(60)]
    rings = _chain(ring, {"ref": "R0"})
    _read({"ref": "R0"}, rings)
    rings |= _chain([f"D{number}" for number in range(60)], {"ref": "R59"})
    with pytest.raises(FormatError, match="want at most 100 levels"):
        _read({"kind": "tuple", "items": [{"ref": "R0"}, {"ref": "D0"}]}, rings)


def test_an_author_learns_of_types_that_no_host_reads() -> None:
    """The writer of an interface has the reader's limit."""
    for count in (99, 100, 2000):
        hint: Any = int
        for _ in range(count):
            hint = GenericAlias(list, (hint,))
        signature = Signature("f", (), hint)
        if count == 99:
            check(signature)
            continue
        with pytest.raises(UsageError, match=r"^f.*: want at most 100 levels of types, got more\Z"):
            check(signature)


def test_a_named_tuple_inside_a_class() -> None:
    """A named tuple that is declared in another class is read."""
    fields = [{"name": "x", "type": {"kind": "int"}}]
    _read({"ref": "Outer.Inner"}, {"Outer.Inner": {"kind": "namedtuple", "fields": fields}})


def test_two_calls_of_one_name() -> None:
    """Which of two calls a name is of is not left to chance."""
    with pytest.raises(KluisError, match="a name is given twice"):
        interface.parse(jcs.dumps(DOCUMENT | {"ecalls": [DOCUMENT["ecalls"][0]] * 2}))
