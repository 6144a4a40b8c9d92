"""An agreement in plain words, for the person who signs it."""

from __future__ import annotations

from kluis.cleanroom import budget
from kluis.cleanroom.agreement import Agreement, SqlAnalysis
from kluis.cleanroom.terms import strictest_k


def explain(agreement: Agreement) -> str:
    """Say what an agreement allows; at most 80 columns, but for queries."""
    lines = [
        f"{agreement.title}",
        f"  purpose  {agreement.purpose}",
        f"  valid    {agreement.created:%Y-%m-%d} to {agreement.expires:%Y-%m-%d}, "
        f"at most {agreement.max_runs} runs; any owner may stop it",
        f"  name     {agreement.hash}",
        "parties",
    ]
    lines += [f"  {each.id:<12} {each.name} ({', '.join(each.roles)})" for each in agreement.parties]
    lines.append("data")
    for dataset in agreement.datasets:
        lines.append(
            f"  {dataset.id:<12} version {dataset.version}, of {dataset.owner}; persons are counted by "
            f"{dataset.terms.privacy_unit}, at least {dataset.terms.k_min} a number"
        )
        for column in dataset.terms.columns:
            uses = ", ".join(column.allow) or "nothing"
            lines.append(f"    {column.name:<10} {column.type:<9} may be used to {uses}")
    lines.append("code")
    lines.append(f"  image    {agreement.code.image_id}")
    lines.append(
        f"  level    {', '.join(agreement.code.protection)}; debug never; may lack: "
        f"{', '.join(agreement.code.lacks) or 'nothing'}"
    )
    lines.append("analyses; no others run")
    lines.append(
        f"  together they publish at most {budget.total_figures(agreement)} figures; "
        f"the limit is {budget.most_figures(agreement)}"
    )
    for analysis in agreement.analyses:
        inputs = tuple(agreement.dataset(name).terms for name in analysis.inputs)
        k = strictest_k(agreement.k_min, inputs)
        lines.append(f"  {analysis.id}: {analysis.question}")
        lines.append(
            f"    reads {', '.join(analysis.inputs)}; only {', '.join(analysis.recipients)} "
            "can open the result"
        )
        if isinstance(analysis, SqlAnalysis):
            lines.append(f"    lets out groups of at least {k} persons, at most {analysis.max_rows} rows")
            lines += [f"    | {line}" for line in analysis.query.strip().splitlines()]
        else:
            arms = ", ".join(arm.name for arm in analysis.arms)
            enough = budget.enough(k, budget.models_of(agreement))
            lines.append(
                f"    lets out AUCs ({arms}) with intervals, {len(analysis.compare)} differences and "
                "two counts, with noise that no party knows;"
            )
            lines.append(f"    nothing if about {enough:.0f} persons or fewer have the outcome, or do not")
            lines += [f"    | {line}" for line in analysis.table.strip().splitlines()]
    return "\n".join(lines)
