"""Judge evidence in a job: the verdict goes to its summary, its outputs and its exit code.

Inputs are environment variables, so that none of them is ever part of a command line of a shell. Writes to
the files that ``$GITHUB_STEP_SUMMARY`` and ``$GITHUB_OUTPUT`` name.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

from kluis.cli.main import run
from kluis.errors import KluisError
from kluis.views import report_markdown


def arguments(given: dict[str, str]) -> list[str]:
    """The arguments of ``kluis appraise`` for the inputs that are not empty."""
    found = [f"--policy={given['KLUIS_POLICY']}"]
    for option, name in (("nonce", "NONCE"), ("report-data", "REPORT_DATA"), ("now", "NOW")):
        if value := given.get(f"KLUIS_{name}", "").strip():
            found.append(f"--{option}={value}")
    for option, name in (("root", "ROOTS"), ("collateral", "COLLATERAL")):
        lines = given.get(f"KLUIS_{name}", "").splitlines()
        found += [f"--{option}={line.strip()}" for line in lines if line.strip()]
    return [*found, "--", given["KLUIS_EVIDENCE"]]


def main() -> int:
    """Judge the evidence, and tell the job.

    Returns:
        The exit code of ``kluis appraise``.
    """
    given = dict(os.environ)
    report = given.get("KLUIS_REPORT") or "verdict.html"
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        markdown = Path(folder) / "verdict.md"
        words = ["appraise", "--json", f"--html={report}", f"--markdown={markdown}", *arguments(given)]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(words)
        judged = markdown.exists()
        summary = markdown.read_text(encoding="utf-8") if judged else _refused(err.getvalue())
    verdict = str(json.loads(out.getvalue())["verdict"]) if judged else "refused"
    _append(given, "GITHUB_STEP_SUMMARY", summary)
    _append(given, "GITHUB_OUTPUT", f"verdict={verdict}\nreport={report if judged else ''}\n")
    sys.stdout.write(f"kluis: the verdict is {verdict}; exit code {code}\n")
    return code


def _refused(said: str) -> str:
    """The summary of an error that ``kluis --json`` printed as its last line."""
    told = json.loads(said.splitlines()[-1])
    return report_markdown.render_refusal(KluisError(told["error"], hint=told["hint"], code=told["code"]))


def _append(given: dict[str, str], name: str, text: str) -> None:
    if path := given.get(name):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    sys.exit(main())
