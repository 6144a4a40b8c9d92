"""``kluis env``: the environment variables for clients of the local cloud."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from kluis.cli import render
from kluis.cli.cloud import places
from kluis.cli.cloud.places import State
from kluis.cli.render import Json
from kluis.errors import UnavailableError
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.record import Run

CLIENT = "admin"


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("env")(env)


def env(
    plain: Annotated[
        bool,
        typer.Option("--plain", help="NAME=VALUE, for $GITHUB_ENV and files of variables, not for a shell."),
    ] = False,
    state: State = None,
    json: Json = False,
) -> None:
    """Print the environment variables for the local cloud.

    No variable is a secret: AZURE_CLIENT_CERTIFICATE_PATH names a file that only this user can read.

    For example: eval "$(kluis env)"
    """
    folder, run = places.running(state)
    found = variables(folder, run)
    lines = [
        f"{name}={value}" if plain else f"export {name}={shlex.quote(value)}" for name, value in found.items()
    ]
    render.out(found, "\n".join(lines))


def variables(folder: Folder, run: Run) -> dict[str, str]:
    """The variables, by name; none of them is a secret.

    Raises:
        UnavailableError: the services do not serve yet.
    """
    if run.phase != "ready":
        raise UnavailableError(
            f"{folder.path}: its services do not serve yet", hint="kluis wait", code="cloud_starting"
        )
    ledger = {"KLUIS_LEDGER_CERTIFICATE": str(folder.ledger_certificate)}
    return {
        "AZURE_AUTHORITY_HOST": run.issuer,
        "AZURE_TENANT_ID": run.tenant,
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_CLIENT_CERTIFICATE_PATH": str(folder.client),
        "AZURE_CONFIG_DIR": str(folder.az),
        "SSL_CERT_FILE": str(folder.roots),
        "REQUESTS_CA_BUNDLE": str(folder.roots),
        "NODE_EXTRA_CA_CERTS": str(folder.authority),
        places.VARIABLE: str(folder.path),
        **{f"KLUIS_{each.name.upper()}_URL": each.url for each in run.services},
        **(ledger if folder.ledger_certificate.exists() else {}),
    }
