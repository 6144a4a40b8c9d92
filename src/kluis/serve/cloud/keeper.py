"""Keep the record of a local cloud while its services run."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from kluis.errors import InternalError, KluisError
from kluis.serve.cloud import processes, record
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.record import Fault, Phase, Run, Service
from kluis.serve.plan import Plan
from kluis.serve.start import Serving

DEBIAN: Final = Path("/etc/ssl/certs/ca-certificates.crt")
"""The machine's certificate authorities in one file, as Debian keeps them."""
MOST_LOG: Final = 16 << 20
"""Bytes of a log file; then it becomes the previous one, and a new one begins."""


class Keeper:
    """Writes what the services' process is doing, for other commands.

    Args:
        folder: of the local cloud, which this process occupies.
        plan: of the services.
        now: returns the time, aware.

    Attributes:
        run: the record as written last.
    """

    def __init__(self, folder: Folder, plan: Plan, now: Callable[[], datetime]) -> None:
        me = processes.find(os.getpid())
        if me is None:
            raise InternalError("this process is not in /proc")
        self._folder = folder
        self._plan = plan
        self._now = now
        self._since: dict[int, int] = {}
        self.run = Run(
            me,
            "starting",
            tuple(Service(name, "", wanted=self._wanted_count(name)) for name in plan.services),
            certificate="" if plan.certificate is None else str(plan.certificate[0]),
        )

    def begin(self) -> None:
        """Write the record of a start."""
        record.write(self._folder, self.run)

    def record_addresses(self, addresses: Mapping[str, str]) -> None:
        """Record the addresses, now that their ports belong to this process."""
        self._folder.remember_ports({name: urlsplit(url).port or 0 for name, url in addresses.items()})
        self._save("starting", addresses, None)

    def ready(self, running: Serving) -> None:
        """Record that all services serve."""
        self._write_roots(running.authority.root_pem())
        url, tenant = running.authorization_parts()
        self.run = msgspec.structs.replace(self.run, issuer=url, tenant=tenant)
        self._save("ready", running.addresses, running)

    def turn(self, running: Serving) -> None:
        """Record what has changed since, if anything has."""
        self._save("ready", running.addresses, running)

    def record_failure(self, error: KluisError) -> None:
        """Record why the services did not start, for the command that waits."""
        fault = Fault(error.message, error.hint, error.code, type(error).__name__)
        record.write(self._folder, Run(self.run.process, "failed", self.run.services, fault=fault))

    def end(self) -> None:
        """Remove the record: the services have stopped on request."""
        self._folder.record.unlink(missing_ok=True)

    def _wanted_count(self, service: str) -> int:
        return 1 if service == "ledger" else self._plan.instances

    def _save(self, phase: Phase, addresses: Mapping[str, str], running: Serving | None) -> None:
        fleets = {} if running is None else {fleet.service: fleet for fleet in running.fleets}
        services, now = [], int(self._now().timestamp())
        for name in self._plan.services:
            instances = fleets[name].instances if name in fleets else ()
            since = [self._since.setdefault(one.enclave.pid, now) for one in instances]
            services.append(
                Service(
                    name,
                    addresses[name],
                    min((one.enclave.level for one in instances), default=""),
                    sum(one.running for one in instances),
                    self._wanted_count(name),
                    min(since, default=0),
                    tuple(one.enclave.pid for one in instances),
                )
            )
        run = msgspec.structs.replace(self.run, phase=phase, services=tuple(services))
        if run != self.run:
            record.write(self._folder, run)
            self.run = run

    def _write_roots(self, root: bytes) -> None:
        """Write the machine's certificate authorities and the local one's into one file.

        A program that is pointed at this file still reaches the rest of the world.
        """
        system = Path(ssl.get_default_verify_paths().openssl_cafile)
        bundle = DEBIAN if DEBIAN.is_file() else system
        known = bundle.read_bytes() if bundle.is_file() else b""
        self._folder.write(self._folder.roots, known + b"\n" + root)
