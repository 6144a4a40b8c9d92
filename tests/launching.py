"""Applications of tests, started as rehearsals; or, in a run against a machine, as images in that machine."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.tee import backends
from kluis.tee.backend import Backend
from kluis.tee.image.build import builder
from kluis.testing.rehearsal import RehearsalPlatform
from tests import machines

REQUIREMENTS = {
    "starlette": ("starlette", "uvicorn", "pyOpenSSL", "wsproto"),
    "httpx": ("httpx",),
    "Table": ("pyarrow",),
}
"""What an image must carry if a module of the application contains this word."""
HEAP = "256MiB"


class Authority:
    """Root and collateral of a machine's platform, with the methods of a rehearsal's authority."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def root_pem(self) -> bytes:
        """The root certificate of the platform, PEM."""
        return self._backend.root_pem()

    def collateral(self, now: datetime) -> Any:
        """Fresh collateral, as it is now."""
        return json.loads(self._backend.collateral())


class InMachine:
    """Launches with the arguments of a rehearsal: builds an image of the application's folder, and starts it.

    Args:
        backend: the machine's platform.
        folder: for images.
    """

    def __init__(self, backend: Backend, folder: Path) -> None:
        self.authority = Authority(backend)
        self._backend = backend
        self._folder = folder
        self._images: dict[str, Path] = {}

    def launch(
        self,
        app: Path,
        *,
        ocalls: object = None,
        debug: bool = False,
        threads: int = 8,
        signer: bytes = bytes(32),
        timeout_seconds: float | None = None,
        sockets: Mapping[str, socket] | None = None,
        argv: Sequence[str] = (),
    ) -> EnclaveProxy:
        """Start the application in the machine, and wait until it is ready."""
        needed = requirements(app.parent)
        settings = {
            "entry": f"{app.stem}:app",
            "heap": HEAP,
            "threads": threads,
            "grants": sorted({*(["table"] if "pyarrow" in needed else []), *(sockets or {})}),
            "argv": list(argv),
            "requirements": [f"{name}=={metadata.version(name)}" for name in needed],
        }
        image = self._image(app.parent, settings, debug=debug, signer=signer)
        return load(
            image, ocalls=ocalls, timeout_seconds=timeout_seconds, sockets=sockets, platform=self._backend
        )

    def _image(self, application: Path, settings: Mapping[str, Any], *, debug: bool, signer: bytes) -> Path:
        sources = {each.name: each.read_bytes() for each in sorted(application.glob("*.py"))}
        described = json.dumps([settings, debug, signer.hex()]).encode()
        name = hashlib.sha256(b"\0".join([described, *sources.values()])).hexdigest()[:16]
        if name not in self._images:
            folder = self._folder / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for each, source in sources.items():
                (folder / each).write_bytes(source)
            lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
            (folder / "kluis.toml").write_text("\n".join(lines) + "\n")
            image = self._folder / f"{name}.kluis"
            builder.build(folder, image, self._folder / f"{signer.hex()[:8]}.pem", debug)
            self._images[name] = image
        return self._images[name]


def requirements(folder: Path) -> list[str]:
    """The names of the distributions that the modules of a folder need."""
    text = "".join(each.read_text() for each in folder.glob("*.py"))
    return sorted({name for word, several in REQUIREMENTS.items() if word in text for name in several})


def in_machine(folder: Path) -> InMachine:
    """Launches in the machine of this run."""
    return InMachine(backends.default(), folder)


@pytest.fixture(scope="session")
def rehearsal_platform(tmp_path_factory: pytest.TempPathFactory) -> RehearsalPlatform | InMachine:
    """One platform for the whole session: a rehearsal's, or that of the machine of this run."""
    folder = tmp_path_factory.mktemp("platform")
    if machines.given():
        return in_machine(folder)
    return RehearsalPlatform(folder, datetime.now(UTC))
