"""``kluis serve``: the services, inside enclaves of this machine, on loopback."""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer

from kluis.cli import completion, protections, render, serve_settings
from kluis.cli.render import Json
from kluis.cli.serve_clients import registered
from kluis.cli.serve_text import lines_of, told
from kluis.errors import KluisError
from kluis.services.clock import SystemClock
from kluis.services.running.images import SERVICES, STORE_KEYS
from kluis.services.running.plan import DEFAULT_PORT, Plan
from kluis.services.running.serving import Serving, serving

LOOK_SECONDS: Final = 1.0
# How often services are asked to do what is due: what that is, they know by themselves.
TEND_SECONDS: Final = 10.0
# So many turns in which enclaves end, in so long, are no accident.
MOST_FAULTS: Final = 5
FAULT_SECONDS: Final = 300.0
# Certificates are made out for 90 days.
RENEW_SECONDS: Final = 30 * 24 * 3600.0


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("serve")(serve)


def serve(
    services: Annotated[
        list[str],
        typer.Argument(
            help=f"{', '.join(SERVICES)}, several of them, or all.",
            show_default=False,
            autocompletion=completion.words((*SERVICES, "all")),
        ),
    ],
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="Where keys, images and the database are kept."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database", metavar="URL", help="SQLAlchemy URL; SQLite in the state folder otherwise."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", metavar="N", help="The first port; 0 takes free ones.")
    ] = DEFAULT_PORT,
    instances: Annotated[int, typer.Option("--instances", metavar="N", help="Enclaves of each service.")] = 1,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="Another name or address that clients use."),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(
            "--root",
            metavar="PEM",
            help="A root whose evidence is attested, PEM: FILE; FILE=LEVEL, as hardware-snp, where it is no "
            "maker's and not emulated; may be repeated.",
        ),
    ] = None,
    collateral: Annotated[
        list[Path] | None,
        typer.Option("--collateral", metavar="FILE", help="Intel's documents, JSON; may be repeated."),
    ] = None,
    policy_signer: Annotated[
        list[Path] | None,
        typer.Option(
            "--policy-signer",
            metavar="PEM",
            help="A certificate (PEM) whose key signs policies: Isolated mode.",
        ),
    ] = None,
    tpm_issuer: Annotated[
        list[Path] | None,
        typer.Option(
            "--tpm-issuer",
            metavar="PEM",
            help="Who certifies TPMs' keys, up to the root, PEM; may be repeated.",
        ),
    ] = None,
    authority: Annotated[
        list[Path] | None,
        typer.Option(
            "--authority",
            metavar="FILE",
            help="A further authority that keys are released on, JSON; may be repeated.",
        ),
    ] = None,
    insecure_authority: Annotated[
        list[str] | None,
        typer.Option(
            "--insecure-authority", metavar="URL", help="One by URL, whose keys are fetched: your own word."
        ),
    ] = None,
    client_certificate: Annotated[
        list[str] | None,
        typer.Option(
            "--client-certificate",
            metavar="CLIENT=PEM",
            help="A certificate that a client of the development issuer signs by, instead of its secret, RSA;"
            " may be repeated.",
        ),
    ] = None,
    federated: Annotated[
        list[Path] | None,
        typer.Option(
            "--federated",
            metavar="FILE",
            help="A subject of another issuer that is one of its clients, JSON: client, issuer, subject, and"
            " jwks, the other's keys, which nobody fetches; may be repeated.",
        ),
    ] = None,
    insecure_managed_identity: Annotated[
        bool,
        typer.Option(
            "--insecure-managed-identity",
            help="Also serve a managed identity, over plain HTTP on 127.0.0.1: every process of every user of"
            " this machine gets tokens of the client workload, and nothing asks who it is.",
        ),
    ] = False,
    insecure_accept_unprotected: Annotated[
        bool,
        typer.Option("--insecure-accept-unprotected", help="Attest evidence of level none, and say so."),
    ] = False,
    token_seconds: Annotated[
        int | None,
        typer.Option(
            "--token-seconds", metavar="SECONDS", help="Life of an attestation token; 8 hours otherwise."
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            metavar="FILE",
            help="Further settings, JSON, by service; the other options add to them.",
        ),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Ask Intel and AMD for what endorses evidence.")
    ] = False,
    store_key: Annotated[
        str,
        typer.Option(
            "--store-key",
            metavar="WHO",
            autocompletion=completion.words(STORE_KEYS),
            help="Who opens a store again: measurement, this very image; or signer, also later ones that"
            " whoever has author.pem signs.",
        ),
    ] = "measurement",
    missing: Annotated[
        list[str] | None,
        typer.Option(
            "--insecure-allow-missing",
            metavar="NAME",
            help="Protections that this machine may lack.",
            autocompletion=completion.protections,
        ),
    ] = None,
    rekey: Annotated[
        bool,
        typer.Option(
            "--rekey",
            help="First seal all that each service keeps under a fresh key; nothing else may run on it.",
        ),
    ] = False,
    rekey_beside_others: Annotated[
        bool,
        typer.Option(
            "--rekey-beside-others",
            help="With --rekey, though another command is at the database: it answers nothing more until it"
            " is started anew, and what it writes meanwhile leaves the keys as they are.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Run the services on loopback, each in an enclave, until stopped.

    Prints how clients reach them once they are ready. Stop it with Ctrl-C; SIGHUP starts every enclave anew
    and refuses no client.

    For example: kluis serve all --root platform.pem
    """
    chosen = SERVICES if "all" in services else tuple(dict.fromkeys(services))
    plan = Plan(
        services=chosen,
        state=(state or _folder()).absolute(),
        database=database,
        port=port,
        instances=instances,
        names=tuple(name or ()),
        store_key=store_key,
        insecure_allow_missing=protections.allowed(missing),
        online=online,
        origins=tuple(insecure_authority or ()),
        given=serve_settings.given(
            settings,
            {
                "attestation": serve_settings.attestation(
                    root, collateral, policy_signer, tpm_issuer, token_seconds, insecure_accept_unprotected
                ),
            },
        ),
        authorities=serve_settings.authorities(authority, insecure_authority),
        rekey=rekey,
        rekey_beside_others=rekey_beside_others,
        registered=registered(client_certificate, federated),
        insecure_managed_identity=insecure_managed_identity,
    )
    _run(plan)


def _run(plan: Plan) -> None:
    wake, asked = threading.Event(), _Asked()

    def hear(number: int, frame: FrameType | None) -> None:
        asked.hear(number)
        wake.set()
        if asked.stop and not asked.ready:
            raise KeyboardInterrupt  # nothing serves yet: there is nobody to finish for

    before = {
        number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    try:
        with serving(plan, SystemClock(), _note) as running:
            asked.ready = True
            render.out(told(plan, running), lines_of(plan, running))
            _watch(running, wake, asked)
            _note("kluis: draining")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Asked:
    """What signals asked for; ``ready`` once there is what a stop has to finish."""

    ready = False
    stop = False
    replace = False

    def hear(self, number: int) -> None:
        if number == signal.SIGHUP:
            self.replace = True
        else:
            self.stop = True


def _watch(running: Serving, wake: threading.Event, asked: _Asked) -> None:
    """Keep the instances up until asked to stop.

    A database or a platform that is away for a while is told of, and ends nothing that still serves; nor
    does it keep what can be done meanwhile from being done.

    Raises:
        KluisError: they end again and again; says why the last one did.
    """
    # Turns in which some ended: with their platform all of them end, at once, and that is one end.
    recent: collections.deque[float] = collections.deque(maxlen=MOST_FAULTS)
    renewed, tended = time.monotonic(), float("-inf")
    told: frozenset[str] = frozenset()
    waits: list[str] = []
    while not asked.stop:
        wake.wait(LOOK_SECONDS)
        wake.clear()
        if asked.replace:
            asked.replace = False
            _replace(running)
        faults: list[KluisError] = []
        failed = [_attempt(functools.partial(_mend, running, faults)), _attempt(running.hand_over)]
        if time.monotonic() - renewed > RENEW_SECONDS:
            failed.append(_attempt(running.rename))
            if failed[-1] is None:
                renewed = time.monotonic()
        if time.monotonic() - tended > TEND_SECONDS:
            tended, waits = time.monotonic(), _tend(running, waits)
        told = _tell(failed, told)
        if faults:
            recent.append(time.monotonic())
            if len(recent) == MOST_FAULTS and recent[-1] - recent[0] < FAULT_SECONDS:
                raise faults[-1]


def _attempt(step: Callable[[], None]) -> KluisError | None:
    """Take a step; what it failed in."""
    try:
        step()
    except KluisError as error:
        return error
    return None


def _mend(running: Serving, faults: list[KluisError]) -> None:
    for service, fault in running.mend():
        faults.append(fault)
        _note(f"kluis: {service}: an enclave ended and was started anew: {fault.message}")


def _tell(failed: list[KluisError | None], before: frozenset[str]) -> frozenset[str]:
    """Say what failed, but for what was said the time before; what is not to be said again."""
    now = {error.message: error for error in failed if error is not None}
    for message, error in now.items():
        if message not in before:
            _error(error)
    return frozenset(now)


def _tend(running: Serving, before: list[str]) -> list[str]:
    """Have the services do what is due; what they could not do the time before is told once."""
    waits = [f"kluis: {service}: what is due waits: {fault.message}" for service, fault in running.tend()]
    for line in dict.fromkeys(waits):
        if line not in before:
            _note(line)
    return waits


def _replace(running: Serving) -> None:
    try:
        running.replace()
    except KluisError as error:
        _note("kluis: not every enclave was started anew: those that were not go on")
        _error(error)
        return
    pids = " ".join(str(one.enclave.pid) for fleet in running.fleets for one in fleet.instances)
    _note(f"kluis: every enclave was started anew; enclaves now: {pids}")


def _note(text: str) -> None:
    """Say something; a log whose disk is full, or that nobody reads any more, ends no service."""
    with contextlib.suppress(OSError):
        render.note(text)


def _error(error: KluisError) -> None:
    """Likewise of an error."""
    with contextlib.suppress(OSError):
        render.error(error)


def _folder() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "kluis" / "services"
