"""The text of the demo, in 80 columns, for a reader who is new to confidential computing."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Iterator
from typing import Any

from kluis.cleanroom.agreement.agreement import Agreement
from kluis.cli import render
from kluis.cli.demo.attempt import Attempt
from kluis.errors import InternalError
from kluis.evidence import ProtectionLevel
from kluis.evidence.levels import MEANINGS

WIDTH = 80
OPENING = """\
A clinic has records of 17,549 people, with and without a fatty liver, and knows which of them died. A \
laboratory has 400,123 values of their blood pressure, cholesterol and liver. Together they could find out \
whether the values help to predict a death. Neither may show its patients to the other, or to anyone.

Confidential computing makes this possible. The data is decrypted only inside an ENCLAVE: a program that \
the machine's operator can start and stop, but not read. Before an owner releases the key to its data, the \
enclave proves which code it runs, and on what kind of machine. That proof is called EVIDENCE."""
ABSENT = "'{level}': Linux isolates this enclave; no processor does"
CLOSING = """\
What you saw: two owners got one answer from joined data. Both had agreed to the code, and each verified it \
by its own policy. The holder of the files learned nothing. What this level keeps out on this machine: \
{keeps_out}. The results name no person and no group of fewer than {k}.

What you did not see: protection from {lets_in}. Evidence from this machine convinces only someone who \
trusts its owner. On confidential hardware (SGX, TDX, SEV-SNP, Nitro), the processor's vendor signs the \
evidence, and root cannot read the memory. The code, the agreement, the checks and the commands are the \
same. None of this makes a result true or a model good. Nor does it make an analysis harmless if the owners \
should not have agreed to it."""


def say(text: str) -> None:
    """Print text at once; nothing with ``--json``."""
    if not render.wants_json():
        print(text, flush=True)


def print_each(made: Iterable[Attempt], *, limit: bool = False) -> Iterator[Attempt]:
    """Print each attempt as it ends, and yield it."""
    for each in made:
        say(attempt(each, limit=limit))
        yield each


def conclude(facts: dict[str, Any], began: float) -> None:
    """Print the end of a demo.

    Args:
        facts: what ``--json`` prints, with its attempts.
        began: when it began, monotonic seconds.

    Raises:
        InternalError: an attack succeeded that must not.
    """
    facts["seconds"] = round(time.monotonic() - began, 1)
    if render.wants_json():
        render.out(facts, "")
    say(f"\n{facts['seconds']} seconds; nothing was left behind")
    if worked := [each["tried"] for each in facts.get("attempts", ()) if each["refused"] is False]:
        raise InternalError(f"demo: want these refused, and they worked: {'; '.join(worked)}")


def paragraph(text: str) -> str:
    """Wrap prose, keeping its blank lines."""
    return "\n\n".join(textwrap.fill(part, WIDTH) for part in text.split("\n\n"))


def heading(number: int, text: str) -> str:
    """A numbered heading."""
    return f"\n{number}. {text}\n{'-' * (len(str(number)) + 2 + len(text))}"


def fact(name: str, text: str) -> str:
    """A name, and text that is wrapped next to it."""
    return textwrap.fill(text, WIDTH, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13)


def attempt(made: Attempt, *, limit: bool = False) -> str:
    """One attempt, in two lines or three."""
    word = "NOT TRIED" if made.refused is None else "refused" if made.refused else "SUCCEEDED"
    if limit and made.refused:
        word = "no success"
    first = textwrap.fill(
        made.tried, WIDTH, initial_indent=f"  {word:<10} {made.who:<15}", subsequent_indent=" " * 28
    )
    then = textwrap.fill(made.happened, WIDTH, initial_indent=" " * 28, subsequent_indent=" " * 28)
    return f"{first}\n{then}"


def agreement(agreed: Agreement) -> str:
    """The agreement that both signed, in a few lines."""
    uses = sorted(
        {use for dataset in agreed.datasets for column in dataset.terms.columns for use in column.allow}
    )
    lines = [
        fact("code", f"image {agreed.code.image_id[:32]}.. and no other; never a debug build"),
        fact(
            "analyses",
            f"{len(agreed.analyses)}, word for word: " + "; ".join(each.question for each in agreed.analyses),
        ),
        fact("output", f"no number that rests on fewer than {agreed.k_min} people; no rows of people"),
        fact("columns", f"each with its uses ({', '.join(uses)}); what is not allowed is denied"),
        fact("results", "only the clinic can open them"),
        fact("stop", "either owner, at any time"),
        fact("name", agreed.hash),
    ]
    return "\n".join(lines)


def level(name: str) -> str:
    """What a protection level prevents and what it does not."""
    meaning = MEANINGS[ProtectionLevel(name)]
    lines = [fact("level", ABSENT.format(level=name)), fact("keeps out", meaning.keeps_out)]
    return "\n".join([*lines, fact("lets in", "; ".join(meaning.lets_in))])


def closing(name: str, k: int) -> str:
    """A closing summary of the demo and its limits, for a level."""
    meaning = MEANINGS[ProtectionLevel(name)]
    out = {ProtectionLevel.PROCESS_USER: "this user's other programs, or from root"}
    lets_in = out.get(ProtectionLevel(name), "this machine's own root")
    return paragraph(CLOSING.format(keeps_out=meaning.keeps_out, lets_in=lets_in, k=k))
