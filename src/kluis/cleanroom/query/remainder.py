"""Rule 3 of ``publishing``: what is left of a total when the groups that are shown are subtracted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from math import prod

from kluis.cleanroom.query.cells import Cell, Keys
from kluis.cleanroom.query.possible import class_of, own_keys, picked, possible_keys
from kluis.cleanroom.query.row_classes import RowClass
from kluis.cleanroom.query.tree import Groups, Persons


def hide_the_rest(
    groups: Groups,
    classes: tuple[RowClass, ...],
    cells: Sequence[Cell],
    kept: dict[Keys, list[Cell]],
    split: Sequence[Mapping[Keys, set[Keys]]],
    k: int,
) -> None:
    """Hide further groups, the smallest first, until what is left of each total is nothing or at least k.

    The totals are those that owners can know: of all persons that the joins keep, and of the persons of each
    combination of keys and classes of some of the data sets.

    Args:
        groups: the query.
        classes: its row classes.
        cells: what was counted.
        kept: the groups that are shown; changed.
        split: for each source, the classes that a group can hold, by its keys.
        k: the fewest persons.
    """
    sources = range(len(groups.persons.sources))
    keys = [possible_keys(groups, split[number], number) for number in sources]
    joined = [each for each in cells if is_joined(each, groups.persons)]
    ordered = sorted(kept, key=lambda key: (size_of(kept[key], groups.persons), repr(key)))
    totals = [
        _Total(groups, classes, split, some, prod(keys[n] for n in sources if n not in some), k)
        for size in range(max(1, len(sources)))
        for some in combinations(sources, size)
    ]
    for total in totals:
        total.count((each for each in joined if each.key not in kept), kept)
    again = True
    while again:
        again = False
        for total in totals:
            for key in ordered:
                if key in kept and total.is_short(key):
                    for each in totals:
                        each.hide(key, kept[key])
                    del kept[key]
                    again = True


class _Total:
    """The persons of each combination of keys and classes of some sources, as their owners know it."""

    def __init__(
        self,
        groups: Groups,
        classes: tuple[RowClass, ...],
        split: Sequence[Mapping[Keys, set[Keys]]],
        some: tuple[int, ...],
        others: int,
        k: int,
    ) -> None:
        self._groups, self._classes, self._split, self._some = groups, classes, split, some
        self._own = [own_keys(groups, number) for number in some]
        self._others, self._k = others, k
        self._left: Counter[tuple[tuple[Keys, ...], tuple[Keys, ...]]] = Counter()
        self._shown: Counter[tuple[Keys, ...]] = Counter()

    def count(self, hidden: Iterable[Cell], shown: Iterable[Keys]) -> None:
        """Count the persons in no group that is shown, and the groups that are."""
        for cell in hidden:
            self._add(cell)
        self._shown.update(self._keys(each) for each in shown)

    def is_short(self, key: Keys) -> bool:
        """Whether a group's total has groups not shown, with fewer than k persons of a class in them."""
        own = self._keys(key)
        if self._shown[own] >= self._others:
            return False
        wanted = product(*(self._split[n][each] for n, each in zip(self._some, own, strict=True)))
        return any(self._left[own, each] < self._k for each in wanted)

    def hide(self, key: Keys, cells: Sequence[Cell]) -> None:
        """Take a group out of those that are shown."""
        self._shown[self._keys(key)] -= 1
        for cell in cells:
            if is_joined(cell, self._groups.persons):
                self._add(cell)

    def _add(self, cell: Cell) -> None:
        of = tuple(class_of(cell, self._groups, self._classes, number) for number in self._some)
        self._left[self._keys(cell.key), of] += cell.persons

    def _keys(self, key: Keys) -> tuple[Keys, ...]:
        return tuple(picked(key, each) for each in self._own)


def is_joined(cell: Cell, persons: Persons) -> bool:
    """Whether the joins keep a cell's persons."""
    return all(cell.present[number] for number in persons.inner)


def size_of(cells: Sequence[Cell], persons: Persons) -> int:
    """How many persons the joins keep."""
    return sum(each.persons for each in cells if is_joined(each, persons))
