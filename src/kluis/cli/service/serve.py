"""``kluis serve``: the services, inside enclaves of this machine, on loopback."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from kluis.cli import completion
from kluis.cli.image import protections
from kluis.cli.render import Json
from kluis.cli.service import serve_settings
from kluis.serve import DEFAULT_PORT
from kluis.serve.images import SERVICES, STORE_KEYS


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
            " restarts, and what it writes meanwhile leaves the keys as they are.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Run the services on loopback, each in an enclave, until stopped.

    Prints how clients reach them once they are ready. Stop it with Ctrl-C; SIGHUP starts every enclave anew
    and refuses no client.

    For example: kluis serve all --root platform.pem
    """
    from kluis.cli.service import serve_run  # these want the extra, and the help does not
    from kluis.cli.service.serve_clients import registered
    from kluis.serve.plan import Plan

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
    serve_run.run(plan)


def _folder() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "kluis" / "services"
