"""This kernel's features, as the platform tests them."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.tee.process import linux, touch

NOBODY = 64321
MEBIBYTE = 1 << 20


def test_every_lack_has_its_fix() -> None:
    """Whatever may be missing comes with what brings it."""
    assert linux.missing(1 << 60) <= set(linux.FIXES)


def test_locked_memory_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user's limit decides whether a heap can be secret."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]

    assert linux.lockable_bytes() == (None if hard == resource.RLIM_INFINITY else hard)
    if hard != resource.RLIM_INFINITY:
        assert "secret-memory" in linux.missing(hard + 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="the kernel may hold root to the limit; root is asked here")
@pytest.mark.parametrize("held", [True, False])
def test_root_is_held_to_the_limit_if_a_touch_fails(monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    """Root has no limit only where memory beyond the limit can be touched: some kernels end the process."""
    limit = 8 * MEBIBYTE
    tried = []
    monkeypatch.setattr(resource, "getrlimit", lambda what: (limit, limit))
    monkeypatch.setattr(linux, "can_touch", lambda size: bool(tried.append(size)) or not held)
    assert linux.lockable_bytes() == (limit if held else None)
    assert ("secret-memory" in linux.missing(limit + 1)) is held
    assert min(tried) > limit


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes an ordinary user")
@pytest.mark.parametrize(("size", "given"), [(MEBIBYTE, True), (16 * MEBIBYTE, False)])
def test_a_touch_beyond_the_limit_is_seen(size: int, given: bool) -> None:
    """What an ordinary user may not lock is found by touching it, and does not end this process."""

    def become() -> None:
        hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        limit = 8 * MEBIBYTE if hard == resource.RLIM_INFINITY else min(hard, 8 * MEBIBYTE)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
        os.setresuid(NOBODY, NOBODY, NOBODY)

    with open(touch.__file__, "rb") as script:  # which that user may not be able to open
        line = ["/usr/bin/python3", "-I", "-S", "-", str(size)]
        done = subprocess.run(line, stdin=script, preexec_fn=become, capture_output=True, check=False)
    assert (done.returncode == 0) is given, done.stderr


def test_the_limit_is_lifted_as_far_as_it_may() -> None:
    """A soft limit is raised to the hard one at least, and what is started inherits it."""
    code = (
        "import resource; from kluis.tee.process import linux\n"
        "hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, hard))\n"
        "linux.raise_limits()\n"
        "soft, now = resource.getrlimit(resource.RLIMIT_MEMLOCK)\n"
        "assert soft == now and now in (hard, resource.RLIM_INFINITY), (soft, now, hard)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def may_lift() -> bool:
    """Whether this process has CAP_SYS_RESOURCE, number 24."""
    held = re.search(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return bool(held and int(held[1], 16) >> 24 & 1)


@pytest.mark.skipif(not may_lift(), reason="only CAP_SYS_RESOURCE lifts a hard limit")
def test_root_lifts_the_limit_on_descriptors() -> None:
    """The kernel's own hard limit of 4,096 is too low for a launcher, which inherits what is lifted here."""
    code = (
        "import resource; from kluis.tee.process import linux\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))\n"
        "linux.raise_limits()\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1024, linux.DESCRIPTORS)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_try_that_hangs_is_a_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that does not end in time is not a separate error: the memory counts as missing."""
    monkeypatch.setattr(linux, "TRY_SECONDS", 0.0)
    assert linux.can_touch.__wrapped__(MEBIBYTE) is False


@pytest.mark.parametrize(
    ("model", "times"),
    [("QEMU TCG CPU version 2.5+", linux.EMULATED), ("AMD EPYC 9B14", 1.0), ("QEMU Virtual CPU", 1.0)],
)
def test_an_emulated_processor_takes_longer(
    model: str, times: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time limits follow what the machine's processor is."""
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: {model}\n\n" * 2)
    monkeypatch.setattr(linux, "PROCESSORS", tmp_path / "cpuinfo")
    assert linux.slowness.__wrapped__() == times


def test_a_descriptor_above_those_of_select() -> None:
    """A process with very many descriptors waits as others do."""
    reading, writing = os.pipe()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 1200), most))
    try:
        high = fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, 1100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert linux.readable(high, seconds=0) == frozenset()
    os.write(writing, b"x")
    assert linux.readable(high, writing, seconds=None) == {high}
    os.close(writing)
    for descriptor in (reading, high):
        os.close(descriptor)
