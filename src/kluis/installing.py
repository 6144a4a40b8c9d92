"""Determine the command that installs a part of Kluis the same way as the running Kluis.

Kluis comes from a folder of wheels or from a checkout, and pip keeps no record of ``--find-links``: without a
record, the command describes the folder.

Spec: PyPA, "Recording the Direct URL Origin of installed distributions"; PEP 376, "INSTALLER".
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any, Final
from urllib import parse

UNKNOWN: Final = "DIR"
_MEANT: Final = ", where DIR has Kluis's wheels, as make dist makes them in a checkout"
# Installed by a checkout's own script for an extra.
_TARGETS: Final = {"rooms": "demo", "demo": "demo", "openai": "check"}


def command_for(name: str) -> str:
    """The command that installs one of Kluis's extras for the running Kluis."""
    checkout = _checkout()
    if checkout is None:
        return requirement(f"kluis[{name}]")
    line = f"{shlex.quote(str(checkout / 'scripts/setup.sh'))} {_TARGETS.get(name, 'serve')}"
    return line if Path(sys.prefix) == checkout / ".venv" else f"KLUIS_VENV={shlex.quote(sys.prefix)} {line}"


def requirement(what: str, *options: str) -> str:
    """The command that installs ``what``, one of Kluis's own distributions, from Kluis's source."""
    folder = _folder()
    where = str(folder) if folder else UNKNOWN
    line = " ".join([_pip(), *options, "--find-links", shlex.quote(where), f"'{what}'"])
    return line if folder else line + _MEANT


def _pip() -> str:
    """The installer of this environment, which may differ from the one on the path."""
    if (_record("INSTALLER") or "").strip() == "uv":
        return f"uv pip install --python {shlex.quote(sys.executable)}"
    return f"{shlex.quote(sys.executable)} -m pip install"


def _checkout() -> Path | None:
    """The checkout that is installed in place."""
    origin = _origin()
    editable = isinstance(origin.get("dir_info"), dict) and origin["dir_info"].get("editable") is True
    place = _path(origin) if editable else None
    return place if place is not None and (place / "scripts/setup.sh").is_file() else None


def _folder() -> Path | None:
    """The folder of the wheel file that was installed."""
    place = _path(_origin())
    return place.parent if place is not None and place.suffix == ".whl" and place.is_file() else None


def _path(origin: dict[str, Any]) -> Path | None:
    url = origin.get("url")
    parts = parse.urlsplit(url) if isinstance(url, str) else None
    return Path(parse.unquote(parts.path)) if parts and parts.scheme == "file" else None


def _origin() -> dict[str, Any]:
    try:
        origin = json.loads(_record("direct_url.json") or "{}")
    except ValueError:
        return {}
    return origin if isinstance(origin, dict) else {}


def _record(name: str) -> str | None:
    """A file of the installed distribution's ``dist-info``.

    A checkout's ``egg-info``, which may come first on a path, is not an installation and has no such file.
    """
    from importlib import metadata  # a tenth of the start of a platform, and only an error needs it

    try:
        texts = (each.read_text(name) for each in metadata.distributions(name="kluis"))
        return next((text for text in texts if text is not None), None)
    except (OSError, UnicodeDecodeError):
        return None
