"""Run a local cloud's services in this process, and record what they do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from kluis.cli import render
from kluis.cli.cloud import background
from kluis.cli.service import serve_run, serve_settings
from kluis.cli.service.serve_text import lines_of, value_of
from kluis.errors import KluisError
from kluis.serve import DEFAULT_PORT
from kluis.serve.cloud import client, lock, variables
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.keeper import MOST_LOG, Keeper
from kluis.serve.issuer import Registered
from kluis.serve.plan import Plan
from kluis.serve.start import Serving


class Front(NamedTuple):
    """Where the services listen, and under which names.

    Attributes:
        names: further names that clients use.
        bind: the address.
        certificate: absolute paths of the operator's own certificate and key; None: the local authority's.
    """

    names: tuple[str, ...]
    bind: str
    certificate: tuple[Path, Path] | None


def run(
    folder: Folder,
    *,
    detached: bool,
    services: tuple[str, ...],
    port: int | None,
    instances: int,
    front: Front,
    metrics: str | None,
    otlp: str | None,
    roots: list[str] | None,
    online: bool,
    missing: frozenset[str],
) -> None:
    """Run the services until a signal stops them.

    Args:
        folder: of the local cloud.
        detached: whether standard output is the folder's log.
        services: names.
        port: of the first service; 0: free ones; None: those of the last start, or the usual ones.
        instances: of each service.
        front: where they listen.
        metrics: ``ADDRESS:PORT`` for metrics; None: none.
        otlp: URL of a collector of spans; None: none.
        roots: that the attestation service trusts, as for ``kluis serve --root``.
        online: whether collateral is fetched.
        missing: protections that this machine may do without.

    Raises:
        KluisError: they did not start, or ended.
    """
    with lock.occupy(folder):
        plan = Plan(
            services=services,
            state=folder.services,
            port=DEFAULT_PORT if port is None else port,
            ports=folder.settings().ports if not port else {},
            instances=instances,
            names=front.names,
            bind=front.bind,
            certificate=front.certificate,
            metrics=metrics,
            otlp=otlp,
            insecure_allow_missing=missing,
            online=online,
            given=serve_settings.merge(
                None, {"attestation": serve_settings.attestation(roots, None, None, None, None, False)}
            ),
            registered=Registered(certificates=((variables.CLIENT, client.load_or_create(folder, _now())),)),
        )
        keeper = Keeper(folder, plan, _now)
        keeper.begin()

        def record_addresses(addresses: Mapping[str, str]) -> None:
            keeper.record_addresses(addresses)
            background.began()

        def ready(running: Serving) -> None:
            keeper.ready(running)
            if detached:
                render.note(f"ready: {', '.join(services)}")
            else:
                render.out(value_of(plan, running), lines_of(plan, running))

        def turn(running: Serving) -> None:
            keeper.turn(running)
            if detached:
                background.turn_log(folder.log, MOST_LOG)

        try:
            serve_run.keep(plan, ready=ready, bound=record_addresses, turn=turn)
        except KluisError as error:
            keeper.record_failure(error)
            raise
        except KeyboardInterrupt:
            keeper.end()
            raise
        keeper.end()


def _now() -> datetime:
    return datetime.now(UTC)
