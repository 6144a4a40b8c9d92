"""A host whose KVM works: a machine by ``uefi`` starts there, too."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from kluis.tee.vm.guest.guest import NAMES
from kluis.tee.vm.machine import acceleration, kept
from kluis.tee.vm.machine.kept import Settings
from tests.tee.vm.machine.guest import NEEDED, empty_kernel

pytestmark = pytest.mark.skipif(bool(NEEDED), reason=f"apt-get install {NEEDED}")


def test_a_machine_by_uefi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts: under TCG, as KVM cannot have secret memory."""
    monkeypatch.setenv("KLUIS_HOME", str(tmp_path / "home"))
    guest = tmp_path / "guest"
    guest.mkdir()
    for name in NAMES.values():
        (guest / name).write_bytes(empty_kernel())
    described = {
        "blocks": 16,
        "command_line": f"roothash={'0' * 64}",
        "digests": dict.fromkeys(NAMES, hashlib.sha256(empty_kernel()).hexdigest()),
        "inputs": "0" * 64,
        "kernel": "6.12.0",
        "release": "0",
        "root_hash": "0" * 64,
    }
    (guest / "guest.json").write_text(json.dumps(described))
    monkeypatch.setattr(acceleration, "choose", lambda *_: "kvm")  # it was seen to boot the kernel
    acceleration.choose_cached(kept.folder(), Path("qemu"), guest / NAMES["kernel"])
    shown = kept.start(Settings("one", str(guest), boot="uefi", memory_mb=256))
    kept.stop("one")
    assert shown["accelerator"] == "tcg"
