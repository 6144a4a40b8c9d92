"""A client of private inference whose request is within its limits: others keep the service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.openai.serving import MISSING, write_project

pytestmark = pytest.mark.skipif(bool(MISSING), reason="onnxruntime is not installed: scripts/setup.sh test")
PROJECT = """
import asyncio, resource, sys
from pathlib import Path
project = Path(sys.argv[1])
sys.path.insert(0, str(project))
import inference, onnxruntime, wire

class Weights:
    files = {
        f"{name}/tokenizer.json": (project / "weights" / name / "tokenizer.json").read_bytes()
        for name in ("embeddings", "chat")
    }

    def session(self, path):
        return onnxruntime.InferenceSession(str(project / "weights" / path))
"""
# With the memory of a large enclave.
EMBED = """
embedder = inference.Embedder(Weights())
one, both = embedder.embed(["ab"])[0], embedder.embed(["ab", "abc"])[0]
assert abs(one[0] - both[0]).max() < 1e-5
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
try:
    embedder.embed(["a" * 900_000, *["b"] * 255])
except wire.BadRequest as refused:
    print(refused)
"""


CHAT = """
import threading

others, prompt, waited = threading.Event(), inference.Chatter.prompt, []

def prompt_later(chatter, request):
    waited.append(others.wait(100))
    return prompt(chatter, request)

inference.Chatter.prompt = prompt_later

async def main():
    engine, turns = inference.Engine(Weights()), 0
    message = wire.Message("user", "a" * 900_000)
    answer = asyncio.ensure_future(engine.chat("chat", wire.ChatRequest("chat", [message])))
    while not answer.done():
        await asyncio.sleep(0)
        turns += 1
        if turns > 100:
            others.set()
    print(waited, answer.exception())

asyncio.run(main())
"""


def run(code: str, project: Path) -> subprocess.CompletedProcess[str]:
    """Run code with a project's engine, in a separate process."""
    line = [sys.executable, "-c", PROJECT + code, str(project)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


def test_a_long_conversation(tmp_path: Path) -> None:
    """Other requests are answered before it has become tokens."""
    done = run(CHAT, write_project(tmp_path / "project").parent)

    assert done.stdout == "[True] messages: want fewer than 256 tokens, got 900002\n", done.stderr[-2000:]


def test_one_long_text_among_many(tmp_path: Path) -> None:
    """Texts are not padded to the longest before that one is refused: 256 of 900,000 tokens fit nowhere."""
    done = run(EMBED, write_project(tmp_path / "project").parent)

    assert done.stdout == "input: want texts of at most 512 tokens, got 900000\n", done.stderr[-2000:]
