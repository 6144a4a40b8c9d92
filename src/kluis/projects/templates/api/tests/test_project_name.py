"""The API as its clients see it: over TLS that ends inside, after the evidence was checked."""

from pathlib import Path

APP = Path(__file__).parents[1] / "app.py"


def test_mean(attested_client):
    client = attested_client(APP)
    assert client.post("/mean", json={"ages": [61, 58, 70, 66, 49]}).json() == {"mean": 60.8}
    assert client.post("/mean", json={"ages": [61]}).status_code == 422
