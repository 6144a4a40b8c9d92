"""A store in memory, for engines that care only what a store promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Memory:
    """Records by table and key, with their index."""

    rollback = "undetected"

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[bytes, str]] = {}

    def get(self, table: str, key: str) -> bytes | None:
        found = self.records.get((table, key))
        return None if found is None else found[0]

    def scan(self, table: str, index: str = "") -> Iterator[tuple[str, bytes]]:
        for (name, key), (value, at) in sorted(self.records.items()):
            if name == table and index in ("", at):
                yield key, value

    def put(self, table: str, key: str, value: bytes, *, index: str = "") -> None:
        self.records[table, key] = value, index

    def delete(self, table: str, key: str) -> None:
        self.records.pop((table, key), None)

    def update(self, work: Callable[[Memory], T]) -> T:
        """Run the work twice, as a store may, and keep what it did the second time."""
        first = Memory()
        first.records = dict(self.records)
        work(first)
        second = Memory()
        second.records = dict(self.records)
        answer = work(second)
        self.records = second.records
        return answer
