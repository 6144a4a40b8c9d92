"""The pytest plug-in: fixtures for enclaves, honest hosts and malicious ones.

In a ``conftest.py``: ``from kluis.testing.plugin import *`` or ``pytest_plugins = ["kluis.testing.plugin"]``.
The enclaves are rehearsals: they start in a tenth of a second, and protect nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kluis.host.proxy import EnclaveProxy
from kluis.host.starting import await_ready
from kluis.testing.evil_host import EvilHost
from kluis.testing.rehearsal import START_SECONDS, RehearsalPlatform, interface_of

if TYPE_CHECKING:
    import httpx

    from kluis.enclave.store import SealedStore
    from kluis.host.release import Recipient
    from kluis.testing.services import Services, ServicesOptions
    from kluis.testing.stale_storage import StaleStorage

__all__ = [
    "attested_client", "enclave", "evil_host", "kluis_services", "kluis_services_options", "other_platform",
    "recipient_of", "rehearsal_platform", "stale_storage", "storage",
]  # fmt: skip

MEMORY = Path("/dev/shm")  # noqa: S108  # for files that each test makes in a new folder
Launch = Callable[..., EnclaveProxy]
Attack = Callable[..., EvilHost]


@pytest.fixture(scope="session")
def rehearsal_platform(tmp_path_factory: pytest.TempPathFactory) -> RehearsalPlatform:
    """One platform for the whole session."""
    return RehearsalPlatform(tmp_path_factory.mktemp("platform"), datetime.now(UTC))  # noqa: TID251 - its certificates begin now


@pytest.fixture(scope="session")
def other_platform(tmp_path_factory: pytest.TempPathFactory) -> RehearsalPlatform:
    """Another platform, with separate keys."""
    return RehearsalPlatform(tmp_path_factory.mktemp("other-platform"), datetime.now(UTC))  # noqa: TID251 - its certificates begin now


@pytest.fixture
def enclave(rehearsal_platform: RehearsalPlatform) -> Iterator[Launch]:
    """Starts an application: ``enclave(path, ocalls=...)``, like :meth:`RehearsalPlatform.launch`."""
    started: list[EnclaveProxy] = []

    def launch(app: Path, *, on: RehearsalPlatform = rehearsal_platform, **options: Any) -> EnclaveProxy:
        started.append(on.launch(app, **options))
        return started[-1]

    yield launch
    for one in started:
        one.close()


@pytest.fixture
def attested_client(
    enclave: Launch, rehearsal_platform: RehearsalPlatform
) -> Iterator[Callable[..., httpx.Client]]:
    """Serves an ASGI application: ``attested_client(path)`` returns an ``httpx.Client`` of it.

    The client checks the rehearsal's evidence on each connection, as it would an enclave's.
    """
    from kluis.testing.serving import client_of  # httpx and TLS, which other tests do without

    with contextlib.ExitStack() as stack:

        def serve(app: Path, **options: Any) -> httpx.Client:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            served = enclave(app, sockets={"listen:web": listener}, **options)
            served.submit("serve")
            return stack.enter_context(client_of(served, rehearsal_platform, listener))

        yield serve


@pytest.fixture(scope="session")
def kluis_services_options() -> ServicesOptions:
    """What ``kluis_services`` starts; a ``conftest.py`` overrides it."""
    from kluis.testing.services import ServicesOptions  # only these fixtures need the services' packages

    return ServicesOptions()


@pytest.fixture(scope="session")
def kluis_services(
    tmp_path_factory: pytest.TempPathFactory, kluis_services_options: ServicesOptions
) -> Iterator[Services]:
    """The services, on free ports, for the whole session: their URLs, and variables for their clients."""
    from kluis.testing import services

    with services.running(tmp_path_factory.mktemp("kluis") / "cloud", kluis_services_options) as running:
        yield running


@pytest.fixture
def recipient_of(rehearsal_platform: RehearsalPlatform) -> Callable[[EnclaveProxy], Recipient]:
    """Verifies the key that a rehearsal's ecall ``offer(nonce)`` offers, as its owner would an enclave's."""
    from kluis.testing.serving import recipient_of

    return lambda enclave: recipient_of(enclave, rehearsal_platform)


@pytest.fixture
def evil_host(rehearsal_platform: RehearsalPlatform) -> Iterator[Attack]:
    """Starts an application under a malicious host: ``evil_host(path)``."""
    started: list[EvilHost] = []

    def attack(app: Path, **options: Any) -> EvilHost:
        interface = interface_of(app)
        process = rehearsal_platform.start(app, interface, **options)
        await_ready(process, interface[1], START_SECONDS)
        started.append(EvilHost(process, interface[0]))
        return started[-1]

    yield attack
    for one in started:
        one.close()


@pytest.fixture
def storage() -> Iterator[SealedStore]:
    """A sealed store in a separate database and with a separate key for each test; no enclave is needed."""
    from kluis.enclave.store import SealedStore
    from kluis.serve.store import Database, keeping  # only the stores' fixtures need the services' packages

    # In memory, a commit waits for no disk: a test's store outlives no test.
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="kluis-storage-", dir=memory) as folder:
        path = Path(folder) / "storage.db"
        path.write_bytes(_empty_database())
        with Database(f"sqlite:///{path}") as database:
            yield SealedStore(keeping.records(database, "test"), os.urandom(32))


@functools.cache
def _empty_database() -> bytes:
    """A file of SQLite with the newest schema: to migrate one for each test takes longer than most tests."""
    from kluis.serve.store import Database

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "storage.db"
        Database(f"sqlite:///{path}").close()
        return path.read_bytes()


@pytest.fixture
def stale_storage(tmp_path: Path) -> Iterator[StaleStorage]:
    """A store whose host serves older copies of its database; see :mod:`kluis.testing.stale_storage`."""
    from kluis.testing.stale_storage import StaleStorage

    stale = StaleStorage(tmp_path)
    yield stale
    stale.close()
