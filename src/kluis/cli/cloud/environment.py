"""``kluis env``: the environment variables for clients of the local cloud."""

from __future__ import annotations

import shlex
from typing import Annotated

from kluis.cli import render
from kluis.cli.cloud import places
from kluis.cli.cloud.places import State
from kluis.cli.parameters import flag
from kluis.errors import UnavailableError
from kluis.serve.cloud import variables


def env(
    plain: Annotated[
        bool, flag("NAME=VALUE, for $GITHUB_ENV and files of variables, not for a shell.", "--plain")
    ] = False,
    state: State = None,
) -> None:
    """Print the environment variables for the local cloud.

    If no cloud runs, it prints false, so that eval fails, too.

    No variable is a secret: AZURE_CLIENT_CERTIFICATE_PATH names a file that only this user can read.

    For example: eval "$(kluis env)"
    """
    try:
        folder, run = places.running(state)
    except UnavailableError:
        if not plain and not render.wants_json():
            render.out(None, "false")
        raise
    values = variables.of(folder, run)
    lines = [
        f"{name}={value}" if plain else f"export {name}={shlex.quote(value)}"
        for name, value in values.items()
    ]
    render.out(values, "\n".join(lines))
