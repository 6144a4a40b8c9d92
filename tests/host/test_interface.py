"""The host's side, generated only from the document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from kluis.enclave import Enclave
from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.encoding import jcs
from kluis.host import interface
from kluis.testing.rehearsal import interface_of
from tests.strategies import PROPERTY, mutations


def sample() -> bytes:
    app = Enclave("sample")

    @app.ecall
    def f(a: int, b: dict[str, list[float]] | None = None) -> tuple[int, str]:
        """Do it."""
        return 1, ""

    return app.interface_json()


def test_reads() -> None:
    """Names, numbers, types and defaults are those of the declarations."""
    read = interface.parse(sample())
    assert read.name == "sample"
    (call,) = read.ecalls
    assert [one.name for one in call.parameters] == ["a", "b"]
    assert call.parameters[1].default is None
    assert call.returns == tuple[int, str]
    assert call.doc == "Do it."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "kluis-interface/2"}, "interface format: want kluis-interface/1, got kluis-interface/2"),
        ({"name": 5}, "interface: Expected `str`, got `int` - at `$.name`"),
    ],
)
def test_refuses(change: dict[str, Any], message: str) -> None:
    """Another format, and a malformed document, are refused."""
    document = jcs.loads(sample(), "interface")
    assert isinstance(document, dict)
    with pytest.raises(FormatError) as refused:
        interface.parse(jcs.dumps(document | change))
    assert refused.value.message == message


def test_unknown_type() -> None:
    """A type of a later Kluis is named."""
    data = sample().replace(b'"kind":"int"', b'"kind":"money"')
    with pytest.raises(UnsupportedError, match=r"^interface type: money is not known here$"):
        interface.parse(data)


@PROPERTY
@given(mutations(sample()))
def test_only_our_errors(data: bytes) -> None:
    """Whatever the document, it is read or refused."""
    try:
        interface.parse(data)
    except KluisError:
        return


def test_recursive_types(subject: Path) -> None:
    """A class that holds its own kind is made once, and holds its own kind."""
    read, _ = interface_of(subject)
    person = read.types["Person"]
    assert person(name="a", friends=[person(name="b")]).friends[0].name == "b"
