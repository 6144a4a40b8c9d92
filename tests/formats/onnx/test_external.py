"""Every place in an ONNX model that can name a file is found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, KluisError
from kluis.formats.onnx.external import external_files

onnx = pytest.importorskip("onnx", reason="onnx is not installed: scripts/setup.sh test")


def stored(name: str) -> Any:
    """A tensor whose data are in a file."""
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[2])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    tensor.external_data.add(key="offset", value="0")
    return tensor


def model(**parts: Any) -> Any:
    """A model with one graph."""
    return onnx.ModelProto(ir_version=9, graph=onnx.GraphProto(name="g", **parts))


def in_attribute(**kind: Any) -> Any:
    """A node with an attribute."""
    return onnx.NodeProto(op_type="Constant", attribute=[onnx.AttributeProto(name="value", **kind)])


def sparse(name: str) -> Any:
    """A sparse tensor whose values are in a file."""
    return onnx.SparseTensorProto(values=stored(name), dims=[4])


PLACES = {
    "initializer": model(initializer=[stored("f")]),
    "sparse initializer": model(sparse_initializer=[sparse("f")]),
    "attribute": model(node=[in_attribute(t=stored("f"))]),
    "attribute list": model(node=[in_attribute(tensors=[stored("f")])]),
    "sparse attribute": model(node=[in_attribute(sparse_tensor=sparse("f"))]),
    "sparse attribute list": model(node=[in_attribute(sparse_tensors=[sparse("f")])]),
    "subgraph": model(node=[in_attribute(g=onnx.GraphProto(initializer=[stored("f")]))]),
    "subgraphs": model(node=[in_attribute(graphs=[onnx.GraphProto(initializer=[stored("f")])])]),
    "function": onnx.ModelProto(functions=[onnx.FunctionProto(node=[in_attribute(t=stored("f"))])]),
    "function's attribute": onnx.ModelProto(
        functions=[onnx.FunctionProto(attribute_proto=[onnx.AttributeProto(t=stored("f"))])]
    ),
    "training": onnx.ModelProto(
        training_info=[onnx.TrainingInfoProto(algorithm=onnx.GraphProto(initializer=[stored("f")]))]
    ),
    "initialization": onnx.ModelProto(
        training_info=[onnx.TrainingInfoProto(initialization=onnx.GraphProto(initializer=[stored("f")]))]
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_each_place(place: str) -> None:
    """A file's name is found wherever a tensor may be."""
    assert external_files(PLACES[place].SerializeToString()) == {"f"}


def test_none_and_several() -> None:
    """A model with its data inside names no file; two tensors may name two."""
    inside = onnx.helper.make_tensor("w", 1, [2], [1.0, -2.0])
    assert external_files(model(initializer=[inside]).SerializeToString()) == frozenset()
    both = model(initializer=[stored("../../etc/passwd"), stored("w.data"), inside])
    assert external_files(both.SerializeToString()) == {"../../etc/passwd", "w.data"}


def test_a_name_that_is_not_stated_as_external() -> None:
    """A name counts also where the tensor does not state that its data are outside."""
    tensor = stored("f")
    tensor.data_location = onnx.TensorProto.DEFAULT
    assert external_files(model(initializer=[tensor]).SerializeToString()) == {"f"}


def test_odd_tensors() -> None:
    """A tensor outside without a name, and a name that is not text, are refused."""
    nameless = stored("f")
    del nameless.external_data[0]
    with pytest.raises(FormatError) as raised:
        external_files(model(initializer=[nameless]).SerializeToString())
    assert raised.value.message == "ONNX model: a tensor is stored in a file without a name"
    data = model(initializer=[stored("f")]).SerializeToString().replace(b"\x12\x01f", b"\x12\x01\xff")
    with pytest.raises(FormatError) as raised:
        external_files(data)
    assert raised.value.message == "ONNX model: a file's name is not UTF-8"


def test_deep_subgraphs() -> None:
    """Graphs in graphs end at a depth."""
    graph = onnx.GraphProto(initializer=[stored("f")])
    for _ in range(20):
        graph = onnx.GraphProto(node=[in_attribute(g=graph)])
    with pytest.raises(FormatError) as raised:
        external_files(onnx.ModelProto(graph=graph).SerializeToString())
    assert raised.value.message == "ONNX model: nested more than 32 deep"


@given(st.binary(max_size=12), st.integers(0, 60))
def test_any_change(replacement: bytes, at: int) -> None:
    """Changed bytes give names, or an error of ours."""
    data = PLACES["subgraph"].SerializeToString()
    try:
        external_files(data[:at] + replacement + data[at + len(replacement) :])
    except KluisError:
        return
