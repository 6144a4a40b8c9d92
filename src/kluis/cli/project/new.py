"""``kluis new``: write a project from a template."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kluis import installing
from kluis.cli import completion, render
from kluis.cli.parameters import argument, option
from kluis.projects import template, templates, write
from kluis.projects.needs import missing_extras, missing_packages


def new(
    name: Annotated[str, argument("The project and its folder.", "NAME")],
    kind: Annotated[
        str,
        option(
            "What the project is.",
            "|".join(templates()),
            "--template",
            complete=completion.words(templates()),
        ),
    ] = "ecall",
) -> None:
    """Write a new project from a template: an application with its test, a policy, and a key for its images.

    For example: kluis new cohort --template ecall
    """
    chosen = template(kind)
    written = write(name, chosen, Path())
    # A line that a shell takes: what DIR means is a comment there.
    install = [
        installing.command_for(extra).replace(", where DIR has", "  # DIR has", 1)
        for extra in missing_extras(chosen.extras)
    ]
    if lacking := missing_packages(chosen.packages):
        install.append("python -m pip install " + " ".join(f"'{each}'" for each in lacking))
    following = [*install, *written.next]
    render.note(f"generated the author's key, {name}/author.pem: anyone who has it can sign in your name")
    render.out(
        {
            "project": str(written.folder),
            "template": chosen.name,
            "files": list(written.files),
            "next": following,
        },
        "\n".join([f"{name}: {chosen.title}", "", *(f"$ {line}" for line in following)]),
    )
