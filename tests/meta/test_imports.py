"""What importing costs, and what it must not load."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LISTS_MODULES = """
import json, sys
before = set(sys.modules)
import {name}
tops = {{module.partition('.')[0] for module in set(sys.modules) - before}}
print(json.dumps(sorted(top for top in tops if top not in sys.stdlib_module_names)))
"""


def loads(name: str) -> set[str]:
    """The packages outside the standard library that importing a module loads, in a fresh interpreter."""
    program = LISTS_MODULES.format(name=name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


CRYPTOGRAPHY = {"cryptography", "_cffi_backend", "_openssl"}
READER = {"msgspec", "typing_extensions"}


@pytest.mark.parametrize(
    ("name", "more"), [("kluis.evidence", set()), ("kluis.appraisal", set()), ("kluis.collateral", READER)]
)
def test_the_verifier_needs_only_cryptography(name: str, more: set[str]) -> None:
    """Importing the verifier loads the standard library and cryptography; for Intel's documents, msgspec."""
    assert loads(name) <= {"kluis", *CRYPTOGRAPHY, *more}


@pytest.mark.parametrize("name", ["kluis", "kluis.errors", "kluis.hashes"])
def test_the_ground_needs_nothing(name: str) -> None:
    """The package, its errors and its digests only load the standard library."""
    assert loads(name) == {"kluis"}


def test_a_projects_tests_need_only_the_extra_enclave() -> None:
    """The pytest plug-in loads no package of the services: ``kluis[enclave]`` does not install them."""
    services = {"alembic", "lark", "prometheus_client", "psycopg", "sqlalchemy", "starlette", "uvicorn"}
    assert not services & loads("kluis.testing.plugin")


def test_help_loads_no_room() -> None:
    """Asking for help imports the command line and not one room, so it is quick."""
    program = (
        "import sys\nfrom kluis.cli.main import run\nrun(['--help'])\n"
        "rooms = sorted(m for m in sys.modules if m.startswith('kluis.'))\nprint(rooms, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert eval(done.stderr) == [
        "kluis.cli",
        "kluis.cli.conversion",
        "kluis.cli.main",
        "kluis.cli.render",
        "kluis.cli.terminal",
        "kluis.errors",
        "kluis.views",
        "kluis.views.printable",
    ]
