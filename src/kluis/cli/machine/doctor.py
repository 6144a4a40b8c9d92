"""``kluis doctor``: report what this machine protects, what root can still do, and how to fix gaps."""

from __future__ import annotations

from typing import Annotated

import typer

from kluis.cli import render
from kluis.cli.parameters import flag
from kluis.tee.doctor import Finding, Part, State, examine

UNAVAILABLE = 7


def doctor(
    boot_seconds: Annotated[
        int,
        typer.Option(
            min=1,
            max=600,
            metavar="SECONDS",
            help=("How long a kernel may take to print its first line under KVM."),
        ),
    ] = 20,
    self_test: Annotated[bool, flag("Start an enclave and try to read it.")] = True,
) -> None:
    """Test what this machine protects, and show how to fix gaps.

    Each line is the result of a test on this machine. Exits with 7 if a process enclave cannot run here.
    """
    findings = examine(boot_seconds=boot_seconds)
    if self_test and not any(finding.state is State.MISSING for finding in findings):
        from kluis.cli.machine import (
            selftest,  # the enclave's packages are an extra, and the table needs none of them
        )

        findings += selftest.run()
    render.out(findings, render.fold_always(text(findings)))
    if any(finding.state is State.MISSING for finding in findings):
        raise typer.Exit(UNAVAILABLE)


def text(findings: list[Finding]) -> str:
    """Lay out the findings for a person: a part, its lines, under each its fix."""
    name_width = max(len(finding.name) for finding in findings)
    state_width = max(len(state) for state in State)
    lines: list[str] = []
    for part in Part:
        mine = [finding for finding in findings if finding.part is part]
        if not mine:
            continue
        lines += ["", part] if lines else [part]
        for finding in mine:
            lines.append(f"  {finding.state:<{state_width}}  {finding.name:<{name_width}}  {finding.seen}")
            if finding.fix:
                lines.append(f"  {'':<{state_width}}  {'':<{name_width}}  fix: {finding.fix}")
    missing = [finding.name for finding in findings if finding.state is State.MISSING]
    verdict = f"missing: {', '.join(missing)}" if missing else "this machine can run process enclaves"
    return "\n".join([*lines, "", verdict])
