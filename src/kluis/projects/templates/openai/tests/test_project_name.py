"""The API as its clients see it, with a model of random weights."""

import base64
import shutil
from pathlib import Path

import pytest
import tiny

from kluis.host.models import new_key, seal_model

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def client(attested_client, tmp_path):
    """A client of a copy of this project that has other weights."""
    copy = tmp_path / "copy"
    shutil.copytree(
        PROJECT, copy, ignore=shutil.ignore_patterns("weights", "*.sealed", "tests", "__pycache__")
    )
    tiny.write(tmp_path / "weights")
    key = new_key(tmp_path / "key.jwk")
    seal_model(tmp_path / "weights", copy / "models.sealed", key)
    client = attested_client(copy / "app.py")
    assert client.get("/v1/models").status_code == 503  # locked
    wrong = client.put("/model/key", json={"k": base64.urlsafe_b64encode(bytes(32)).decode()})
    assert wrong.status_code == 403
    right = client.put("/model/key", json={"k": base64.urlsafe_b64encode(key).decode()})
    assert right.status_code == 200
    return client


def test_the_api(client):
    assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["embeddings", "chat"]
    answer = client.post("/v1/embeddings", json={"model": "embeddings", "input": ["a", "b"]}).json()
    assert [len(one["embedding"]) for one in answer["data"]] == [tiny.WIDTH, tiny.WIDTH]
    question = {
        "model": "chat",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 5,
        "seed": 1,
    }
    whole = client.post("/v1/chat/completions", json=question).json()
    assert whole["usage"]["completion_tokens"] <= 5
    events = client.post("/v1/chat/completions", json={**question, "stream": True}).text
    assert events.endswith("data: [DONE]\n\n")
    assert client.post("/v1/chat/completions", json={**question, "tools": [{}]}).status_code == 400
