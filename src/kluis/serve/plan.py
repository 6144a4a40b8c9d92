"""The plan of ``kluis serve``: which services run, their addresses, and their configuration."""

from __future__ import annotations

import dataclasses
import errno
import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from kluis.errors import UnavailableError, UsageError, unknown
from kluis.frozen import frozen
from kluis.serve import DEFAULT_PORT, HOST
from kluis.serve.images import SERVICES, STORE_KEYS, folder_of
from kluis.serve.issuer import Registered
from kluis.tee.image.build import config
from kluis.tee.process import linux

ISSUER: Final = "issuer"
MANAGED_IDENTITY: Final = "insecure_managed_identity"
# Of ports, from the first: what came later is last.
ORDER: Final = ("attestation", "keyvault", "provisioning", ISSUER, MANAGED_IDENTITY, "ledger")
MOST_INSTANCES: Final = 16


@frozen(kw_only=True)
class Plan:
    """The services to run, and their configuration.

    Attributes:
        services: one or more of ``attestation``, ``keyvault``, ``ledger``, ``provisioning``.
        state: a folder that only this user can read: keys of the loopback authority and the issuer, images.
        database: an SQLAlchemy URL; None: SQLite in ``state``.
        port: of the first service; the others follow. 0: any free port.
        images: another folder for images and the key of their author; None: ``state``.
        ports: of some services, instead of those that follow from ``port``.
        instances: enclaves of each service, on one socket and one database; a ledger has one.
        names: further DNS names and addresses that clients use.
        store_key: what the key of a service's store is sealed to, ``measurement`` or ``signer``.
        insecure_allow_missing: protections that this machine may do without.
        online: whether endorsements of evidence are fetched from Intel and AMD.
        origins: ``https://host[:port]`` of further authorities whose documents may be fetched.
        given: settings that override the generated ones, by service.
        authorities: trusted for key release, in addition to the attestation service that runs.
        rekey: whether every store is sealed under a fresh key first.
        rekey_beside_others: even if another command uses the database; it stops serving then.
        registered: credentials that the issuer's clients may use instead of their secrets.
        insecure_managed_identity: whether every process of this machine can get tokens of one client.
        ledger_application: a folder that is added to the ledger's image; None: none.
        bind: the address that the services listen on; others than loopback's require ``certificate``.
        certificate: paths of the operator's own certificate and its key, for ``names``; None: the loopback
            authority issues certificates.
        insecure_expose_issuer: whether the development issuer is served like the services, and not only on
            loopback: its operator, and anyone who has its clients' secrets, has every role.
        metrics: ``ADDRESS:PORT`` for metrics of all instances, over plain HTTP; None: none.
        otlp: URL of a collector that gets a span for each request; None: none.
    """

    services: tuple[str, ...]
    state: Path
    database: str | None = None
    port: int = DEFAULT_PORT
    images: Path | None = None
    ports: Mapping[str, int] = dataclasses.field(default_factory=dict)
    instances: int = 1
    names: tuple[str, ...] = ()
    store_key: str = "measurement"
    insecure_allow_missing: frozenset[str] = frozenset()
    online: bool = False
    origins: tuple[str, ...] = ()
    given: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    authorities: tuple[Mapping[str, Any], ...] = ()
    rekey: bool = False
    rekey_beside_others: bool = False
    registered: Registered = dataclasses.field(default_factory=Registered)
    insecure_managed_identity: bool = False
    ledger_application: Path | None = None
    bind: str = HOST
    certificate: tuple[Path, Path] | None = None
    insecure_expose_issuer: bool = False
    metrics: str | None = None
    otlp: str | None = None

    def __post_init__(self) -> None:
        """Refuse an invalid plan."""
        for service in self.services:
            if service not in SERVICES:
                raise unknown("service", service, SERVICES, "kluis serve all")
        if not self.services:
            raise UsageError("services: want one or more, got none")
        if not 1 <= self.instances <= MOST_INSTANCES:
            raise UsageError(f"instances: want 1..{MOST_INSTANCES}, got {self.instances}")
        if self.rekey_beside_others and not self.rekey:
            raise UsageError("--rekey-beside-others: want also --rekey, got no such option")
        if self.store_key not in STORE_KEYS:
            raise unknown("--store-key", self.store_key, STORE_KEYS)
        if not 0 <= self.port <= 0xFFFF - len(ORDER):
            raise UsageError(f"port: want 0..{0xFFFF - len(ORDER)}, got {self.port}")
        self._check_front()

    def _check_front(self) -> None:
        """Check what clients elsewhere would reach, and under which name."""
        try:
            address = ipaddress.ip_address(self.bind)
        except ValueError:
            raise UsageError(f"--bind: want an IP address, got {self.bind[:64]!a}") from None
        if self.certificate is None:
            if not address.is_loopback:
                raise UsageError(
                    f"--bind {self.bind}: want also the operator's certificate, got none: clients elsewhere"
                    " would have to trust the loopback authority",
                    hint="--certificate CHAIN.pem --key KEY.pem --name NAME, as clients use it",
                )
            if self.insecure_expose_issuer:
                raise UsageError("--insecure-expose-issuer: want also --certificate, got no such option")
            return
        if not self.names or self.names[0].startswith("*"):
            raise UsageError(
                "--certificate: want the name that clients use first, got "
                + (f"{self.names[0]!a}" if self.names else "none"),
                hint="--name NAME, one that the certificate contains",
            )
        if "keyvault" in self.services and "." not in self.names[0] and ":" not in self.names[0]:
            raise UsageError(
                f"--name: want a name with a dot for a vault, as Azure's clients do, got {self.names[0]!a}"
            )

    def check_protections(self, status: Mapping[str, Any]) -> None:
        """Check that a platform protects the services as their launch will require.

        Args:
            status: of the platform.

        Raises:
            UnavailableError: a protection is missing that may not be missing.
        """
        lacks, lockable = frozenset(status["missing"]), status["lockable_bytes"]
        heap = max(config.load(folder_of(service)).heap_bytes for service in self.services)
        if lockable is not None and lockable < heap:
            lacks |= {"secret-memory"}
        linux.check_missing(lacks, self.insecure_allow_missing)

    @property
    def server_names(self) -> tuple[str, ...]:
        """The names in certificates."""
        own = () if self.bind == HOST or ipaddress.ip_address(self.bind).is_unspecified else (self.bind,)
        return ("localhost", HOST, "vault.localhost", "*.vault.localhost", *own, *self.names)

    def bind_address(self, name: str) -> str:
        """The address on which a service, the issuer or the managed identity's endpoint listens."""
        if name == MANAGED_IDENTITY or (name == ISSUER and not self.insecure_expose_issuer):
            return HOST
        return self.bind

    def url(self, name: str, port: int) -> str:
        """The address for clients: a vault's has the dot that Azure's clients require."""
        scheme = "http" if name == MANAGED_IDENTITY else "https"
        if self.certificate is not None and name != MANAGED_IDENTITY:
            own = name != ISSUER or self.insecure_expose_issuer
            host = self.names[0] if own else "localhost"
        elif (bound := self.bind_address(name)) != HOST:
            host = bound
        else:
            host = HOST if name in ("keyvault", MANAGED_IDENTITY) else "localhost"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def warnings(self) -> list[str]:
        """What the operator must know about the addresses, for people; empty on loopback."""
        texts = []
        if not ipaddress.ip_address(self.bind).is_loopback:
            texts.append(
                f"warning: the services listen on {self.bind}, for every client that reaches this machine;"
                " --name and the certificate prove who operates them, and only evidence proves which code"
                " answers"
            )
        if self.insecure_expose_issuer:
            texts.append(
                "insecure: the development issuer listens there too: anyone who has a secret of"
                " issuer/clients.json gets that client's roles"
            )
        return texts


@contextmanager
def listening(plan: Plan) -> Iterator[Mapping[str, socket.socket]]:
    """Listen for each service and for the issuer's endpoints, as planned; close the sockets at the end.

    Raises:
        UnavailableError: an address does not exist or a port is in use; names it, and how to choose another.
    """
    more = (MANAGED_IDENTITY,) if plan.insecure_managed_identity else ()
    wanted: Sequence[str] = [name for name in ORDER if name in (*plan.services, ISSUER, *more)]
    with ExitStack() as stack:
        made = {}
        for name in wanted:
            host = plan.bind_address(name)
            port = plan.ports.get(name, plan.port + ORDER.index(name) if plan.port else 0)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                server = socket.create_server((host, port), family=family, backlog=1024)
            except OSError as error:
                other = error.errno == errno.EADDRNOTAVAIL
                raise UnavailableError(
                    f"{name}: cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}",
                    hint="ip address lists this machine's addresses, for --bind"
                    if other
                    else "--port N takes other ports, --port 0 takes free ones",
                ) from None
            made[name] = stack.enter_context(server)
        yield made
