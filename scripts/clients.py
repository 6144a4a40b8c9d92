"""Run `make clients`: each scenario with Azure's own clients; print its call, and how it ended.

``clients.py NAME ...`` runs only these; those of the clients for JavaScript are called ``js:NAME``, and those
of Azure's command line ``az:NAME``.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
# Another installed package is called tests, too: ours is the one next to this script.
sys.modules["tests"] = ModuleType("tests")
sys.modules["tests"].__path__ = [str(ROOT / "tests")]

from tests.clients.azure import listing, serving  # noqa: E402
from tests.clients.azure_cli import listing as command_line  # noqa: E402
from tests.clients.azure_js import listing as javascript  # noqa: E402

HINT = "scripts/setup.sh clients makes the environment of Azure's clients"
JS, AZ = "js:", "az:"
HINTS = {
    JS: "sudo apt-get install nodejs npm, then scripts/setup.sh clients",
    AZ: "scripts/setup.sh clients, where PyPI can be reached",
}


class Suite(NamedTuple):
    """The scenarios of one language's clients.

    Attributes:
        prefix: before their names.
        names: of the requested ones.
        folder: where the clients are installed; None if they are not.
    """

    prefix: str
    names: list[str]
    folder: Path | None

    def runner(self, told: dict[str, Any]) -> serving.Runner:
        """The runner of the scenarios."""
        assert self.folder is not None
        if self.prefix == JS:
            return javascript.runner(self.folder, told)
        return command_line.runner(self.folder) if self.prefix == AZ else serving.runner(self.folder)


def main() -> int:
    """Run them, all or those that are named; 1 if one of them fails."""
    folder = serving.environment()
    if folder is None:
        print(f"clients: want the environment of Azure's clients, got none\nhint: {HINT}", file=sys.stderr)
        return 7
    wanted = sys.argv[1:]
    known = [
        *listing.declared(),
        *(f"{JS}{name}" for name in javascript.declared()),
        *(f"{AZ}{name}" for name in command_line.declared()),
    ]
    if unknown := set(wanted) - set(known):
        print(f"clients: want a scenario, got {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    chosen = wanted or known

    def under(prefix: str) -> list[str]:
        return [name.removeprefix(prefix) for name in chosen if name.startswith(prefix)]

    suites = [
        Suite("", [name for name in chosen if not name.startswith((JS, AZ))], folder),
        Suite(JS, under(JS), javascript.environment()),
        Suite(AZ, under(AZ), command_line.environment()),
    ]
    home = Path(tempfile.mkdtemp(prefix="kluis-clients-", dir="/run" if os.geteuid() == 0 else None))
    home.chmod(0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ["KLUIS_HOME"] = str(home)
    try:
        return _table(folder, [suite for suite in suites if suite.names])
    finally:
        from kluis.tee import places
        from kluis.tee.platform import start

        start.stop(places.mine())
        shutil.rmtree(home, ignore_errors=True)


def _table(folder: Path, suites: list[Suite]) -> int:
    found: dict[str, str | None] = {}
    began = time.monotonic()
    print("starting the services in their enclaves", file=sys.stderr)
    there = [suite for suite in suites if suite.folder is not None]
    with serving.served(folder) as (told, forger):
        ready = time.monotonic()
        for suite in there:
            for result in serving.results(suite.runner(told), told, forger, suite.names):
                name = f"{suite.prefix}{result['name']}"
                found[name] = result["error"]
                _row(name, result)
        took = time.monotonic() - ready
    wanted = [f"{suite.prefix}{name}" for suite in there for name in suite.names]
    failures = [name for name, error in found.items() if error]
    missing = [name for name in wanted if name not in found]
    print(
        f"{len(found) - len(failures)} of {len(wanted)} scenarios as they must be, in {took:.0f} s; "
        f"the services took {ready - began:.0f} s to start"
    )
    for name in missing:
        print(f"did not run: {name}")
    for suite in suites:
        if suite.folder is None:
            print(
                f"skipped: {len(suite.names)} whose clients are not installed ({suite.prefix}); "
                f"hint: {HINTS[suite.prefix]}"
            )
    return 1 if failures or missing else 0


def _row(name: str, result: dict[str, Any]) -> None:
    number, failed = result["number"], result["error"]
    print(
        f"{'' if number is None else number:>3}  {'FAIL' if failed else 'ok':4}  "
        f"{result['seconds']:6.2f} s  {name:38}  {result['call']}",
        flush=True,
    )
    if failed:
        print("\n".join(f"        {line}" for line in failed.splitlines()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
