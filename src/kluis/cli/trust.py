"""``kluis trust``: the roots that this user trusts in addition to the vendors'."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kluis import trust
from kluis.cli import completion, render
from kluis.cli.evidence import files, roots
from kluis.cli.parameters import argument, option
from kluis.errors import UsageError
from kluis.evidence import ProtectionLevel
from kluis.hashes import sha256
from kluis.trust import TrustedRoot

_EMPTY = "none: only the vendors' roots are trusted"


Name = Annotated[str, argument("A name for the root.", "NAME")]


def add(
    name: Name,
    file: Annotated[Path, argument("The root: a certificate or a key (PEM).", "FILE")],
    level: Annotated[
        str | None,
        option(
            "The protection level of evidence under this root, such as process.",
            "LEVEL",
            complete=completion.words(ProtectionLevel),
        ),
    ] = None,
) -> None:
    """Trust a root from now on, by a name, with a level that you state.

    Anyone who has its private key can create any evidence of that level.

    For example: kluis trust add lab root.pem --level process
    """
    stated = roots.stated_level(level, "--level")
    certificate = roots.read(file)
    if stated is None:
        own = next(iter(certificate)).level
        named = f": the root states {own}" if own is not ProtectionLevel.NONE else ""
        raise UsageError(
            f"--level: want the level that you trust this root for, got none{named}",
            hint=f"kluis trust add {name} {file} --level {own if named else 'LEVEL'}",
        )
    added = trust.add(trust.folder(), name, files.read(file), stated)
    render.out(_value(added), render.fold(f"trusted: {' '.join(_row(added))}"))


def list_() -> None:
    """List the roots of the trust store.

    A line has the name, the level, the fingerprint of the key, and the root's own name.
    """
    trusted = trust.load(trust.folder())
    rows = [_row(each) for each in trusted]
    render.out([_value(each) for each in trusted], render.fold(render.table(rows)) if rows else _EMPTY)


def remove(name: Name) -> None:
    """Stop trusting a root."""
    trust.remove(trust.folder(), name)
    render.out({"removed": name}, f"removed: {name}")


def _row(root: TrustedRoot) -> tuple[str, ...]:
    return root.name, str(root.level), f"sha256:{sha256(root.anchor.spki).hex()}", root.anchor.name


def _value(root: TrustedRoot) -> dict[str, str]:
    return {
        "name": root.name,
        "level": str(root.level),
        "key_sha256": sha256(root.anchor.spki).hex(),
        "root": root.anchor.name,
        "file": str(trust.folder() / f"{root.name}.toml"),
    }


COMMANDS = (add, list_, remove)
