"""Copies of a ledger at several nodes: each has the same entries, as far as it goes, or the ledger forked.

A leaf covers all bytes of its entry. So two ledgers agree up to a place if their roots there are the same,
and the first difference is found in as many steps as the tree is high.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kluis.ledger.audit.files import Source
from kluis.ledger.audit.report import Check, Findings
from kluis.ledger.merkle import Tree


class Copy(NamedTuple):
    """The files of another node.

    Attributes:
        name: for messages, such as its folder.
        sources: its files, all whose names begin with ``ledger_``.
    """

    name: str
    sources: Sequence[Source]


class Read(NamedTuple):
    """A ledger that was read.

    Attributes:
        tree: over its entries.
        roots: that hold, by the seqno of the entry that signs each.
    """

    tree: Tree
    roots: Mapping[int, bytes]


def compare(name: str, copy: Read, own: Read, findings: Findings) -> None:
    """Find the first entry of a copy that is another than the ledger's.

    Args:
        name: of the copy.
        copy: the copy's entries; its signatures are verified.
        own: the ledger's.
        findings: takes a fork, with both signed roots; or a note if one of them ends before the other.
    """
    shorter = min(copy.tree.size, own.tree.size)
    at = _first_difference(copy.tree, own.tree, shorter)
    if at is not None:
        roots = " and ".join(
            f"{whose} {_root_over(at, each.roots)}" for whose, each in (("here", own), ("there", copy))
        )
        findings.fail(Check.COPIES, f"{name}: forked at entry {at}: {roots}", here=False)
    elif copy.tree.size != own.tree.size:
        ends, other = copy.tree.size - 1, own.tree.size - 1
        findings.note(Check.COPIES, f"{name}: the same until it ends at entry {ends}, this ledger at {other}")


def _first_difference(one: Tree, other: Tree, size: int) -> int | None:
    """The index of the first leaf, of as many as both have, that differs; None if all are the same."""
    if one.root(size) == other.root(size):
        return None
    low, high = 1, size  # the first ``low`` leaves are the same, and the first ``high`` are not
    while high - low > 1:
        middle = (low + high) // 2
        if one.root(middle) == other.root(middle):
            low = middle
        else:
            high = middle
    return high - 1


def _root_over(at: int, roots: Mapping[int, bytes]) -> str:
    seqno = min((each for each in roots if each > at), default=None)
    return "no root is signed over it" if seqno is None else f"entry {seqno} signs {roots[seqno].hex()}"
