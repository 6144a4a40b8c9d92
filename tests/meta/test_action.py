"""The action that verifies evidence, run as a job runs it: its summary, its outputs and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kluis.formats.kluis.evidence_file import EvidenceFile
from tests.cli.quotes import FORGE, NOW, write_policy
from tests.evidence.forge import NONCE, Forge
from tests.meta.tree import ROOT

ACTION = ROOT / ".github" / "actions" / "verify"
FILE = EvidenceFile(
    evidence=FORGE.quote(),
    runtime_data=FORGE.runtime,
    launch_configuration=FORGE.launch,
    collateral=FORGE.collateral().to_json(),
)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The folder of a job with evidence, a policy and a root."""
    (tmp_path / "x.evidence").write_bytes(FILE.encode())
    (tmp_path / "root.pem").write_bytes(FORGE.authority.root_pem())
    write_policy(tmp_path / "policy.toml")
    return tmp_path


def _run(job: Path, **inputs: str) -> tuple[int, str, dict[str, str]]:
    """Run the step: its exit code, the summary, and the outputs by name."""
    given = {"EVIDENCE": "x.evidence", "POLICY": "policy.toml", "NONCE": NONCE.hex(), "NOW": NOW, **inputs}
    summary, output = job / "summary.md", job / "output"
    for path in (summary, output):
        path.write_text("before\n")
    done = subprocess.run(
        [sys.executable, ACTION / "verify.py"],
        cwd=job,
        env={
            **os.environ,
            **{f"KLUIS_{name}": value for name, value in given.items()},
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_OUTPUT": str(output),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    first, *lines = output.read_text().splitlines()
    assert first == "before"
    outputs = dict(line.split("=", 1) for line in lines)
    assert done.stdout == f"kluis: the verdict is {outputs['verdict']}; exit code {done.returncode}\n"
    text = summary.read_text()
    assert text.startswith("before\n")
    return done.returncode, text.removeprefix("before\n"), outputs


def test_evidence_that_meets_the_policy(job: Path) -> None:
    """The job goes on; its summary has the rules, and the page is a file of the job."""
    code, summary, outputs = _run(job)
    assert (code, outputs) == (0, {"verdict": "affirming", "report": "verdict.html"})
    assert summary.startswith("## ✓ Affirming: SGX quote v3\n")
    assert "### Rules\n\n|  | Rule | Wanted | Found |\n|---|---|---|---|\n" in summary
    assert (job / "verdict.html").read_text().startswith("<!doctype html>")


def test_evidence_that_the_policy_rejects(job: Path) -> None:
    """The job ends with the exit code of the reason, and the summary names the rule first."""
    code, summary, outputs = _run(job, NONCE="00")
    assert (code, outputs["verdict"]) == (5, "contraindicated")
    assert "| &#10007; FAILS | nonce |" in summary


@pytest.mark.parametrize(
    ("inputs", "code", "said"),
    [
        ({"ROOTS": "other.pem"}, 4, "root&#95;untrusted"),
        ({"ROOTS": "root.pem\nother.pem\n", "EVIDENCE": "policy.toml"}, 3, "Fix: "),
        ({"EVIDENCE": "none.evidence"}, 2, "none&#46;evidence&#58; cannot be read"),
        ({"EVIDENCE": "--help"}, 2, "cannot be read"),
        ({"COLLATERAL": "root.pem"}, 3, "Not authentic&#44; or not readable"),
        ({"NONCE": "x; echo evil > evil"}, 2, "want hex"),
    ],
)
def test_evidence_that_is_refused(job: Path, inputs: dict[str, str], code: int, said: str) -> None:
    """An error has no page: the summary has the error and its fix, and no input is an option or a command."""
    (job / "other.pem").write_bytes(Forge().authority.root_pem())
    got, summary, outputs = _run(job, **inputs)
    assert (got, outputs) == (code, {"verdict": "refused", "report": ""})
    assert said in summary or said.replace("&#44;", ",") in summary
    assert not (job / "evil").exists()
    assert not (job / "verdict.html").exists()


def _steps() -> tuple[dict[str, Any], dict[str, Any]]:
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    return action, next(each for each in action["runs"]["steps"] if each.get("id") == "verify")


def test_each_input_reaches_the_script() -> None:
    """Every input is passed by the environment and read; none is part of a shell's command."""
    action, step = _steps()
    read = (ACTION / "verify.py").read_text()
    passed = {value: name for name, value in step["env"].items()}
    for name in action["inputs"]:
        if name != "python-version":
            variable = passed[f"${{{{ inputs.{name} }}}}"]
            assert variable in read or f'"{variable.removeprefix("KLUIS_")}"' in read, variable
    for each in action["runs"]["steps"]:
        assert "${{" not in each.get("run", "")
    assert json.dumps(action["outputs"]).count("steps.verify.outputs") == len(action["outputs"]) == 2


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.github-actions", ".github/actions/verify/action.yml"),
        ("vendor.github-workflows", ".github/workflows/verify.yml"),
    ],
)
def test_the_files_meet_githubs_schemas(schema: str, path: str) -> None:
    """GitHub reads them: they meet the schemas that it publishes."""
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, ROOT / path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_verifies_on_every_system(tmp_path: Path) -> None:
    """The matrix has Linux, macOS, Windows and ARM; its script forges every kind, and verifies them here."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "verify.yml").read_text())
    systems = workflow["jobs"]["verify"]["strategy"]["matrix"]["os"]
    assert {each.partition("-")[0] for each in systems} == {"ubuntu", "macos", "windows"}
    assert any(each.endswith("-arm") for each in systems)
    lines = [each["run"] for job in workflow["jobs"].values() for each in job["steps"] if "run" in each]
    scripts = [line.split()[1:] for line in lines if line.startswith("python scripts/")]
    assert len(scripts) == 2
    for script, *words in scripts:
        done = subprocess.run(
            [sys.executable, ROOT / script, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "8 of 8 kinds as expected"
