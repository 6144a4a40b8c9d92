"""Copies of a ledger at several nodes: the same, behind, ahead, forked, or changed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kluis.ledger.audit import Check, Copy, Report, Result, Source
from kluis.ledger.merkle import Tree
from kluis.ledger.sequencer import Sequencer
from tests.ledger.audit.forge import SECONDS, Forge, audited, failed


def copy(files: Mapping[str, bytes]) -> Copy:
    """The files of another node."""
    return Copy("other", [Source(name, lambda data=data: data) for name, data in files.items()])


def said(report: Report) -> list[tuple[Result, str]]:
    """What was found of copies."""
    return [(each.result, each.message) for each in report.findings if each.check is Check.COPIES]


def fork() -> tuple[Forge, dict[str, bytes], dict[str, bytes], int]:
    """A dishonest service that writes entry ``at`` twice: the ledger, both files, and ``at``."""
    made = Forge.governed()
    tree, signed = made.sequencer.tree, made.sequencer.last_signature
    size = tree.size
    leaves = [tree.leaf(index) for index in range(1, size)]
    made.write({"public:app": {b"k": b"1"}})
    made.write({"public:app": {b"l": b"1"}})
    one = made.files()
    for batches in (made.batches, made.chunks[-1]):
        del batches[-2:]
    tree = Tree()
    tree.extend(leaves)
    made.sequencer = Sequencer(
        view=2,
        tree=tree,
        secrets=made.secrets,
        signer=made.signer,
        clock=lambda: SECONDS,
        last_signature=signed,
    )
    made.write({"public:app": {b"k": b"2"}})
    return made, one, made.files(), size


def test_copies_that_agree() -> None:
    """The same files; others with other chunks; one that is behind, and one that is ahead."""
    made = Forge.governed()
    early = made.files()
    made.write({"public:app": {b"k": b"v"}}, new_chunk=True)
    late = made.files()
    report = audited(late, copies=[copy(late), copy(late)])
    assert report.ok
    assert said(report) == [(Result.OK, "2, each with the same entries as far as it goes")]
    last = made.sequencer.last.seqno
    for files, other, ends, own in ((late, early, last - 2, last), (early, late, last, last - 2)):
        report = audited(files, copies=[copy(other)])
        assert report.ok
        note = f"other: the same until it ends at entry {ends}, this ledger at {own}"
        assert (Result.NOTE, note) in said(report)


def test_a_fork_is_shown_with_both_signed_roots() -> None:
    """Each ledger is whole, and signed by the service; together they show that it signed both."""
    made, one, two, at = fork()
    assert audited(one).ok
    assert audited(two).ok
    report = audited(one, copies=[copy(two)])
    ((check, file, txid, message),) = failed(report)
    assert (check, file, txid) == (Check.COPIES, "", "")
    assert message.startswith(f"other: forked at entry {at}: here entry {at + 1} signs ")
    assert message.endswith(f" and there entry {at + 1} signs {made.batches[-1].root.hex()}")


def test_a_fork_that_nobody_signed_yet() -> None:
    """It is shown, too: the last entry, which no root covers."""
    made = Forge.governed()
    files = made.files()
    name = max(files)
    data = bytearray(files[name])
    last = made.batches[-1].sizes[-1]
    data[len(data) - 4 * sum(len(each.sizes) for each in made.chunks[-1]) - last + 85] ^= 1
    ((check, _, _, message),) = failed(audited(files, copies=[copy({**files, name: bytes(data)})]))
    assert check is Check.COPIES
    assert message.endswith("here no root is signed over it and there no root is signed over it")


@pytest.mark.parametrize("cut", [1, 200])
def test_a_copy_that_is_damaged_is_named(cut: int) -> None:
    """The ledger itself is not blamed."""
    files = Forge.governed().files()
    broken = {name: data[:-cut] for name, data in files.items()}
    report = audited(files, copies=[copy(broken)])
    assert {check for check, *_ in failed(report)} == {Check.COPIES}
    assert all(message.startswith("other: ") for *_, message in failed(report))
