"""Explain an agreement to the person who signs it: in plain words first, then every leaf of it."""

from __future__ import annotations

from collections import Counter

from kluis import appraisal
from kluis.cleanroom.agreement import fingerprint
from kluis.cleanroom.agreement.agreement import Agreement, Code, Party, SqlAnalysis
from kluis.cleanroom.agreement.shown import fold, listing, quote, text_block
from kluis.cleanroom.agreement.terms import strictest_k
from kluis.cleanroom.analyses import budget
from kluis.cleanroom.records.trust import Trust, key_of
from kluis.errors import KluisError
from kluis.evidence import ProtectionLevel, TrustAnchors
from kluis.evidence.levels import MEANINGS

_STANDING = {
    "you": "these are your own keys",
    "confirmed": "these are the keys that you confirmed",
    "not confirmed": "NOT CONFIRMED BY YOU: anyone with the folder could have made these keys",
    "changed": "CHANGED: these are not the keys that you know",
}


def explain(agreement: Agreement, trust: Trust | None = None) -> str:
    """Describe what an agreement allows, and list everything that is signed; at most 80 columns.

    Args:
        agreement: accepted by :meth:`Agreement.check`.
        trust: the reader's knowledge of the parties and roots; without it, neither is marked.

    Raises:
        PolicyError: it has text that cannot be shown, or contradicts itself.
    """
    agreement.check()
    return "\n".join([*_words(agreement, trust), "everything that is signed", *listing(agreement)])


def _words(agreement: Agreement, trust: Trust | None) -> list[str]:
    lines = [
        *fold("agreement  ", quote(agreement.title), "\\ "),
        *fold("  purpose  ", quote(agreement.purpose), "         \\ "),
        f"  valid    {agreement.created:%Y-%m-%d} to {agreement.expires:%Y-%m-%d}, "
        f"at most {agreement.max_runs} runs; any owner may stop it",
        f"  hash     {agreement.hash}",
        "parties",
    ]
    for party in agreement.parties:
        lines += fold(f"  {party.id:<12} ", f"{quote(party.name)} ({', '.join(party.roles)})", "  \\ ")
        lines += fold("    ", _keys(party, trust), "    \\ ")
    lines.append("data")
    for dataset in agreement.datasets:
        words = (
            f"version {dataset.version}, of {dataset.owner}; persons are counted by "
            f"{dataset.terms.privacy_unit}, at least {dataset.terms.k_min} a number; "
            f"rows of one person: {dataset.terms.rows_per_person or 'not limited'}"
        )
        lines += fold(f"  {dataset.id:<12} ", words, "    \\ ")
        for column in dataset.terms.columns:
            uses = ", ".join(column.allow) or "nothing"
            range_ = column.range
            within = f"; from {range_.low} to {range_.high} by {range_.step}" if range_ else ""
            words = f"    {column.name:<10} {column.type:<9} may be used to {uses}{within}"
            lines += fold("", words, "      \\ ")
    lines += _code(agreement.code, trust)
    lines.append("analyses; no others run")
    lines.append(
        f"  together they publish at most {budget.total_figures(agreement)} figures; "
        f"the limit is {budget.most_figures(agreement)}"
    )
    if several := answers_together(agreement):
        lines += fold("  ", several, "  \\ ")
    for analysis in agreement.analyses:
        inputs = tuple(agreement.dataset(name).terms for name in analysis.inputs)
        k = strictest_k(agreement.k_min, inputs)
        lines += fold(f"  {analysis.id}: ", quote(analysis.question), "  \\ ")
        lines += fold(
            "    ",
            f"reads {', '.join(analysis.inputs)}; only {', '.join(analysis.recipients)} can open the result",
            "    \\ ",
        )
        if isinstance(analysis, SqlAnalysis):
            lines.append(f"    lets out groups of at least {k} persons, at most {analysis.max_rows} rows")
            lines += text_block("    ", analysis.query.strip())
        else:
            arms = ", ".join(quote(arm.name) for arm in analysis.arms)
            enough = budget.enough(k, budget.models_of(agreement), budget.predictors_of(analysis))
            words = (
                f"lets out AUCs ({arms}) with intervals, {len(analysis.compare)} differences and two counts, "
                f"with noise that no party knows; nothing if about {enough:.0f} persons or fewer have the "
                "outcome, or do not"
            )
            lines += fold("    ", words, "    \\ ")
            lines += text_block("    ", analysis.table.strip())
    return lines


def answers_together(agreement: Agreement) -> str:
    """A warning that names the data sets that several queries read, in one sentence; "" if there are none.

    The rules hold one query to its groups. A co-owner's columns can divide the same persons in many ways, and
    what the answers tell together is not limited.
    """
    queries = [each for each in agreement.analyses if isinstance(each, SqlAnalysis)]
    read = Counter(name for each in queries for name in set(each.inputs))
    several = ", ".join(f"{name} by {count}" for name, count in sorted(read.items()) if count > 1)
    if not several:
        return ""
    words = "the rules limit each query; what several tell together of one person is not limited"
    return f"{words}: {several}"


def _code(code: Code, trust: Trust | None) -> list[str]:
    missing = ", ".join(code.lacks) or "nothing"
    words = f"{', '.join(code.protection)}; debug never; may be missing: {missing}"
    lines = ["code", f"  image    {code.image_id}", *fold("  level    ", words, "         \\ ")]
    known = {level.value: level for level in ProtectionLevel}
    for name in code.protection:
        if name in known:
            words = f"level {name} does not keep out {'; '.join(MEANINGS[known[name]].lets_in)}"
            lines += fold("    ", words, "    \\ ")
    if code.machine:
        lines += fold("  machine  ", describe_machine(code.machine), "         \\ ")
        lines += text_block("    ", code.machine.strip())
    for root in code.roots:
        lines += fold("  root     ", _root(root, trust), "         \\ ")
    return lines


def describe_machine(text: str) -> str:
    """What the table of an agreement's machine means, in words."""
    try:
        machine = appraisal.loads_machine(text.encode())
    except KluisError as error:
        return f"UNREADABLE, so no evidence can meet it: {error.message}"
    if machine.any_guest:
        return "around the code, WITH ANY GUEST: its operator chooses the kernel, which reads all"
    return "around the code, with the guest that this table names"


def _keys(party: Party, trust: Trust | None) -> str:
    known = f"; {_STANDING[trust.standing(party)]}" if trust else ""
    return f"fingerprint {fingerprint.of(party)}{known}"


def _root(pem: str, trust: Trust | None) -> str:
    try:
        if trust is None:
            (anchor,) = TrustAnchors.from_pem(pem.encode())
            whose = None
        else:
            anchor, whose = trust.root(pem)
    except KluisError as error:
        return f"UNREADABLE, so no evidence can chain to it: {error.message}"
    made = "; its key is an operator's, and no vendor's" if anchor.emulated else ""
    known = "" if whose is None else f"; {whose or 'NOT KNOWN TO YOU'}"
    return f"level {anchor.level}, key sha256 {key_of(anchor)}{made}{known}"
