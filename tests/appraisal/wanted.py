"""Hypothesis strategies: wants of every form, and tables of every TEE."""

from __future__ import annotations

import re

from hypothesis import strategies as st

from kluis.appraisal import ANY, ByTable
from kluis.appraisal.policy import structured, wants
from kluis.appraisal.policy.fields import Field
from kluis.appraisal.policy.model import Release
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.wants import Form, Want

DIGEST = st.binary(min_size=48, max_size=48)


def of(form: Form) -> st.SearchStrategy[Want]:
    """What a form may hold."""
    return st.just(ANY) | _stated(form) | _referenced(form)


def _referenced(form: Form) -> st.SearchStrategy[Want]:
    return st.just(wants.REFERENCE) if form.referenced else st.nothing()


def _stated(form: Form) -> st.SearchStrategy[Want]:
    want, most = form.want, form.most or 0
    if want is wants.OneOf:
        size = st.sampled_from(form.sizes) if form.sizes else st.integers(0, 64)
        value = size.flatmap(lambda n: st.binary(min_size=n, max_size=n))
        return st.frozensets(value, min_size=1, max_size=3).map(wants.OneOf)
    if want is wants.Named and form.most is not None:
        return st.frozensets(st.integers(0, most), min_size=1, max_size=3).map(wants.Named)
    if want is wants.Named:
        name = st.sampled_from(form.known) if form.known else st.text("aé 0", min_size=1)
        return st.frozensets(name, min_size=1, max_size=3).map(wants.Named)
    if want is wants.AtLeast and form.parts:
        return st.tuples(*[st.integers(0, 99999)] * form.parts).map(wants.AtLeast)
    if want in {wants.AtLeast, wants.AtMost, wants.Exactly}:
        return st.integers(0, most).map(want)
    if want in {wants.Allowed, wants.Required}:
        return st.booleans().map(want)
    if want is structured.Masked:
        bits = st.integers(1, (1 << form.width) - 1)
        return st.tuples(bits, bits).map(lambda pair: structured.Masked(pair[0], pair[0] & pair[1]))
    if want is structured.Registers:
        name = st.from_regex(re.compile(form.pattern, re.ASCII), fullmatch=True)
        values = st.frozensets(DIGEST, min_size=1, max_size=2)
        return st.dictionaries(name, values, min_size=1, max_size=3).map(structured.Registers)
    assert want is structured.Components
    products = {name: _components(parts) for name, parts in form.products.items()}
    return st.fixed_dictionaries({}, optional=products).filter(bool).map(structured.Components)


def _components(parts: tuple[str, ...]) -> st.SearchStrategy[dict[str, int]]:
    return st.fixed_dictionaries({part: st.integers(0, 255) for part in parts})


def table(fields: tuple[Field, ...]) -> st.SearchStrategy[dict[str, Want]]:
    """A table of one TEE."""
    return st.fixed_dictionaries({field.key: of(field.form) for field in fields})


def releases(fields: tuple[Field, ...]) -> st.SearchStrategy[tuple[Release, ...]]:
    """What several releases have of one TEE's reference values; none where it has no field for them."""
    stated = {each.key: _stated(each.form) for each in fields if each.form.referenced}
    if not stated:
        return st.just(())
    held = st.fixed_dictionaries({}, optional=stated).filter(bool)
    name = st.text(st.characters(codec="utf-8"), max_size=8)
    return st.lists(st.builds(Release, name=name, wants=held), max_size=3).map(tuple)


def identities() -> st.SearchStrategy[ByTable]:
    """Tables of one TEE, or of two, with what releases have of them."""
    tees = st.lists(st.sampled_from(list(TABLES)), min_size=1, max_size=2, unique=True)
    return tees.flatmap(
        lambda chosen: st.tuples(
            st.fixed_dictionaries({tee: table(TABLES[tee]) for tee in chosen}),
            st.fixed_dictionaries({tee: releases(TABLES[tee]) for tee in chosen}),
        )
    ).map(lambda drawn: ByTable(tables=drawn[0], releases={t: r for t, r in drawn[1].items() if r}))
