"""``kluis stubs``: write an image's ecalls as Python types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kluis.cli import render
from kluis.cli.parameters import argument, option
from kluis.errors import UsageError
from kluis.host.loading import interface_of
from kluis.host.stubs import stubs_of


def stubs(
    image: Annotated[Path, argument("A .kluis image.", "IMAGE")],
    out: Annotated[
        Path | None, option("Where to write it: a .py or a .pyi file.", "FILE", "-o", "--output")
    ] = None,
) -> None:
    """Write an image's ecalls as Python types, for editors and type checkers.

    A .py file can be imported: load(IMAGE, Cohort) then returns an enclave of the class Cohort, and
    AsyncCohort.load(IMAGE) one whose ecalls are awaited. A .pyi file is only for type checkers. Without -o,
    the text goes to stdout.

    For example: kluis stubs cohort.kluis -o cohort_stubs.py
    """
    if out is not None and (out.suffix not in {".py", ".pyi"} or not out.stem.isidentifier()):
        raise UsageError(
            f"-o: want a module's name that ends in .py or .pyi, got {str(out)[:80]!a}",
            hint=f"kluis stubs {image} -o cohort_stubs.py",
        )
    name, text = stubs_of(interface_of(image))
    if out is None:
        render.out({"class": name, "text": text}, text.rstrip())
        return
    render.save(out, text.encode())
    use = f'from {out.stem} import {name}; load("{image}", {name})'
    render.out({"class": name, "path": str(out), "use": use}, f"written: {out}\n{use}")
