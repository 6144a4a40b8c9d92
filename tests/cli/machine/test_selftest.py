"""The doctor's self-test, against a separate platform."""

from __future__ import annotations

from pathlib import Path

from kluis.cli.machine import selftest
from kluis.tee.doctor import State
from kluis.tee.process import linux


def test_whoever_runs_it_reads_nothing(home: Path) -> None:
    """An enclave starts, and neither its memory file, the memory calls, nor a debugger give a copy.

    Without secret memory the same user may read it; then the self-test reports that.
    """
    found = selftest.run()
    assert [finding.name for finding in found] == [
        "an enclave",
        "its memory file",
        "memory calls",
        "a debugger",
    ]
    if linux.missing(selftest.HEAP_BYTES):
        assert found[0].seen.endswith("without secret-memory")
        assert all("RLIMIT_MEMLOCK" in str(one.fix) for one in found if one.state is not State.OK)
    else:
        assert {finding.state for finding in found} == {State.OK}


def test_what_keeps_an_enclave_from_starting_is_said(home: Path) -> None:
    """If no enclave can start, the one line has the reason and the fix."""
    (home / "state").mkdir(mode=0o755)
    (home / "state").chmod(0o755)
    found = selftest.run()
    assert [(finding.name, finding.state) for finding in found] == [("an enclave", State.MISSING)]
    assert found[0].fix is not None
    assert str(home / "state") in found[0].fix
