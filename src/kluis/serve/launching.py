"""Start the fleets of all services at once, and stop them at once."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from kluis.host.proxy import EnclaveProxy
from kluis.serve import handover, rekeying
from kluis.serve.fleet import Fleet
from kluis.serve.front.naming import Front
from kluis.serve.host_calls import HostCalls
from kluis.serve.images import ServiceImage
from kluis.serve.instance import START_SECONDS, Instance
from kluis.serve.ledger.hosting import BEGIN_SECONDS, HostedLedger
from kluis.serve.plan import Plan
from kluis.serve.settings import Deployment, settings_of
from kluis.serve.store import keeping
from kluis.serve.store.database import Database
from kluis.serve.store.keeping import KeptRecords
from kluis.serve.store.mailbox import Mailbox
from kluis.serve.store_log import StoreLog

LEDGER: Final = "ledger"


def start_all(fleets: Sequence[Fleet], start: Callable[[Fleet], None], say: Callable[[str], None]) -> None:
    """Start all fleets concurrently: each mostly waits for its enclaves.

    Raises:
        KluisError: one did not start; raised after all others have started or failed.
    """
    for fleet in fleets:
        say(f"starting {fleet.service}")
    with ThreadPoolExecutor(len(fleets)) as threads:
        for done in [threads.submit(start, fleet) for fleet in fleets]:
            done.result()


def stop_all(fleets: Sequence[Fleet]) -> None:
    """Drain all fleets concurrently: one that waits must not make another serve longer."""
    with ThreadPoolExecutor(len(fleets)) as threads:
        list(threads.map(Fleet.stop, fleets))


def fleet_of(
    plan: Plan,
    service: str,
    image: ServiceImage,
    listener: socket.socket,
    deployment: Deployment,
    host_calls: HostCalls,
    database: Database,
    front: Front,
    say: Callable[[str], None],
    hosted: HostedLedger | None,
) -> Fleet:
    """The instances of one service, none of which has started.

    Args:
        plan: of all services.
        service: name.
        image: of the service.
        listener: socket for its clients.
        deployment: of all services.
        host_calls: the ocalls of every service.
        database: with its store.
        front: gives each enclave its certificate.
        say: prints a line for the operator.
        hosted: the ledger's files, for the service ``ledger``.
    """
    ledger = hosted if service == LEDGER else None
    settings = settings_of(service, deployment)
    functions = host_calls.functions()
    store_log = StoreLog(service, functions["log"])

    def prepare() -> Instance:
        records = keeping.records(database, service)
        kept = {} if ledger is None else ledger.functions()
        return Instance.prepare(
            image,
            listener,
            ocalls={**functions, **store_log.functions(records), **kept},
            settings=settings,
            opened=lambda enclave: _open(enclave, database, records, say),
            insecure_allow_missing=plan.insecure_allow_missing,
            named=ledger is None,
            seconds=BEGIN_SECONDS,
        )

    if ledger is not None:
        address, begin = deployment.addresses[service].removeprefix("https://"), ledger.begin
        return Fleet(
            service, prepare, 1, lambda one: one.serve(lambda enclave: begin(enclave, address)), listener
        )

    def start() -> Instance:
        made = prepare()
        made.serve_named(front.name)
        return made

    return Fleet(service, start, plan.instances, listener=listener)


def _open(
    enclave: EnclaveProxy, database: Database, records: KeptRecords, say: Callable[[str], None]
) -> None:
    """Open a store: if hosts elsewhere can share the database, with a key that they hand over."""
    if database.shared:
        handover.open_store(enclave, Mailbox(records), say)
    else:
        enclave.store_open.within(START_SECONDS)()


def rekey(
    plan: Plan,
    service: str,
    image: ServiceImage,
    listener: socket.socket,
    host_calls: HostCalls,
    database: Database,
    say: Callable[[str], None],
) -> None:
    """Seal the data of one service under a fresh key; its instances do not run."""
    say(f"sealing what {service} keeps under a fresh key")
    records = keeping.records(database, service)
    functions = host_calls.functions()
    count = rekeying.rekey(
        image,
        listener,
        ocalls={**functions, **StoreLog(service, functions["log"]).functions(records)},
        opened=lambda enclave: _open(enclave, database, records, say),
        insecure_allow_missing=plan.insecure_allow_missing,
    )
    say(f"{service}: {count} records, and no copy of the old key in the database")
