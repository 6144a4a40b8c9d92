"""Groups of commands, and parameters: what they are for, how a value is shown, and words to complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer


def group(name: str, about: str, commands: Iterable[Any]) -> typer.Typer:
    """A group of commands.

    Args:
        name: of the group.
        about: its help.
        commands: functions, each named as its command is, without an underscore at the end; or groups.
    """
    made = typer.Typer(name=name, help=about, rich_markup_mode=None, no_args_is_help=True)
    for each in commands:
        if isinstance(each, typer.Typer):
            made.add_typer(each)
        else:
            made.command(each.__name__.rstrip("_"))(each)
    return made


def option(
    about: str,
    metavar: str = "",
    *names: str,
    complete: Callable[[], list[str]] | None = None,
    show_default: bool | str = True,
) -> Any:
    """An option with a value.

    Args:
        about: its help.
        metavar: the value in the help; empty if the words of its type are shown.
        names: such as ``--output``; by default that of the parameter.
        complete: the words that a shell offers.
        show_default: whether the help shows the default; or the text that it shows.
    """
    return typer.Option(
        *names, metavar=metavar or None, help=about, autocompletion=complete, show_default=show_default
    )


def flag(about: str, *names: str) -> Any:
    """An option without a value; Typer would add its opposite if it had no name."""
    return typer.Option(*names, help=about)


def argument(about: str, metavar: str = "", complete: Callable[[], list[str]] | None = None) -> Any:
    """An argument, as :func:`option`; its help states the default if it has one that matters."""
    return typer.Argument(metavar=metavar or None, help=about, autocompletion=complete, show_default=False)


Output = Annotated[Path | None, option("Write it to a file instead of stdout.", "FILE", "-o", "--output")]
Now = Annotated[str | None, option("Judge as of this time, such as 2026-01-31T00:00:00Z.", "TIME", "--now")]
