"""The state of machines: what one of them left must fit no other, and no less protected one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.tee.vm.machine import keeper, kept
from kluis.tee.vm.machine.kept import Settings


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLUIS_HOME", str(tmp_path))


def test_a_debug_machine_has_another_vtpm() -> None:
    """A vTPM has the same key at each boot: the report of a boot without debug would fit a debug quote."""
    places = [
        keeper.state_of(Settings(name=name, guest="", boot="uefi", debug=debug))
        for name in ("m", "m-debug", "debug")
        for debug in (False, True)
    ]
    assert len(set(places)) == len(places)
    assert {each.parent for each in places} == {kept.lasting()}
    assert not any(kept.NAME.fullmatch(each.name.removesuffix(".tpm")) for each in places if "." in each.stem)
