"""What the demo says, in 80 columns, to someone who has never heard of confidential computing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from kluis.cleanroom.agreement import Agreement
from kluis.cli.demo.attempt import Attempt
from kluis.evidence import ProtectionLevel
from kluis.evidence.levels import MEANINGS

WIDTH = 80
OPENING = """\
A clinic knows 17,549 people with a fatty liver, or like them, and who of them died. A laboratory knows \
400,123 values of their blood pressure, cholesterol and liver. Together they could tell whether the values \
help to foresee a death. Neither may show the other, or anyone, its patients.

Confidential computing lets them: the data is opened only inside an ENCLAVE, a program that whoever owns \
the machine can start and stop, but not look into. Before an owner gives it the key to its data, the \
enclave proves which code it is, on what kind of machine. That proof is called EVIDENCE."""
ABSENT = "'{level}': Linux isolates this enclave; no processor does"
CLOSING = """\
What you saw: two owners got one answer from joined data, from code that both had agreed to, checked by \
each on its own terms. Whoever holds the files got nothing. What this level keeps out on this machine: \
{keeps_out}. The results name no person and no group of fewer than {k}.

What you did not see: protection from {lets_in}. Evidence made here proves what ran to those \
who trust this machine's owner, and to nobody else. On hardware made for it (SGX, TDX, SEV-SNP, Nitro) the \
processor's maker signs the evidence and the memory is closed to root; the code, the agreement, the checks \
and the commands stay the ones you saw. Nor does any of it make a result true, a model good, or an analysis \
harmless that the owners should not have agreed to."""


def paragraph(text: str) -> str:
    """Wrap prose, keeping its blank lines."""
    return "\n\n".join(textwrap.fill(part, WIDTH) for part in text.split("\n\n"))


def heading(number: int, text: str) -> str:
    """A numbered heading."""
    return f"\n{number}. {text}\n{'-' * (len(str(number)) + 2 + len(text))}"


def fact(name: str, text: str) -> str:
    """A name and what there is to say of it, wrapped beside it."""
    return textwrap.fill(text, WIDTH, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13)


def attempt(made: Attempt, *, limit: bool = False) -> str:
    """One attempt, in two lines or three."""
    word = "NOT TRIED" if made.refused is None else "refused" if made.refused else "SUCCEEDED"
    if limit and made.refused:
        word = "closed"
    first = textwrap.fill(
        made.tried, WIDTH, initial_indent=f"  {word:<10} {made.who:<15}", subsequent_indent=" " * 28
    )
    then = textwrap.fill(made.happened, WIDTH, initial_indent=" " * 28, subsequent_indent=" " * 28)
    return f"{first}\n{then}"


def agreement(agreed: Agreement) -> list[str]:
    """What both signed, in a few lines."""
    uses = sorted(
        {use for dataset in agreed.datasets for column in dataset.terms.columns for use in column.allow}
    )
    return [
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


def level(name: str) -> list[str]:
    """What a protection level keeps out and what it does not."""
    meaning = MEANINGS[ProtectionLevel(name)]
    return [
        fact("level", ABSENT.format(level=name)),
        fact("keeps out", meaning.keeps_out),
        fact("lets in", "; ".join(meaning.lets_in)),
    ]


def closing(name: str, k: int) -> str:
    """What it was and what it was not, for a level."""
    meaning = MEANINGS[ProtectionLevel(name)]
    out = {ProtectionLevel.PROCESS_USER: "this user's other programs, or from root"}
    lets_in = out.get(ProtectionLevel(name), "this machine's own root")
    return paragraph(CLOSING.format(keeps_out=meaning.keeps_out, lets_in=lets_in, k=k))


def lines(parts: Iterable[str]) -> str:
    """Join what was said."""
    return "\n".join(parts)
