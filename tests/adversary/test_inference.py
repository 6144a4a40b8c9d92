"""Prompts, answers, tokens and weights of private inference are nowhere but inside: a search for them.

Each search is also made where the words are, so that it is known to find them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from kluis.host import attested
from kluis.host.models import read_header
from kluis.tee.doctor import attempts
from kluis.tee.platform.client import Platform
from kluis.testing.rehearsal import RehearsalPlatform
from tests.clients.openai.serving import KEY, MISSING, key_body, serving, write_project

PROMPT = "planted prompt 5f1d9c3a7b2e48d6"
CHAT: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": PROMPT}], "seed": 3}
ROOT = os.geteuid() == 0

pytestmark = pytest.mark.skipif(bool(MISSING), reason="onnxruntime is not installed: scripts/setup.sh test")


class Planted:
    """What must be found nowhere: the prompt, its tokens, the answer, a part of each weight file, the key."""

    def __init__(self, project: Path, answer: str) -> None:
        from tokenizers import Tokenizer

        weights = project / "weights"
        tokens = Tokenizer.from_file(str(weights / "chat" / "tokenizer.json")).encode(PROMPT).ids
        self.words = {
            "prompt": PROMPT.encode(),
            "answer": json.dumps(answer)[1:25].encode(),
            "tokens": b"".join(each.to_bytes(8, "little") for each in tokens),
            "key": KEY,
        }
        for name in ("chat", "embeddings"):
            data = (weights / name / "model.onnx.data").read_bytes()
            self.words[f"weights of {name}"] = data[4096:4160]

    def in_bytes(self, data: bytes) -> list[str]:
        """What is in some bytes."""
        return [name for name, word in self.words.items() if word in data]

    def in_files(self, *folders: Path) -> list[str]:
        """What is in all files below some folders."""
        return [
            f"{name} in {path}"
            for folder in folders
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink()
            for name in self.in_bytes(path.read_bytes())
        ]


class Wire:
    """A relay of bytes between clients and a service, which keeps all of them."""

    def __init__(self, port: int) -> None:
        self.seen = bytearray()
        self._to = port
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it ends when the listener is closed
            while True:
                client, _ = self._listener.accept()
                service = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [client, service]
                for ends in ((client, service), (service, client)):
                    threading.Thread(target=self._copy, args=ends, daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                self.seen += data
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            end.close()


def use(client: httpx.Client) -> str:
    """Unlock the model, ask it all, also for what fails; the answer to the chat."""
    assert client.put("/model/key", json=key_body()).status_code == 200
    answer = client.post("/v1/chat/completions", json=CHAT | {"max_tokens": 60})
    assert answer.status_code == 200, answer.text
    assert client.post("/v1/chat/completions", json=CHAT | {"stream": True}).text.endswith("[DONE]\n\n")
    assert client.post("/v1/embeddings", json={"model": "embeddings", "input": PROMPT}).status_code == 200
    for bad in (CHAT | {"n": PROMPT}, CHAT | {"n": 2}, CHAT | {PROMPT: 1}, {"model": PROMPT}, [PROMPT]):
        assert client.post("/v1/chat/completions", json=bad).status_code == 400
    assert client.post(f"/v1/{PROMPT.replace(' ', '-')}").status_code == 404
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def test_nothing_leaves_in_files_logs_or_on_the_wire(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The files of a project and its platform, standard output and error, and the wire have none of it."""
    place = tmp_path / "place"
    app = write_project(place / "project")
    platform = RehearsalPlatform(place / "platform", datetime.now(UTC))
    with serving(app, platform) as service:
        wire = Wire(int(service.url.rpartition(":")[2]))
        with httpx.Client(transport=service.transport(), base_url=wire.url, timeout=120) as client:
            answer = use(client)
        wire.close()
    planted = Planted(app.parent, answer)
    found = planted.in_files(place)
    assert {each.partition(" in ")[0] for each in found} == {"weights of chat", "weights of embeddings"}
    shutil.rmtree(app.parent / "weights")  # the owner's plaintext; the host never has it
    assert planted.in_files(place) == []
    said = capfd.readouterr()
    assert planted.in_bytes((said.out + said.err).encode()) == []
    assert len(wire.seen) > 10_000
    assert planted.in_bytes(bytes(wire.seen)) == []
    assert planted.in_bytes(json.dumps(CHAT).encode()) == ["prompt"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with sealed weights; its folder."""
    return write_project(tmp_path_factory.mktemp("inference") / "project").parent


@pytest.fixture
def served(project: Path, platform: Platform, allowed: frozenset[str], tmp_path: Path) -> Iterator[Any]:
    """The project's image, which a host serves in another process: the process, its enclave, and a client."""
    image, folder = tmp_path / "one.kluis", tmp_path / "code"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    kluis = (
        [sys.executable, "-m", "kluis.cli.main"] if False else [str(Path(sys.executable).with_name("kluis"))]
    )
    subprocess.run(
        [*kluis, "build", str(folder), "-o", str(image), "--key", str(tmp_path / "author.pem")],
        check=True, capture_output=True, timeout=900,
    )  # fmt: skip
    line = [*kluis, "serve-app", str(image), "--listen", "127.0.0.1:0", "--json"]
    line += ["--policy-out", str(tmp_path / "policy.toml")]
    line += [f"--insecure-allow-missing={','.join(allowed)}"] if allowed else []
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        host = subprocess.Popen(line, stdout=out, stderr=err)
    try:
        told = wait_for_json(tmp_path / "out", host)
        transport = attested.transport(tmp_path / "policy.toml")
        with httpx.Client(transport=transport, base_url=told["url"], timeout=300) as client:
            yield host, told, client
    finally:
        host.send_signal(signal.SIGTERM)
        host.wait(120)


def wait_for_json(path: Path, host: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What a host prints once it serves."""
    for _ in range(6000):
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except ValueError:
            assert host.poll() is None, path.with_name("err").read_text()
            threading.Event().wait(0.1)
        else:
            return found
    raise AssertionError("the host printed nothing")


@pytest.mark.slow
@pytest.mark.skipif(not ROOT, reason="needs root, as the attacker is root")
def test_root_finds_nothing_of_a_served_model(served: Any, project: Path, home: Path, tmp_path: Path) -> None:
    """Root reads files, the host's memory, and what it can of the enclave's, and finds none of it."""
    host, told, client = served
    planted = Planted(project, use(client))
    enclave = int(told["enclaves"][0]) if isinstance(told["enclaves"], list) else int(told["enclaves"])
    for name, word in planted.words.items():
        assert attempts.by_memory_file(host.pid, word).copies == 0, name
        reading = attempts.by_memory_file(enclave, word)
        assert (reading.copies, reading.read_bytes > 1 << 20) == (0, True), name
    assert attempts.by_memory_file(os.getpid(), planted.words["prompt"]).copies  # a client's own memory
    opened = 0
    for folder in ("map_files", "fd"):
        for link in Path(f"/proc/{enclave}/{folder}").iterdir():
            try:
                if link.is_file():
                    assert planted.in_bytes(link.read_bytes()) == []
                    opened += 1
            except OSError:
                continue
    assert opened
    assert planted.in_files(tmp_path, home) == []
    assert read_header(project / "models.sealed").files
