"""A million entries of 1 KiB: a node's heap of 512 MiB has room for all that it keeps of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from bench.rows.node import Node

ENTRIES = 1_000_000
HEAP = 512 << 20


@pytest.mark.slow
def test_a_million_entries(tmp_path: Path) -> None:
    """It writes them, gives receipts of any, and starts again from them."""
    with Node.running(tmp_path) as node:
        node.fill(ENTRIES)
        _use(node)
        print(f"resident after the last entry: {node.resident() >> 20} MiB")
    with Node.running(tmp_path) as node:
        _use(node)
        print(f"resident after a restart: {node.resident() >> 20} MiB")


def _use(node: Node) -> None:
    with contextlib.closing(node.client()) as client:
        receipt = node.receipts(client)
        for _ in range(100):
            receipt()
    assert node.resident() < HEAP
