"""One attempt of an attacker: what was tried, what happened, whether it was refused."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Final

from kluis.errors import AuthenticityError, KluisError
from kluis.frozen import frozen

HANG_SECONDS: Final = 120


@frozen
class Attempt:
    """One attack: really made, or impossible here and why.

    Attributes:
        who: the attacker.
        tried: what it did.
        happened: the outcome, observed or reported.
        refused: None if it could not be tried here.
    """

    who: str
    tried: str
    happened: str
    refused: bool | None


def expect_refusal(who: str, tried: str, plain: str, act: Callable[[], object]) -> Attempt:
    """Try something that must fail with one of our errors.

    Args:
        who: the attacker.
        tried: what it does.
        plain: what the refusal means; the error message follows it.
        act: does it.
    """
    try:
        act()
    except KluisError as error:
        own = error.message.removeprefix("contraindicated: ").removeprefix(f"{AuthenticityError.__name__}: ")
        own = re.sub(r"\b([0-9a-f]{16})[0-9a-f]{17,}\b", r"\1..", own)
        return Attempt(who, tried, f"{plain} ({own})", True)
    return Attempt(who, tried, "it worked", False)


def tool(who: str, tried: str, line: list[str], judge: Callable[[int, str], tuple[bool, str]]) -> Attempt:
    """Run a tool of this machine.

    Args:
        who: the attacker.
        tried: what it does.
        line: the command; a missing tool is reported.
        judge: takes its exit code and output; returns whether the attack was refused, and an explanation.
    """
    if shutil.which(line[0]) is None:
        return Attempt(who, tried, f"{line[0]} is not installed here", None)
    try:
        done = subprocess.run(
            line, capture_output=True, text=True, errors="replace", timeout=HANG_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Attempt(who, tried, f"{line[0]} hung for {HANG_SECONDS} s and was ended", True)
    refused, words = judge(done.returncode, done.stdout + done.stderr)
    return Attempt(who, tried, words, refused)


def line_with(text: str, *needles: str) -> str:
    """The first line of a tool's output that contains one of these, without its prefix; or its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in (line for needle in needles for line in lines if needle.lower() in line.lower()):
        return line.rpartition(": ")[2].rstrip(".").lower() if ": " in line else line.lower()
    return lines[-1] if lines else "nothing"
