"""Clients and hosts that misbehave: each gets an error, and all others are served."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
from pathlib import Path

import pytest

from kluis.client import unlock_model
from kluis.errors import AuthenticityError, FormatError, PolicyError, UnavailableError
from kluis.host.models import seal_model
from kluis.testing.rehearsal import RehearsalPlatform
from tests.clients.openai.serving import KEY, MISSING, Service, key_body, policy, serving, write_project
from tests.enclave.hosted.serving import plain_tls

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "stream": True, "seed": 1}


def raw(service: Service) -> ssl.SSLSocket:
    """A connection without HTTP."""
    return plain_tls(int(service.url.rpartition(":")[2]))


def answers(service: Service) -> None:
    """The service answers another client."""
    with service.client() as client:
        asked = {"model": "embeddings", "input": "a"}
        assert client.post("/v1/embeddings", json=asked).status_code == 200


def test_clients_that_hang_up(service: Service) -> None:
    """Clients that leave in the midst of a stream, or before an answer, take no place from others."""
    for stream in (True, False) * 4:
        with (
            service.client() as client,
            client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": stream}) as response,
        ):
            next(response.iter_raw())
    for _ in range(4):
        with raw(service) as tls:
            body = json.dumps(CHAT | {"stream": False}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n"
            tls.sendall(head.encode() + body)
    answers(service)


def peak(service: Service) -> int:
    """The most memory that the service ever had, in KiB."""
    status = Path(f"/proc/{service.enclave.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.slow
def test_a_gibibyte(service: Service) -> None:
    """A gibibyte is refused by its length; without one, the rest is discarded, and takes no memory."""
    answers(service)
    before = peak(service)
    with raw(service) as tls:
        tls.sendall(f"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: {1 << 30}\r\n\r\n".encode())
        assert tls.recv(1000).startswith(b"HTTP/1.1 413")
    part = bytes(1 << 20)
    with service.client() as client:
        assert client.post("/v1/embeddings", content=(part for _ in range(1024))).status_code == 413
    assert peak(service) - before < 64 << 10
    answers(service)


def test_a_client_that_never_reads(service: Service) -> None:
    """Requests without end whose answers nobody reads stop at the connection's buffers."""
    body = json.dumps({"model": "embeddings", "input": ["a"] * 200}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with raw(service) as tls:
        tls.settimeout(5)
        with pytest.raises((TimeoutError, ConnectionError, ssl.SSLError)):
            tls.sendall((head + body) * ((256 << 20) // len(head + body)))
        answers(service)


def test_requests_that_are_not_json(service: Service) -> None:
    """Other bodies are a client's error in OpenAI's form; a wrong path, too."""
    with service.client() as client:
        for body in (b"", b"\xff", b"[" * 100_000, b'{"model": "chat"}', b'{"model":1,"messages":[]}'):
            refused = client.post("/v1/chat/completions", content=body)
            assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
        assert client.get("/v1/files").status_code == 404
        assert client.get("/v1/embeddings").status_code == 405


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with sealed weights; its folder."""
    if MISSING:
        pytest.skip(f"{MISSING[0]} is not installed: scripts/setup.sh test")
    return write_project(tmp_path_factory.mktemp("bad") / "project").parent


def unlock(service: Service, key: bytes = KEY, **options: object) -> str:
    """The model that a key opens."""
    options = {"policy": service.policy, "root": service.root, "collateral": service.collateral} | options
    return unlock_model(service.url, key, **options).model_id


def test_weights_that_are_not_as_they_were_sealed(
    project: Path, tmp_path: Path, rehearsal_platform: RehearsalPlatform
) -> None:
    """Weights that are cut, of another key, or that ask for another file stay locked, with the reason."""
    sealed = project / "models.sealed"
    whole = sealed.read_bytes()
    cut = tmp_path / "cut"
    shutil.copytree(project, cut)
    (cut / "models.sealed").write_bytes(whole[:-100])
    with serving(cut / "app.py", rehearsal_platform) as service:
        with pytest.raises(FormatError) as raised:
            unlock(service)
        assert f"sealed model: want {len(whole)} bytes, got {len(whole) - 100}" in raised.value.message
        with service.client() as client:
            assert client.get("/v1/models").status_code == 503

    asking = tmp_path / "asking"
    shutil.copytree(project, asking)
    graph = asking / "weights" / "chat" / "model.onnx"
    graph.write_bytes(graph.read_bytes().replace(b"model.onnx.data", b"../secret/files"))
    seal_model(asking / "weights", asking / "models.sealed", KEY)
    with serving(asking / "app.py", rehearsal_platform) as service:
        with pytest.raises(AuthenticityError, match="sealed model: is sealed under another key"):
            unlock(service, bytes(32))
        with pytest.raises(FormatError, match=r"got '\.\./secret/files'"):
            unlock(service)


def test_a_key_leaves_only_for_the_right_enclave(service: Service) -> None:
    """The key is not sent to another image, and a refused key is in no error."""
    with pytest.raises(PolicyError, match="svn"):
        unlock(service, policy=policy(svn=2))
    with pytest.raises(AuthenticityError) as raised:
        unlock(service, b"S" * 32)
    assert raised.value.message == f"{service.url}: sealed model: is sealed under another key"
    with service.client() as client:
        for body in ({}, {"k": "!"}, {"k": "a", "sealed": "b"}, {"sealed": "AAAA"}, {"other": "S"}):
            refused = client.put("/model/key", json=body)
            assert refused.status_code in (400, 403), refused.text
    assert unlock(service)


def test_a_restart(project: Path, rehearsal_platform: RehearsalPlatform) -> None:
    """The key that an enclave sealed to itself unlocks its image again, and is of no use otherwise."""
    with serving(project / "app.py", rehearsal_platform) as service:
        options = {"policy": service.policy, "root": service.root, "collateral": service.collateral}
        first = unlock_model(service.url, KEY, **options)
    assert KEY not in first.sealed_key
    with serving(project / "app.py", rehearsal_platform) as service:
        assert unlock_model(service.url, sealed_key=first.sealed_key, **options).model_id == first.model_id
        changed = first.sealed_key[:-1] + bytes([first.sealed_key[-1] ^ 1])
        with pytest.raises(AuthenticityError, match="cannot be opened by this enclave"):
            unlock_model(service.url, sealed_key=changed, **options)


def test_nothing_serves(service: Service) -> None:
    """Where nothing listens, the error is about that; nothing is left waiting."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {"policy": service.policy, "root": service.root, "collateral": service.collateral}
    with pytest.raises(UnavailableError):
        unlock_model(f"https://127.0.0.1:{port}", KEY, **options)


def test_offers(service: Service) -> None:
    """The enclave offers a key service its key; without vault.json no release is accepted."""
    with service.client() as client:
        offer = client.get("/model/offer").json()
        assert set(offer) == {"quote", "runtime_data", "launch_configuration"}
        refused = client.put("/model/release", json={"release": "a.b.c"})
        assert refused.json()["error"]["message"] == "key service: this image names none"
        assert key_body()["k"] not in refused.text
