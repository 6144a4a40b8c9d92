"""What `make clients` runs: each scenario with Azure's own clients, its call, and how it ended."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
# A package that others install is called tests, too: ours is the one beside this script.
sys.modules["tests"] = ModuleType("tests")
sys.modules["tests"].__path__ = [str(ROOT / "tests")]

from tests.clients.azure.listing import declared  # noqa: E402
from tests.clients.azure.serving import environment, results, served  # noqa: E402

HINT = "scripts/setup.sh clients makes the environment of Azure's clients"


def main() -> int:
    """Run them, all or those that are named; 1 where one of them fails."""
    folder = environment()
    if folder is None:
        print(f"clients: want the environment of Azure's clients, got none\nhint: {HINT}", file=sys.stderr)
        return 7
    wanted = sys.argv[1:]
    known = declared()
    if unknown := set(wanted) - set(known):
        print(f"clients: want a scenario, got {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    home = Path(tempfile.mkdtemp(prefix="kluis-clients-", dir="/run" if os.geteuid() == 0 else None))
    home.chmod(0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ["KLUIS_HOME"] = str(home)
    try:
        return _table(folder, wanted, known)
    finally:
        from kluis.tee.platform import places, start

        start.stop(places.mine())
        shutil.rmtree(home, ignore_errors=True)


def _table(folder: Path, wanted: list[str], known: dict[str, tuple[int | None, str]]) -> int:
    found: dict[str, str | None] = {}
    began = time.monotonic()
    print("starting the services in their enclaves", file=sys.stderr)
    with served(folder) as (told, forger):
        ready = time.monotonic()
        for result in results(folder, told, forger, wanted):
            number, failed = result["number"], result["error"]
            found[result["name"]] = failed
            print(
                f"{'' if number is None else number:>3}  {'FAIL' if failed else 'ok':4}  "
                f"{result['seconds']:6.2f} s  {result['name']:38}  {result['call']}",
                flush=True,
            )
            if failed:
                print("\n".join(f"        {line}" for line in failed.splitlines()), flush=True)
        took = time.monotonic() - ready
    failures = [name for name, error in found.items() if error]
    missing = [name for name in wanted or known if name not in found]
    print(
        f"{len(found) - len(failures)} of {len(wanted or known)} scenarios as they must be, in {took:.0f} s; "
        f"the services took {ready - began:.0f} s to start"
    )
    for name in missing:
        print(f"did not run: {name}")
    return 1 if failures or missing else 0


if __name__ == "__main__":
    sys.exit(main())
