"""The constitution of a ledger whose settings name none."""

from __future__ import annotations

from importlib import resources
from typing import Final

DEFAULT: Final = (
    resources.files("kluis.ledger.sample").joinpath("constitution.js").read_text(encoding="utf-8")
)
