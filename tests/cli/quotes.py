"""What tests of the commands about evidence share: a forged quote, and what a command line said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kluis.appraisal import ByImage, Policy, dumps, strict
from kluis.evidence import ProtectionLevel
from kluis.formats.kluis.runtime_data import Purpose
from tests.evidence.forge import IMAGE, Forge

FORGE = Forge()
NOW = "2026-06-01T12:00:00Z"
ANCHOR = next(iter(FORGE.anchors)).name


class Said(NamedTuple):
    """What a command line printed, and its exit code."""

    code: int
    out: str
    err: str


def ends(code: str) -> str:
    """The last line of an error."""
    return f"kluis: code: {code} (kluis explain {code})\n"


Kluis = Callable[..., Said]


def write_policy(path: Path, roots: tuple[str, ...] = ("root.pem",)) -> None:
    """A strict policy for the forged image."""
    policy: Policy = strict(
        ByImage(image_ids=frozenset({IMAGE})),
        protection=frozenset({ProtectionLevel.PROCESS}),
        purpose=Purpose.CLI,
        counters=frozenset({"unwitnessed"}),
        missing=frozenset(),
        emulated_roots=roots,
    )
    path.write_text(dumps(policy), encoding="utf-8")


def appraising(folder: Path, *more: object) -> tuple[object, ...]:
    """The words that appraise the quote of a folder."""
    return ("appraise", folder / "quote.bin", "--policy", folder / "policy.toml", "--now", NOW, *more)
