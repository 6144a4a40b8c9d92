"""The template's service of private inference, with small random weights, as a rehearsed enclave runs it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from kluis.appraisal import BySigner, Policy
from kluis.formats.encoding import b64
from kluis.hashes import sha256
from kluis.host import attested
from kluis.host.models import seal_model
from kluis.host.proxy import EnclaveProxy
from kluis.testing.rehearsal import RehearsalPlatform
from tests.enclave.hosted.policies import rehearsed
from tests.meta.tree import ROOT

TEMPLATE = ROOT / "src" / "kluis" / "projects" / "templates" / "openai"
KEY = sha256(b"the key of these tests")
PACKAGES = ("onnx", "onnxruntime", "tokenizers", "openai")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]


class Service:
    """A running service.

    Attributes:
        url: without a path.
        policy: that it meets.
        root, collateral: of its platform.
    """

    def __init__(self, enclave: EnclaveProxy, url: str, platform: RehearsalPlatform) -> None:
        self.enclave = enclave
        self.url = url
        self.policy = policy()
        self.root = platform.authority.root_pem()
        self.platform = platform
        self.collateral = json.dumps(platform.authority.collateral(datetime.now(UTC))).encode()

    def transport(self, wanted: Policy | None = None) -> httpx.BaseTransport:
        """An attested transport for a policy; by default the one that it meets."""
        return attested.transport(wanted or self.policy, root=self.root, collateral=self.collateral)

    def client(self) -> httpx.Client:
        """A plain client over attested TLS."""
        return httpx.Client(transport=self.transport(), base_url=self.url, timeout=120)

    def options(self, wanted: Policy | None = None) -> dict[str, Any]:
        """Arguments of ``kluis.client``'s classes."""
        return {
            "base_url": f"{self.url}/v1",
            "policy": wanted or self.policy,
            "root": self.root,
            "collateral": self.collateral,
        }


def policy(svn: int = 1) -> Policy:
    """A policy for the template, as a rehearsal meets it."""
    return rehearsed(BySigner(signers=frozenset({bytes(32)}), product_id=1, min_svn=svn))


def write_project(folder: Path) -> Path:
    """A copy of the template with sealed weights; its app.py."""
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    spec = importlib.util.spec_from_file_location("tiny", folder / "tests" / "tiny.py")
    assert spec is not None
    assert spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(tiny)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("export", None)
    tiny.write(folder / "weights")
    seal_model(folder / "weights", folder / "models.sealed", KEY)
    return folder / "app.py"


@contextmanager
def serving(app: Path, platform: RehearsalPlatform) -> Iterator[Service]:
    """Serve a project; it is locked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        enclave = platform.launch(app, sockets={"listen:web": listener})
        try:
            enclave.submit("serve")
            yield Service(enclave, f"https://127.0.0.1:{listener.getsockname()[1]}", platform)
        finally:
            enclave.close()


@pytest.fixture(scope="session")
def service(
    rehearsal_platform: RehearsalPlatform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The template's service, with its key: one for all tests of a process."""
    if MISSING:
        pytest.skip(f"{MISSING[0]} is not installed: scripts/setup.sh test")
    app = write_project(tmp_path_factory.mktemp("openai") / "project")
    with serving(app, rehearsal_platform) as one:
        with one.client() as client:
            answer = client.put("/model/key", json=key_body())
            assert answer.status_code == 200, answer.text
        yield one


def key_body(key: bytes = KEY) -> dict[str, str]:
    """What unlocks the model."""
    return {"k": b64.encode_url(key)}
