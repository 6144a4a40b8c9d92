"""Run the ``run:`` steps of a GitHub workflow's job in order, in a folder, as its runner does.

Steps that use an action are skipped: the folder is the checkout, and Python is the caller's. Spec: GitHub,
"Workflow syntax for GitHub Actions", ``jobs.<job_id>.steps``; "Workflow commands", ``GITHUB_ENV``.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

SECONDS = 1200
CONDITIONS = {None: "ok", "success()": "ok", "failure()": "failed", "always()": "always"}


class Step(NamedTuple):
    """A step that was run."""

    name: str
    code: int
    output: str


def run(workflow: Path, job: str, folder: Path, environment: Mapping[str, str]) -> list[Step]:
    """Run the steps; after one that fails, only those that are for failures or always."""
    steps: list[dict[str, Any]] = yaml.safe_load(workflow.read_text())["jobs"][job]["steps"]
    variables = {**environment, "GITHUB_ENV": str(folder / "github-env"), "CI": "true"}
    done: list[Step] = []
    for step in steps:
        failed = any(each.code for each in done)
        when = CONDITIONS[step.get("if")]
        if "run" not in step or (when == "ok" and failed) or (when == "failed" and not failed):
            continue
        ended = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        done.append(Step(step["name"], ended.returncode, ended.stdout))
        variables |= _written(folder / "github-env")
    return done


def _written(path: Path) -> dict[str, str]:
    """The variables that steps have written so far."""
    if not path.exists():
        return {}
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def usual() -> dict[str, str]:
    """This process's environment, without what its caller set for Azure's clients and Kluis's folders."""
    names = ("AZURE_", "KLUIS_CLOUD", "PYTEST_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(names)}
