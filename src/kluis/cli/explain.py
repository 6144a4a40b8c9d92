"""``kluis explain``: the codes of errors and rules; the words of verdicts: tiers, statuses, levels."""

from __future__ import annotations

from typing import Annotated, Any

from kluis.cli import codes, render
from kluis.cli.parameters import argument


def explain(
    code: Annotated[
        str | None,
        argument(
            "An error's code, a rule, a name on the denylist, or a word of a verdict.",
            complete=codes.list_completions,
        ),
    ] = None,
) -> None:
    """Explain an error code or a word of a verdict.

    Without an argument, lists every code and word. For a code, prints the cause and the fix. Words are tiers,
    such as affirming; TCB statuses, such as OutOfDate; protection levels, such as process.
    """
    if code is None:
        every = codes.entries().values()
        lines = []
        for group, meaning in codes.GROUPS.items():
            lines += [f"{meaning}:", *(f"  {e.code:<23} {e.cause}" for e in every if e.group == group), ""]
        for kind, meaning in codes.WORDS.items():
            lines += [
                f"{meaning}:",
                *(f"  {w.word:<23} {w.means}" for w in codes.words().values() if w.kind == kind),
                "",
            ]
        listed = [entry._asdict() for entry in every] + [word._asdict() for word in codes.words().values()]
        render.out(listed, render.fold("\n".join(lines).rstrip()))
        return
    word = codes.words().get(code.lower())
    if word is not None and code not in codes.entries():
        rows = [(word.word, codes.WORDS[word.kind]), ("means", word.means), ("then", word.then)]
        render.out(word._asdict(), render.fold(render.table(rows)))
        return
    entry = codes.find(code)
    rows = [(entry.code, codes.GROUPS[entry.group]), ("cause", entry.cause), ("fix", entry.fix)]
    value: dict[str, Any] = entry._asdict()
    if word is not None:  # of a level that a rule is called after
        rows.append((f"as {codes.WORDS[word.kind]}", word.means))
        value[word.kind] = word._asdict()
    render.out(value, render.fold(render.table(rows)))
