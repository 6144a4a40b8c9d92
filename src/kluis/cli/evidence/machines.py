"""The table ``[machine]`` of a policy's file, for commands that require enclaves in an endorsed machine."""

from __future__ import annotations

from pathlib import Path

from kluis.appraisal import dumps_machine, loads, loads_machine
from kluis.cli.evidence.files import read
from kluis.errors import UsageError


def machine_of(policy: Path | None) -> str:
    """The table ``[machine]`` of a policy, in TOML; empty without a policy.

    Raises:
        UsageError: the policy has none, or needs reference values.
    """
    if policy is None:
        return ""
    machine = loads(read(policy)).machine
    if machine is None:
        raise UsageError(
            f"--machine: {policy}: want a table [machine], got none",
            hint="kluis policy init drafts one from evidence of an enclave in a machine",
        )
    text = dumps_machine(machine)
    loads_machine(text.encode())
    return text
