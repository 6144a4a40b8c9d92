"""The files that an ONNX model names: tensors may be stored outside the model, as *external data*.

A runtime would open such a file by its name. The loader decides first which names it accepts. Only
the fields that can lead to a tensor are read. Spec: ONNX, "onnx.proto3" and "External Data".
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding import protobuf

MAX_FIELDS: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_NAME_BYTES: Final = 4096
_WHAT: Final = "ONNX model"
_EXTERNAL: Final = 1  # TensorProto.DataLocation


# Of each message: by field number of onnx.proto3, the message in it.
_KINDS: Final[dict[str, dict[int, str]]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
}


def external_files(model: bytes) -> frozenset[str]:
    """The names of all files that a model's tensors are stored in.

    Args:
        model: a serialized ``ModelProto``.

    Raises:
        FormatError: not an ONNX model, or an external tensor without a name.
    """
    names: set[str] = set()
    _visit(model, "Model", names, 0)
    return frozenset(names)


def _visit(data: bytes, kind: str, names: set[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise FormatError(f"{_WHAT}: nested more than {MAX_DEPTH} deep", code="too_deep")
    if kind == "Tensor":
        _visit_tensor(data, names)
        return
    below = _KINDS[kind]
    for field in protobuf.fields(data, _WHAT, most=MAX_FIELDS):
        if field.number in below:
            _visit(field.octets(_WHAT), below[field.number], names, depth + 1)


def _visit_tensor(data: bytes, names: set[str]) -> None:
    named, outside = False, False
    for field in protobuf.fields(data, _WHAT, most=MAX_FIELDS):
        if field.number == 14:
            outside = field.integer(_EXTERNAL, _WHAT) == _EXTERNAL
        elif field.number == 13:
            entry = {each.number: each for each in protobuf.fields(field.octets(_WHAT), _WHAT)}
            if 1 in entry and entry[1].octets(_WHAT) == b"location":
                names.add(_text(entry[2].octets(_WHAT) if 2 in entry else b""))
                named = True
    if outside and not named:
        raise FormatError(f"{_WHAT}: a tensor is stored in a file without a name", code="bad_encoding")


def _text(name: bytes) -> str:
    if len(name) > MAX_NAME_BYTES:
        raise FormatError(f"{_WHAT}: want a file's name of at most {MAX_NAME_BYTES} bytes", code="too_large")
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise FormatError(f"{_WHAT}: a file's name is not UTF-8", code="bad_encoding") from None
