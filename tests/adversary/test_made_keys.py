"""A full disk, or a power failure, as a key is made that nothing else has."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis.errors import KluisError
from kluis.host import models
from kluis.tee.image import signing

MAKES = pytest.mark.parametrize("make", [signing.ensure_key, models.new_key])


@contextlib.contextmanager
def full() -> Iterator[None]:
    """No file gets more than 16 bytes, nor does a report: so this ends before its test."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@MAKES
def test_a_part_of_a_key_is_not_left(make: Callable[[Path], object], tmp_path: Path) -> None:
    """It would be in the place of the key, for every later command."""
    with full(), pytest.raises(KluisError, match="cannot be written: File too large"):
        make(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


@MAKES
def test_a_key_is_on_the_disk_before_it_is_used(
    make: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sealed or signed with it may be there already: after a power failure the key is there, too."""
    flushed, flush = list[str](), os.fsync

    def remember(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", remember)
    make(tmp_path / "key")
    assert flushed == [str(tmp_path / "key"), str(tmp_path)]
