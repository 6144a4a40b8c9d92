"""Start everything that ``kluis serve`` runs: authority, issuer, database, and the services' enclaves."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from kluis import parents
from kluis.enclave.store.ocalls import REKEY_SECONDS
from kluis.errors import KluisError, PolicyError, UnavailableError
from kluis.frozen import frozen
from kluis.serve import HOST, launching, presence, proposal, rekeying
from kluis.serve.background import Background
from kluis.serve.fleet import Fleet
from kluis.serve.front.authority import LoopbackAuthority
from kluis.serve.front.naming import Front
from kluis.serve.handover import KeyGivers
from kluis.serve.host_calls import HostCalls, write
from kluis.serve.images import ServiceImage, image_of
from kluis.serve.issuer import IDENTITY, DevelopmentIssuer
from kluis.serve.launching import LEDGER
from kluis.serve.ledger.hosting import HostedLedger, refuse_running
from kluis.serve.plan import ISSUER, MANAGED_IDENTITY, Plan, listening
from kluis.serve.presence import Presence, Stores
from kluis.serve.settings import ROLES, STALE, Deployment, attestation_digest, settings_of
from kluis.serve.store import keeping
from kluis.serve.store.database import Database, database_file
from kluis.serve.store.mailbox import Mailbox, Step
from kluis.services.clock import Clock
from kluis.services.web import Issuer
from kluis.tee.platform.client import Platform

BESIDE_SECONDS: Final = 5.0


@frozen(kw_only=True)
class Serving:
    """The running services.

    Attributes:
        addresses: of each service and of the issuer, ``https://host:port``; and of the managed identity's
            endpoint, ``http``, if enabled.
        authority: whose root clients must trust.
        images: of the services.
        fleets: of the services.
        issuer: the development issuer.
        attestation_settings: digest of the attestation service's settings, hex; None if it does not run.
        front: gives every server its certificate.
        givers: of each fleet, if hosts elsewhere can share the database.
    """

    addresses: Mapping[str, str]
    authority: LoopbackAuthority
    images: Mapping[str, ServiceImage]
    fleets: tuple[Fleet, ...]
    issuer: DevelopmentIssuer
    attestation_settings: str | None
    front: Front
    givers: tuple[KeyGivers, ...]

    def authorization_parts(self) -> tuple[str, str]:
        """Address and tenant of the development issuer."""
        url, _, tenant = self.issuer.authorization.rpartition("/")
        return url, tenant

    def replace(self) -> None:
        """Start new instances of every service alongside the old ones, and refuse no client meanwhile.

        The operator's certificate is read again first.

        Raises:
            KluisError: the certificate cannot be used, and nothing changes; or an instance did not start.
        """
        self.front.reload()
        for fleet in self.fleets:
            fleet.replace()

    def rename(self) -> None:
        """Make every enclave, and the issuer, use a new certificate, before the old one expires.

        Raises:
            KluisError: one of them failed.
        """
        self.front.rename_issuer()
        for fleet in self.fleets:
            fleet.rename(self.front.name)

    def hand_over(self) -> None:
        """Answer instances on other platforms that wait for a store's key; returns quickly if there are none.

        Raises:
            UnavailableError: the database is unreachable.
        """
        for fleet, givers in zip(self.fleets, self.givers, strict=False):
            if fleet.instances:
                givers.serve(fleet.instances[0].enclave)

    def tend(self) -> list[tuple[str, KluisError]]:
        """Trigger every instance's upkeep; return the errors of the previous run."""
        return [(fleet.service, fault) for fleet in self.fleets for fault in fleet.tend()]

    def repair(self) -> Iterator[tuple[str, KluisError]]:
        """Replace each instance that ended by itself; return which ones, and why they ended.

        Raises:
            KluisError: a replacement did not start; the others did.
        """
        failed: KluisError | None = None
        for fleet in self.fleets:
            try:
                faults = fleet.repair()
            except KluisError as error:
                failed = failed or error
                continue
            for fault in faults:
                yield fleet.service, fault
        if failed is not None:
            raise failed


@contextlib.contextmanager
def serving(
    plan: Plan,
    clock: Clock,
    say: Callable[[str], None],
    log: Callable[[Iterable[str]], None] = write,
    bound: Callable[[Mapping[str, str]], None] = lambda addresses: None,
) -> Iterator[Serving]:
    """Run the services of ``plan``, for as long as the ``with`` lasts.

    Args:
        plan: the services and their configuration.
        clock: returns the time.
        say: prints a line for the operator.
        log: writes lines of the services' logs, including one for each request.
        bound: called with the addresses once their ports are this process's.

    Raises:
        KluisError: something did not start; names it, and nothing is left running.
    """
    with contextlib.ExitStack() as stack:
        _make(plan.state)
        holds = [stack.enter_context(rekeying.hold(plan.state, exclusive=plan.rekey))]
        if plan.database is not None and (file := database_file(plan.database)) is not None:
            # Two state folders may use the same file.
            lock = f"{file.name}-lock"
            holds.append(stack.enter_context(rekeying.hold(file.parent, exclusive=plan.rekey, file=lock)))
        if LEDGER in plan.services:
            refuse_running(plan.state)  # before its ports, which are in use then, and before images are built
        platform = Platform.connect()
        stack.enter_context(platform.hold())  # an idle one would end while images are built
        plan.check_protections(status := platform.status())
        for warning in plan.warnings():
            say(warning)
        with rekeying.making(plan.state, say):
            authority = LoopbackAuthority.load_or_create(plan.state / "ca", clock.now())
            front = Front(plan, authority, clock)
            sockets = stack.enter_context(listening(plan))
            addresses = {name: plan.url(name, one.getsockname()[1]) for name, one in sockets.items()}
            bound(addresses)
            # Before the images, so that a registration for an unknown client is reported at once.
            issuer = _issuer(plan, clock, front, sockets, addresses, stack)
            if plan.insecure_managed_identity:
                say(
                    f"insecure: every process of this machine gets tokens of {IDENTITY} at"
                    f" {addresses[MANAGED_IDENTITY]}"
                )
            images = _images(plan, say)
        root, level = platform.root_pem(), str(status["level"])
        url = plan.database or f"sqlite:///{plan.state / 'services.db'}"
        database = stack.enter_context(Database(url))
        ledger = None
        if LEDGER in plan.services:
            ledger = stack.enter_context(
                HostedLedger.open(plan.state, clock.now(), founds=_founds(plan), report=write)
            )
        deployment = Deployment(
            addresses=addresses,
            issuer=Issuer(issuer.issuer, (), json.dumps(issuer.jwks())),
            authorization=issuer.authorization,
            images=images,
            platform_root=root,
            level=level,
            store_key=plan.store_key,
            given=plan.given,
            authorities=plan.authorities,
            missing=plan.insecure_allow_missing,
            names=plan.server_names,
            member=None if ledger is None else ledger.member,
        )

        origins = {address: front.trust for service, address in addresses.items() if service in plan.services}
        host_calls = HostCalls(
            front.sign,
            {**origins, **dict.fromkeys(plan.origins)},
            cache=plan.state / "collateral",
            online=plan.online,
            clock=clock,
            log=log,
        )
        # The caller must not wait for a database that hangs.
        beside = stack.enter_context(Database(url, BESIDE_SECONDS)) if database.shared else database
        stores = Stores([Mailbox(keeping.records(beside, each)) for each in plan.services])
        if plan.rekey:
            with _changing(plan, database, stores, clock), Database(url, REKEY_SECONDS) as slow:
                for each in plan.services:
                    launching.rekey(plan, each, images[each], sockets[each], host_calls, slow, say)
            for hold in holds:
                hold.share()
        stack.enter_context(_present(database, stores, clock))
        fleets = tuple(
            launching.fleet_of(
                plan, each, images[each], sockets[each], deployment, host_calls, database, front, say, ledger
            )
            for each in plan.services
        )
        stack.callback(launching.stop_all, fleets)

        def start(fleet: Fleet) -> None:
            fleet.start()
            if ledger is not None and fleet.service == LEDGER:
                ledger.open_service(addresses[LEDGER], deployment.issuer.url, deployment.issuer.keys)

        try:
            launching.start_all(fleets, start, say)
        except PolicyError as error:
            if error.code == "vault_trust":
                raise proposal.refusal(error, settings_of("keyvault", deployment), plan.state) from None
            raise
        settings_digest = attestation_digest(deployment).hex() if "attestation" in plan.services else None
        givers = tuple(KeyGivers(one) for one in stores.mailboxes if database.shared)
        for one in givers:
            stack.callback(one.close)
        yield Serving(
            addresses=addresses,
            authority=authority,
            images=images,
            fleets=fleets,
            issuer=issuer,
            attestation_settings=settings_digest,
            front=front,
            givers=givers,
        )


def _images(plan: Plan, say: Callable[[str], None]) -> dict[str, ServiceImage]:
    """The image of each service; its folder may be one that several states share."""
    own = {LEDGER: plan.ledger_application}
    with contextlib.ExitStack() as stack:
        if plan.images is not None:
            stack.enter_context(rekeying.making(plan.images, say))
        folder = plan.images or plan.state
        return {one: image_of(one, folder, plan.store_key, say, own.get(one)) for one in plan.services}


@contextlib.contextmanager
def _changing(plan: Plan, database: Database, stores: Stores, clock: Clock) -> Iterator[None]:
    """Announce a change of keys, if hosts elsewhere can share the database, and check that none is
    running.
    """
    if not database.shared:
        yield
        return
    with Presence(stores, Step.REKEYING, int(clock.now().timestamp())):
        if not plan.rekey_beside_others:
            presence.refuse_present(stores)
        yield


@contextlib.contextmanager
def _present(database: Database, stores: Stores, clock: Clock) -> Iterator[None]:
    """Announce this command, if hosts elsewhere can share the database, and check that none changes keys."""
    if not database.shared:
        yield
        return
    with Presence(stores, Step.PRESENT, int(clock.now().timestamp())):
        presence.refuse_changing(stores)
        yield


def _issuer(
    plan: Plan,
    clock: Clock,
    front: Front,
    sockets: Mapping[str, socket.socket],
    addresses: Mapping[str, str],
    stack: contextlib.ExitStack,
) -> DevelopmentIssuer:
    folder = plan.state / "issuer"
    made = DevelopmentIssuer.load_or_create(folder, addresses[ISSUER], ROLES, clock, STALE, plan.registered)
    stack.enter_context(Background(made.application(), sockets[ISSUER], front.issuer_context()))
    if plan.insecure_managed_identity:
        own = addresses[MANAGED_IDENTITY].partition("://")[2]
        hosts = frozenset({own, own.replace(HOST, "localhost")})
        endpoint = made.insecure_managed_identity(hosts)
        stack.enter_context(Background(endpoint, sockets[MANAGED_IDENTITY]))
    return made


def _founds(plan: Plan) -> bool:
    """Whether the ledger's first member is made here: no others are named."""
    return "members" not in plan.given.get(LEDGER, {})


def _make(state: Path) -> None:
    parents.require(state, "kluis serve ... --state FOLDER names a folder elsewhere")
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(
            f"{state}: want a folder to keep keys in, cannot make it: {error.strerror}",
            hint="kluis serve ... --state FOLDER names one that can be written",
        ) from None
    status = state.stat()
    # Its keys would be refused; anyone who can write it could exchange its images and its database.
    if status.st_uid not in (0, os.geteuid()):
        raise UnavailableError(
            f"{state}: owner: want {os.geteuid()}, got {status.st_uid}",
            hint=f"chown {os.geteuid()} {state}, if nobody else put anything there",
        )
    if (mode := stat.S_IMODE(status.st_mode)) & 0o022:
        raise UnavailableError(
            f"{state}: want a folder that nobody else may write, got mode {mode:04o}",
            hint=f"chmod 700 {state}",
        )
