"""What this kernel gives, as the platform asks it."""

from __future__ import annotations

import os
import resource

import pytest

from kluis.tee.process import linux


def test_every_lack_has_its_fix() -> None:
    """Whatever may be missing comes with what brings it."""
    assert linux.missing(1 << 60) <= set(linux.FIXES)


def test_locked_memory_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user's limit decides whether a heap can be secret; root has none."""
    if os.geteuid() == 0:
        assert linux.lockable_bytes() is None
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]

    assert linux.lockable_bytes() == (None if hard == resource.RLIM_INFINITY else hard)
    if hard != resource.RLIM_INFINITY:
        assert "secret-memory" in linux.missing(hard + 1)
