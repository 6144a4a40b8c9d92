"""Rule 3 of ``publishing``: the remainder of a total after subtracting the shown groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from math import prod

from kluis.cleanroom.query.cells import Cell, Keys
from kluis.cleanroom.query.possible import class_reader, own_keys, pick, possible_keys
from kluis.cleanroom.query.row_classes import RowClass
from kluis.cleanroom.query.tree import Groups, Persons
from kluis.frozen import frozen


@frozen
class _Part:
    """Some persons of a group: for each source their keys and their class, and their number."""

    keys: tuple[Keys, ...]
    classes: tuple[Keys, ...]
    persons: int


def hide_the_rest(
    groups: Groups,
    classes: tuple[RowClass, ...],
    cells: Sequence[Cell],
    kept: dict[Keys, list[Cell]],
    split: Sequence[Mapping[Keys, set[Keys]]],
    k: int,
) -> None:
    """Hide further groups, the smallest first, until the remainder of each total is at least k.

    The totals are those that owners can know: of all joined persons, of those with the same keys and class of
    one data set, and of all but one data set. If all groups are shown, nothing remains.

    Args:
        groups: the query.
        classes: its row classes.
        cells: from the engine.
        kept: the shown groups; changed.
        split: for each source, the classes that a group can contain, by its keys.
        k: the fewest persons.
    """
    sources = range(len(groups.persons.sources))
    own = [own_keys(groups, number) for number in sources]
    read = [class_reader(groups, classes, number) for number in sources]
    parts: dict[Keys, list[_Part]] = {}
    for cell in cells:
        if is_joined(cell, groups.persons):
            keys = tuple(pick(cell.key, each) for each in own)
            of = tuple(each(cell) for each in read)
            parts.setdefault(cell.key, []).append(_Part(keys, of, cell.persons))
    possible = [possible_keys(groups, split[number], number) for number in sources]
    totals = [
        _Total(some, split, prod(possible[number] for number in sources if number not in some), k)
        for size in sorted({0, min(1, len(sources) - 1), len(sources) - 1})
        for some in combinations(sources, size)
    ]
    for total in totals:
        for key, of_group in parts.items():
            total.count(of_group, shown=key in kept)
    ordered = sorted(kept, key=lambda key: (size_of(kept[key], groups.persons), repr(key)))
    again = True
    while again:
        again = False
        for total, key in product(totals, ordered):
            if key in kept and total.is_short(parts[key][0].keys):
                for each in totals:
                    each.hide(parts[key])
                del kept[key]
                again = True


class _Total:
    """The persons with the same keys and class of some sources, whose owners can know their number.

    Args:
        some: the sources, by number.
        split: for each source, the classes that a group can contain, by its keys.
        others: the number of groups there can be with the same keys of these sources.
        k: the fewest persons.
    """

    def __init__(
        self, some: tuple[int, ...], split: Sequence[Mapping[Keys, set[Keys]]], others: int, k: int
    ) -> None:
        self._some, self._split, self._others, self._k = some, split, others, k
        self._left: Counter[tuple[tuple[Keys, ...], tuple[Keys, ...]]] = Counter()
        self._shown: Counter[tuple[Keys, ...]] = Counter()

    def count(self, group: Sequence[_Part], *, shown: bool) -> None:
        """Count a group."""
        if shown:
            self._shown[self._of(group[0].keys)] += 1
        else:
            for part in group:
                self._left[self._of(part.keys), self._of(part.classes)] += part.persons

    def hide(self, group: Sequence[_Part]) -> None:
        """Count a shown group as hidden."""
        self._shown[self._of(group[0].keys)] -= 1
        self.count(group, shown=False)

    def is_short(self, keys: Sequence[Keys]) -> bool:
        """Whether some group with these keys is hidden, and fewer than k persons of a class remain."""
        own = self._of(keys)
        if self._shown[own] >= self._others:
            return False
        wanted = product(*(self._split[n][each] for n, each in zip(self._some, own, strict=True)))
        return any(self._left[own, each] < self._k for each in wanted)

    def _of(self, parts: Sequence[Keys]) -> tuple[Keys, ...]:
        return tuple(parts[number] for number in self._some)


def is_joined(cell: Cell, persons: Persons) -> bool:
    """Whether the joins keep a cell's persons."""
    return all(cell.present[number] for number in persons.inner)


def size_of(cells: Iterable[Cell], persons: Persons) -> int:
    """The number of joined persons."""
    return sum(each.persons for each in cells if is_joined(each, persons))
