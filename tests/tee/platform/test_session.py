"""A session that breaks leaves nothing undone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kluis.formats import channel
from kluis.tee.platform import session


def test_what_is_remembered_is_flushed_whoever_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An enclave that ends before its answer, or whose host cuts the channel, changes nothing of that."""
    settled: list[None] = []

    def gone(_: bytes) -> None:
        raise BrokenPipeError

    end: Any = SimpleNamespace(recv=lambda _: b"frame", send=gone)
    sealed: Any = SimpleNamespace(open_request=lambda _: channel.Info(), seal_reply=lambda _: b"reply")
    root: Any = SimpleNamespace(counters=SimpleNamespace(settle=lambda: settled.append(None)))
    who: Any = None
    monkeypatch.setattr(session, "_answer", lambda *_: channel.Truth(True))
    with pytest.raises(BrokenPipeError):
        session.serve(end, sealed, who, root)
    assert len(settled) == 1
