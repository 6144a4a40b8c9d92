"""``kluis demo --vm``: a machine and its host, all for real; slow, because four machines boot."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from kluis.cli.main import run
from kluis.tee.vm.machine import kept
from tests.tee.vm.machine import guest

pytestmark = pytest.mark.slow
TOOLS = ("qemu-system-x86_64", "mkfs.erofs", "ukify", "swtpm")


def test_demo(capsys: pytest.CaptureFixture[str]) -> None:
    """Every attack is refused, and the reason names the part; every limit is seen; no machine is left."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}: scripts/setup.sh demo-vm")
    with guest.only_one():
        assert run(["demo", "--vm", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inside"]["image_id"] == found["outside"]["image_id"]
    assert found["inside"]["level"] == "vm"
    assert found["released"] is True
    refused = {each["tried"]: each["happened"] for each in found["attempts"] if each["refused"]}
    named = {
        "the same, and a description that agrees: it boots": "PCR 11: section .initrd: want",
        "requests the key for this machine": "x-kluis-pcrs.pcr9: want",
        "another command line of the kernel": "PCR 11: section .cmdline: want",
        "an initial RAM disk with another byte": "(machine: initrd: ",
        "starts a machine from the exchanged root disk": "(machine: root: ",
        "the endorsement of the boot before": "endorsement: root: want",
        "the good machine's endorsement, for this machine's enclave": "endorsement: root: want",
    }
    for tried, part in named.items():
        assert part in refused[tried], tried
    if os.geteuid() == 0:
        assert all(each["refused"] for each in found["attempts"])
        assert [each["refused"] for each in found["limits"]] == [False] * 3
    assert not [name for name in kept.names() if name.startswith(f"demo-{os.getpid()}")]
