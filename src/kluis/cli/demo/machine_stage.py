"""The setup of ``kluis demo --vm``: image and guest in a folder, one machine at a time, and its evidence."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from kluis import appraisal, evidence
from kluis.appraisal import Policy
from kluis.cli.demo.attempt import Attempt
from kluis.errors import UnavailableError
from kluis.evidence import Claims, Collateral, TrustAnchors, Verified, endorsements
from kluis.formats.eventlog import log as event_log
from kluis.frozen import frozen
from kluis.host.proxy import EnclaveProxy
from kluis.tee.backend import Backend
from kluis.tee.vm.guest import Guest, Measured, building, guest, registers
from kluis.tee.vm.machine import keeper, kept, ondemand
from kluis.tee.vm.machine.kept import Settings

MEMORY_MB: Final = 1024
CPUS: Final = 2


@frozen
class Shown:
    """Evidence of one enclave in one machine, as its verifier gets it."""

    quote: bytes
    runtime_data: bytes
    launch_configuration: bytes
    nonce: bytes
    collateral: bytes


class Stage:
    """What the demo creates: a folder with image and guest, and machines, of which two run at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = folder / "machine.kluis"
        self.guest = folder / "guest"
        self.name = f"demo-{os.getpid()}"
        self._started: dict[str, Settings] = {}
        self.root = b""
        self.policy: Policy
        self.measured: Measured
        self.first: Shown
        self.measurement = b""
        self.ended: Attempt

    @contextlib.contextmanager
    def machine(self, guest: Path, name: str = "") -> Iterator[Callable[[], Backend]]:
        """A machine with a guest, which boots: a function that waits until its platform answers.

        Args:
            guest: its folder.
            name: added to the name of the demo's first machine; empty for that machine itself.
        """
        name = self.name + name
        settings = Settings(name, str(guest), boot="uefi", memory_mb=MEMORY_MB, cpus=CPUS)
        self._started[name] = settings
        kept.start(settings)
        try:
            yield lambda: ondemand.await_platform(name)
        finally:
            with contextlib.suppress(UnavailableError):
                kept.stop(name)

    def remove(self) -> None:
        """Remove the states of the machines' vTPMs."""
        for settings in self._started.values():
            shutil.rmtree(keeper.state_of(settings), ignore_errors=True)

    def evidence(self, enclave: EnclaveProxy, platform: Backend) -> Shown:
        """The evidence of an enclave in the machine."""
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

    def changed_sections(self, shown: Shown) -> str:
        """The sections of the unified image that the event log of some evidence has otherwise."""
        stated = Collateral.from_json(shown.collateral).endorsement
        if stated is None:
            return "no endorsement"
        log = event_log.parse(endorsements.read(stated).parts["event_log"])
        logged = registers.logged_sections(log)
        return "; ".join(
            f"PCR 11: section {name}: want {want.hex()[:16]}.., got {logged.get(name, b'').hex()[:16]}.."
            for name, want in self.measured.sections.items()
            if logged.get(name) != want
        )

    def copy(self, name: str) -> Path:
        """A copy of the guest's folder."""
        return Path(shutil.copytree(self.guest, self.folder / name))

    def rebuild(self, name: str, *, initrd: bytes | None = None, command_line: str | None = None) -> Path:
        """A guest with another initial RAM disk or command line, and a description that agrees with it."""
        folder = self.copy(name)
        built = Guest.open(folder, check=False)
        if initrd is not None:
            built.initrd.write_bytes(initrd)
        line = built.command_line if command_line is None else command_line
        building.unify(built.paths, line, built.description.kernel, built.release, folder)
        digests = {part: hashlib.sha256(path.read_bytes()).hexdigest() for part, path in built.paths.items()}
        guest.write(folder, msgspec.structs.replace(built.description, command_line=line, digests=digests))
        return folder
