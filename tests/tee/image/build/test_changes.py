"""``kluis diff`` names every setting, interface line and file that moved a measurement."""

from __future__ import annotations

import io

import pytest

from kluis.tee.image import read_image
from kluis.tee.image.build import changes
from tests.tee.image import samples

BEFORE = read_image(io.BytesIO(samples.image(signer=samples.key())))


def lines(data: bytes) -> list[str]:
    return [str(change) for change in changes.compare(BEFORE, read_image(io.BytesIO(data)))]


def test_one_image() -> None:
    """An image does not differ from itself."""
    assert lines(samples.image(signer=samples.key())) == []


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("kluis", "0.2.0", ["kluis release 0.1.0 -> 0.2.0"]),
        ("python", "3.13.5", ["python 3.11.7 -> 3.13.5"]),
        ("svn", 4, ["svn 3 -> 4"]),
        ("heap_bytes", 1 << 30, ["heap_bytes 536870912 -> 1073741824"]),
        ("scratch_bytes", 1 << 28, ["scratch_bytes 0 -> 268435456"]),
        ("threads", 16, ["threads 8 -> 16"]),
        ("date", "20270101", ["date 20260101 -> 20270101"]),
        ("argv", ["--fast"], ['argv [] -> ["--fast"]']),
        ("grants", ["insecure_jit"], ["grant: added insecure_jit"]),
        ("env", {"LD_LIBRARY_PATH": "/k/python/lib", "TZ": "UTC"}, ["env.TZ: added UTC"]),
        (
            "env",
            {"LD_LIBRARY_PATH": "/k/python/lib", "TZ": "UTC\nsvn 3 -> 4"},
            ['env.TZ: added "UTC\\nsvn 3 -> 4"'],
        ),
        ("env", {}, ["env.LD_LIBRARY_PATH: removed /k/python/lib"]),
    ],
)
def test_a_setting(field: str, value: object, expected: list[str]) -> None:
    """A setting that changed is one line, with what it was and what it is."""
    assert lines(samples.image(signer=samples.key(), **{field: value})) == expected


def test_an_interface_line() -> None:
    """A type that changed in one parameter of one call is named by call and parameter."""
    interface = samples.INTERFACE.replace(b'"type":"str"', b'"type":"int"')
    assert lines(samples.image(signer=samples.key(), interface=interface)) == [
        'interface.ecalls.greet.parameters.who.type "str" -> "int"'
    ]


def test_a_call_that_came() -> None:
    """A call that was added is named."""
    interface = samples.INTERFACE.replace(b'{"ecalls":[', b'{"ecalls":[{"name":"leak","parameters":[]},')
    assert lines(samples.image(signer=samples.key(), interface=interface)) == [
        'interface.ecalls.leak.name: added "leak"',
        "interface.ecalls.leak.parameters: added []",
    ]


def test_files() -> None:
    """A file that changed, came or went is named; its bytecode, which follows it, is not."""
    before = samples.contents(app={"a.py": b"1", "__pycache__/a.cpython-311.pyc": b"1", "gone.txt": b""})
    after = samples.contents(app={"a.py": b"2", "__pycache__/a.cpython-311.pyc": b"2", "new.txt": b""})
    found = changes.compare(
        read_image(io.BytesIO(samples.image(before))), read_image(io.BytesIO(samples.image(after)))
    )
    assert [str(change) for change in found] == [
        "app/a.py: changed",
        "app/gone.txt: removed",
        "app/new.txt: added",
    ]


def test_bytecode_alone() -> None:
    """Bytecode that changed while its source did not is what a reviewer must see."""
    before = samples.contents(app={"a.py": b"1", "__pycache__/a.cpython-311.pyc": b"1"})
    after = samples.contents(app={"a.py": b"1", "__pycache__/a.cpython-311.pyc": b"2"})
    found = changes.compare(
        read_image(io.BytesIO(samples.image(before))), read_image(io.BytesIO(samples.image(after)))
    )
    assert [(change.kind, str(change)) for change in found] == [
        ("bytecode", "app/__pycache__/a.cpython-311.pyc: changed")
    ]


def test_a_package() -> None:
    """A requirement at another version is one line; a layer that came is its files."""
    before = samples.contents(site={"a-1.0.dist-info/METADATA": b"1"})
    after = samples.contents(site={"a-2.0.dist-info/METADATA": b"2"})
    found = changes.compare(
        read_image(io.BytesIO(samples.image(before))), read_image(io.BytesIO(samples.image(after)))
    )
    assert str(found[0]) == "site: a 1.0 -> 2.0"


def test_what_is_not_measured() -> None:
    """Another signer, or the debug attribute, is said, and said to be outside the measurement."""
    found = changes.compare(BEFORE, read_image(io.BytesIO(samples.image(signer=samples.key(1), debug=True))))
    assert [(change.kind, change.what) for change in found] == [
        ("signature", "signer"),
        ("signature", "debug"),
    ]
    assert str(found[1]) == "debug off -> on"


@pytest.mark.parametrize(
    "other",
    [
        # A second member of one name, a second call of one name, and a class whose name looks like a path.
        b'{"ecalls":[{"name":"evil"}],' + samples.INTERFACE[1:],
        samples.INTERFACE.replace(b'{"name":"greet"', b'{"name":"greet","parameters":[]},{"name":"greet"'),
        b'{"ecalls":[{"name":"f","of":{"a":1}}],"ecalls.f":{"of":{"a":2}}}',
        samples.INTERFACE + b" ",
        b'{"a":[' + b"{}," * 1_300_000 + b"{}]}",
        b"[" * 900 + b"]" * 900,
        b"[" * 9000 + b"]" * 9000,
        b"\xff",
    ],
)
def test_an_interface_hides_nothing(other: bytes) -> None:
    """Each interface that is not the same bytes is a change, and the measurement is not called the same."""
    found = changes.compare(
        BEFORE, read_image(io.BytesIO(samples.image(signer=samples.key(), interface=other)))
    )
    assert [change.kind for change in found].count("interface")


def test_each_line_of_an_interface_has_its_own_path() -> None:
    """No name in an interface makes one of its lines cover another."""
    value = {
        "types": {
            "A": {"fields": [{"name": "k", "type": {"kind": "int"}}]},
            "A.fields.k.type": {"kind": "str"},
        },
        "calls": [
            {"name": "f", "of": 1},
            {"name": "f", "of": 2},
            {"name": "f.of", "x": 3},
            {"name": "[0]", "y": 1},
        ],
    }
    found = [path for path, _ in changes._lines(value, "interface")]
    assert len(found) == len(set(found)) == 11


def test_a_change_that_has_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two measurements are not called the same where no line shows what differs."""
    monkeypatch.setattr(changes, "_SETTINGS", {})
    assert lines(samples.image(signer=samples.key(), svn=4)) == [
        f"image_id {BEFORE.image_id.hex()} -> "
        + read_image(io.BytesIO(samples.image(signer=samples.key(), svn=4))).image_id.hex()
    ]
