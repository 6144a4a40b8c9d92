"""The setup of ``kluis demo --vm``: image and guest in a folder, one machine at a time, and its evidence."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from kluis import appraisal, evidence
from kluis.appraisal import Policy
from kluis.cli.demo.attempt import Attempt
from kluis.errors import UnavailableError
from kluis.evidence import Claims, Collateral, TrustAnchors, Verified
from kluis.host import load
from kluis.tee.backend import Backend
from kluis.tee.vm.machine import kept, ondemand
from kluis.tee.vm.machine.kept import Settings

MEMORY_MB: Final = 1024


@dataclasses.dataclass(frozen=True)
class Shown:
    """Evidence of one enclave in one machine, as its verifier gets it."""

    quote: bytes
    runtime_data: bytes
    launch_configuration: bytes
    nonce: bytes
    collateral: bytes


class Stage:
    """What the demo creates: a folder with image and guest, and one machine at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = folder / "hello.kluis"
        self.guest = folder / "guest"
        self.root = b""
        self.policy: Policy
        self.first: Shown
        self.measurement = b""
        self.ended: Attempt
        self._names: list[str] = []

    @contextlib.contextmanager
    def machine(self, guest: Path) -> Iterator[Backend]:
        """A machine of a guest, whose platform answers; its name is :attr:`name`."""
        name = f"demo-{os.getpid()}-{len(self._names)}"
        self._names.append(name)
        kept.start(Settings(name=name, guest=str(guest), memory_mb=MEMORY_MB, cpus=2))
        try:
            yield ondemand.await_platform(name)
        finally:
            with contextlib.suppress(UnavailableError):
                kept.stop(name)

    @property
    def name(self) -> str:
        """Of the last machine."""
        return self._names[-1]

    def evidence(self, platform: Backend) -> Shown:
        """Start the image in a machine, and get its evidence."""
        with load(self.image, platform=platform) as enclave:
            nonce = secrets.token_bytes(32)
            made = enclave.evidence(nonce)
        return Shown(made.quote, made.runtime_data, made.launch_configuration, nonce, platform.collateral())

    def verify(self, shown: Shown) -> Verified[Claims]:
        """Verify it only under the root of the emulated processor."""
        return evidence.verify(
            shown.quote,
            anchors=TrustAnchors.from_pem(self.root),
            collateral=Collateral.from_json(shown.collateral),
            now=datetime.now(UTC),
        )

    def judge(self, shown: Shown) -> None:
        """Judge it under the policy of the first machine.

        Raises:
            KluisError: it is refused.
        """
        appraisal.appraise(
            self.verify(shown),
            self.policy,
            nonce=shown.nonce,
            runtime_data=shown.runtime_data,
            launch_configuration=shown.launch_configuration,
            now=datetime.now(UTC),
        ).require()

    def changed(self, name: str, **members: Any) -> Path:
        """A copy of the guest's folder with other members of its description."""
        other = self.folder / name
        shutil.copytree(self.guest, other)
        about = json.loads((other / "guest.json").read_text())
        about.update(members)
        (other / "guest.json").write_text(json.dumps(about))
        return other
