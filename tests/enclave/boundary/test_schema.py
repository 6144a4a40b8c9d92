"""Hints to nodes and back: the host's side enforces what the inside does."""

from __future__ import annotations

import datetime
import enum
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest

from kluis.enclave import Enclave
from kluis.enclave.boundary.interface import describe
from kluis.enclave.boundary.schema import Schemas, read_value, write_value
from kluis.errors import UsageError
from kluis.host import interface as host


class Leaf(msgspec.Struct, tag="leaf"):
    value: int


class Node(msgspec.Struct, tag="node"):
    left: Leaf | Node
    right: Leaf | Node


class Pair(NamedTuple):
    first: int
    second: Leaf


class Options(TypedDict, total=False):
    verbose: bool


class Kind(enum.Enum):
    A = "a"
    B = "b"


HINTS: list[Any] = [
    None,
    bool,
    int,
    float,
    str,
    bytes,
    datetime.datetime,
    datetime.date,
    datetime.timedelta,
    uuid.UUID,
    Decimal,
    list[int],
    tuple[int, ...],
    tuple[int, str],
    set[int],
    frozenset[str],
    dict[str, list[float]],
    int | None,
    Literal["a", "b", 1],
    Annotated[int, msgspec.Meta(ge=0, lt=10)],
    Annotated[float, msgspec.Meta(gt=0.5)],
    Annotated[list[Annotated[str, msgspec.Meta(max_length=9)]], msgspec.Meta(max_length=3)],
    Leaf | Node,
    Pair,
    Options,
    Kind,
    list[Kind],
]


@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_there_and_back(hint: Any) -> None:
    """The host's side, made from the document, describes itself by the same document."""
    app = Enclave("subject")

    def f(value: Any) -> Any: ...

    f.__annotations__ = {"value": hint, "return": hint}
    app.ecall(f)
    read = host.parse(app.interface_json())
    again = describe(
        name=read.name,
        product_id=0,
        svn=0,
        max_message_bytes=read.limits.message_bytes,
        max_table_bytes=read.limits.table_bytes,
        ecalls=read.ecalls,
        ocalls=read.ocalls,
    )
    struct_like = {"kind": "struct"}
    for node in again["types"].values():
        node.update(struct_like if node["kind"] == "struct" else {})
    assert again["ecalls"] == app.interface()["ecalls"]
    assert again["types"].keys() == app.interface()["types"].keys()


@pytest.mark.parametrize(
    ("hint", "name"), [(Any, "Any"), (object, "object"), (msgspec.Raw, "Raw"), (Exception, "Exception")]
)
def test_refused(hint: Any, name: str) -> None:
    """A type without a description of its contents cannot cross."""
    with pytest.raises(UsageError) as refused:
        Schemas().node(list[hint], "f.x")
    assert refused.value.message == f"f.x: {name} cannot cross the boundary"


def test_two_classes_of_one_name() -> None:
    """Two classes of one name would be one in the document."""
    other = msgspec.defstruct("Leaf", [("x", int)])
    schemas = Schemas()
    schemas.node(Leaf, "f.x")
    with pytest.raises(UsageError, match=r"^f\.y: two classes are called Leaf(?m:$)"):
        schemas.node(other, "f.y")


@pytest.mark.parametrize("value", [None, True, 1, 2**70, -0.1, 1e300, "text"])
def test_values(value: Any) -> None:
    """Canonical JSON has no floats and no long integers; what stands for them reads back the same."""
    assert read_value(write_value(value)) == value
    assert type(read_value(write_value(value))) is type(value)


def test_names_sort_alike() -> None:
    """A name past U+FFFF, which readers of JSON sort in two ways, is refused."""
    odd = msgspec.defstruct("\U00010400", [("x", int)])
    with pytest.raises(
        UsageError, match=r"^f\.x: a name's characters end at U\+FFFF, got '\\U00010400'\nhint: rename it\Z"
    ):
        Schemas().node(odd, "f.x")
