"""Run the scenarios with the Python of Azure's command line: the world comes in on standard input.

Each line out is a JSON object: ``{"forge": ...}`` requests evidence from the other side, which comes back on
one line; any other is a scenario's result. ``run.py NAME ...`` runs only these.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from pathlib import Path

import instances
import keys
import releasing
import signing_in
from command import SCENARIOS, Scenario, World

MODULES = (signing_in, instances, keys, releasing)


def outcome(one: Scenario, world: World) -> dict[str, object]:
    """Run one scenario; the error, if there is one, is the command's own."""
    began, error = time.perf_counter(), None
    try:
        one.run(world)
    except Exception:
        error = traceback.format_exc(limit=-4)
    return {
        "name": one.name,
        "number": None,
        "call": one.call,
        "seconds": round(time.perf_counter() - began, 2),
        "error": error,
    }


def main() -> None:
    """Run them all, or those that are named."""
    told, wanted = json.loads(sys.stdin.readline()), set(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="kluis-az-") as folder:
        world = World(told, Path(folder))
        with world.signed_out():
            world.sign_in("admin")
            for one in SCENARIOS:
                if not wanted or one.name in wanted:
                    print(json.dumps(outcome(one, world)), flush=True)


if __name__ == "__main__":
    main()
