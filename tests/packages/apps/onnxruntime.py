"""Run a model that was made by hand."""

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from kluis.enclave import Enclave

app = Enclave("onnxruntime")


@app.ecall
def check() -> str:
    """Run a model that was made by hand."""
    taken, given = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 2]) for n in ("x", "y"))
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    model = helper.make_model(
        helper.make_graph(nodes, "small", [taken], [given], [weights]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return str(session.run(None, {"x": np.diag([1, -1]).astype(np.float32)})[0].tolist())
