"""The services in enclaves of this machine, for the tests of a program that uses them.

The enclaves are real ones, at the protection level of this machine. They end with the test's process.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kluis.frozen import frozen
from kluis.serve.cloud import client, lock, variables
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.keeper import Keeper
from kluis.serve.issuer import Registered
from kluis.serve.plan import Plan
from kluis.serve.start import serving
from kluis.services.clock import SystemClock
from kluis.tee.image.build import cache

__all__ = ["Services", "ServicesOptions", "running"]

IMAGES = "services"
"""The folder of the user's cache for the services' images, which are built once."""


@frozen(kw_only=True)
class ServicesOptions:
    """What the services of a session are started with.

    Attributes:
        services: names.
        instances: enclaves of each.
        insecure_allow_missing: protections that this machine may do without.
        given: settings of each service, over the usual ones.
    """

    services: tuple[str, ...] = ("attestation", "keyvault", "ledger", "provisioning")
    instances: int = 1
    insecure_allow_missing: frozenset[str] = frozenset()
    given: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


@frozen(kw_only=True)
class Services:
    """Running services.

    Attributes:
        urls: of each service, ``https://host:port``, by its name.
        env: environment variables for their clients, as ``kluis env`` prints them; none is a secret.
        levels: the protection level of each service's enclaves, by its name.
        ca: the file of the certificate authority that clients must trust, PEM.
        folder: of keys, the database and the log; only this user can read it.
    """

    urls: Mapping[str, str]
    env: Mapping[str, str]
    levels: Mapping[str, str]
    ca: Path
    folder: Path


@contextlib.contextmanager
def running(path: Path, options: ServicesOptions) -> Iterator[Services]:
    """Run the services on free ports of loopback while the ``with`` lasts.

    Args:
        path: a folder that does not exist yet, for everything except images.
        options: which services, and how.

    Raises:
        KluisError: they do not start; states why.
    """
    folder = Folder.create(path)
    images = cache.of_user().path / IMAGES
    images.mkdir(mode=0o700, exist_ok=True)
    with lock.occupy(folder), folder.log.open("a", encoding="utf-8") as log:
        plan = Plan(
            services=options.services,
            state=folder.services,
            images=images,
            port=0,
            instances=options.instances,
            insecure_allow_missing=options.insecure_allow_missing,
            given=options.given,
            registered=Registered(certificates=((variables.CLIENT, client.load_or_create(folder, _now())),)),
        )
        keeper = Keeper(folder, plan, _now)
        keeper.begin()

        def write(lines: Any) -> None:
            log.writelines(f"{line}\n" for line in lines)
            log.flush()

        try:
            with serving(
                plan, SystemClock(), lambda line: write([line]), write, keeper.record_addresses
            ) as made:
                keeper.ready(made)
                run = keeper.run
                yield Services(
                    urls={each.name: each.url for each in run.services},
                    env=variables.of(folder, run),
                    levels={each.name: each.level for each in run.services},
                    ca=folder.authority,
                    folder=folder.path,
                )
        finally:
            keeper.end()


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - certificates begin now
