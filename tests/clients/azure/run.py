"""Run the scenarios with the Python of Azure's clients: the world comes in on standard input.

Each line out is a JSON object: ``{"forge": ...}`` requests evidence from the other side, which comes back on
one line; any other is a scenario's result. ``run.py NAME ...`` runs only these.
"""

from __future__ import annotations

import json
import sys
import time
import traceback

import algorithms
import asynchronous
import attesting
import credentials
import identities
import instances
import keys
import machines
import policies
import releasing
import tokens
import using
from azure.keyvault.keys._shared import http_challenge_cache
from scenario import SCENARIOS, Scenario, World

MODULES = (
    attesting, policies, tokens, instances, machines, credentials, identities, asynchronous, keys, using,
    algorithms, releasing,
)  # fmt: skip


def outcome(one: Scenario, world: World) -> dict[str, object]:
    """Run one scenario; the error, if there is one, is the client's own."""
    http_challenge_cache.clear()
    began, error = time.perf_counter(), None
    try:
        one.run(world)
    except Exception:
        error = traceback.format_exc(limit=-6)
    return {
        "name": one.name,
        "number": one.number,
        "call": one.call,
        "seconds": round(time.perf_counter() - began, 2),
        "error": error,
    }


def main() -> None:
    """Run them all, or those that are named."""
    world, wanted = World(json.loads(sys.stdin.readline())), set(sys.argv[1:])
    for one in SCENARIOS:
        if not wanted or one.name in wanted:
            print(json.dumps(outcome(one, world)), flush=True)


if __name__ == "__main__":
    main()
