"""A client of private inference whose request is within its limits: others keep the service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.openai.serving import MISSING, write_project

pytestmark = pytest.mark.skipif(bool(MISSING), reason="onnxruntime is not installed: scripts/setup.sh test")
# The embedder of a project, in a process with the memory of a large enclave.
EMBED = """
import resource, sys
from pathlib import Path
project = Path(sys.argv[1])
sys.path.insert(0, str(project))
import inference, onnxruntime, wire

class Weights:
    files = {"embeddings/tokenizer.json": (project / "weights/embeddings/tokenizer.json").read_bytes()}

    def session(self, path):
        return onnxruntime.InferenceSession(str(project / "weights" / path))

embedder = inference.Embedder(Weights())
alone, both = embedder.embed(["ab"])[0], embedder.embed(["ab", "abc"])[0]
assert abs(alone[0] - both[0]).max() < 1e-5
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
try:
    embedder.embed(["a" * 900_000, *["b"] * 255])
except wire.BadRequest as refused:
    print(refused)
"""


def test_one_long_text_among_many(tmp_path: Path) -> None:
    """Texts are not padded to the longest before that one is refused: 256 of 900,000 tokens fit nowhere."""
    project = write_project(tmp_path / "project").parent
    line = [sys.executable, "-c", EMBED, str(project)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)

    assert done.stdout == "input: want texts of at most 512 tokens, got 900000\n", done.stderr[-2000:]
