"""Policies as they are written, and what their id is the hash of: every rule, and no order."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from kluis.appraisal import BySigner, ByTable, Policy, ReportDataBinding, dumps, loads
from kluis.appraisal.policy.model import Release
from kluis.appraisal.policy.structured import Registers
from kluis.appraisal.policy.toml_writer import identity_bytes
from kluis.appraisal.policy.wants import OneOf
from kluis.evidence.model import Tee
from tests.appraisal.policy.test_reference import A, B, _wanting
from tests.appraisal.policy.test_toml_reader import GOOD, RELEASES, WHOLE
from tests.appraisal.rules.test_appraise import _policy

FIRST = loads(GOOD.encode())
SECOND = loads(WHOLE.encode())


@pytest.mark.parametrize(
    "policy",
    [
        FIRST,
        dataclasses.replace(
            FIRST, identity=BySigner(signers=frozenset({b"\1" * 32, b"\2" * 32}), product_id=7, min_svn=3)
        ),
        dataclasses.replace(FIRST, binding=ReportDataBinding(report_data=b"\xab" * 64)),
        SECOND,
        dataclasses.replace(SECOND, binding=ReportDataBinding(report_data=b"\xab" * 20, nonce=True)),
        loads(RELEASES.encode()),
    ],
)
def test_what_is_written_is_read(policy: Policy) -> None:
    """A policy of every kind is the same once it is written and read."""
    assert loads(dumps(policy).encode()) == policy


@pytest.mark.parametrize("first", [FIRST, SECOND])
def test_a_document_that_says_all_is_what_its_id_is_of(first: Policy) -> None:
    """Whole days and seconds are in the document; fractions give another id each."""
    one = dataclasses.replace(
        first, max_collateral_age=timedelta(days=31), max_evidence_age=timedelta(seconds=301)
    )
    assert identity_bytes(one) == dumps(one).encode()
    ids = {identity_bytes(one)}
    for part in (timedelta(microseconds=2), timedelta(microseconds=3), timedelta(milliseconds=1)):
        ids.add(identity_bytes(dataclasses.replace(one, max_evidence_age=one.max_evidence_age + part)))
        ids.add(identity_bytes(dataclasses.replace(one, max_collateral_age=timedelta(days=31) + part)))
    assert len(ids) == 7


def _of(*releases: Release, debug: bool = False) -> bytes:
    tables = _wanting(Tee.TDX, "measurements").tables
    return identity_bytes(
        _policy(identity=ByTable(tables=tables, releases={Tee.TDX: releases}), denylists=debug)
    )


def test_an_id_holds_what_releases_have_and_every_rule() -> None:
    """Digests that differ only in the middle, registers, and rules next to releases give other ids."""
    middle = A[:20] + b"\0" + A[21:]
    held = [OneOf(frozenset({each})) for each in (A, middle, B)]
    registers = Registers({"rtmr1": frozenset({A})})
    releases = [Release(name="1", wants={"measurements": each}) for each in held]
    more = Release(name="1", wants={"measurements": held[0], "registers": registers})
    ids = {_of(each) for each in (*releases, more)} | {_of(releases[0], debug=True), _of(*releases)}
    assert len(ids) == 6
    assert _of(*releases) == _of(*releases[::-1])


def test_the_order_of_what_is_put_together_is_no_matter() -> None:
    """Tables, releases of several TEEs and their values are written sorted."""
    tables = {tee: _wanting(tee, "measurements").tables[tee] for tee in (Tee.TDX, Tee.SNP)}
    wants: dict[str, OneOf | Registers] = {
        "registers": Registers({"rtmr1": frozenset({A})}),
        "measurements": OneOf(frozenset({B})),
    }
    releases = {
        Tee.TDX: (Release(name="1", wants=wants),),
        Tee.SNP: (Release(name="2", wants={"measurements": OneOf(frozenset({A}))}),),
    }
    turned = {Tee.SNP: releases[Tee.SNP], Tee.TDX: (Release(name="1", wants=dict(sorted(wants.items()))),)}
    one = _policy(identity=ByTable(tables=tables, releases=releases))
    other = _policy(identity=ByTable(tables=dict(sorted(tables.items())), releases=turned))
    assert (dumps(one), identity_bytes(one)) == (dumps(other), identity_bytes(other))
    text = dumps(one)
    assert text.index("[[releases.snp]]") < text.index("[[releases.tdx]]")
    assert text.index("\n\n[snp]") < text.index("\n\n[tdx]")
