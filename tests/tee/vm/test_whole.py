"""From a guest to appraised evidence: one image in a machine, by the commands of the guide."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kluis.cli import main
from kluis.formats.kluis.endorsement import Endorsement
from kluis.tee.backends import MACHINE
from kluis.tee.vm import guest
from kluis.tee.vm.machine import kept, programs
from tests.images import built
from tests.tee.vm.machine.guest import LOCK

__all__ = ["built"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a machine within all walls needs root"),
]
HELLO = Path(__file__).parents[3] / "examples" / "hello"
NONCE = "00112233445566778899aabbccddeeff"
MEMORY = ("--memory", "1536", "--cpus", "2")


class Commands:
    """``kluis`` with ``--json``, in one folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def run(self, *words: object) -> tuple[int, Any, str]:
        """Exit code, what it printed, and what it printed of errors."""
        self._capsys.readouterr()
        code = main.run([*map(str, words), "--json"])
        said = self._capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    def good(self, *words: object) -> Any:
        """What a command that succeeds printed."""
        code, value, error = self.run(*words)
        assert code == 0, error
        return value

    def evidence(self, image: Path, name: str) -> list[object]:
        """Evidence of an image in the machine, as the options of commands that read it."""
        quote, collateral = self.folder / f"{name}.bin", self.folder / f"{name}.json"
        self.good("attest", image, "-o", quote, "--nonce", NONCE)
        self.good("platform", "collateral", "-o", collateral)
        return [quote, "--root", self.folder / "processor.pem", "--collateral", collateral]


@pytest.fixture
def commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Commands]:
    """One at a time: an emulated machine takes all processors."""
    for tool in ("qemu-system-x86_64", "mkfs.erofs", "ukify"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: kluis doctor names its package")
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Commands(tmp_path, capsys)
        for each in main_names():
            main.run(["vm", "stop", each])


def main_names() -> list[str]:
    """The machines that a test left."""
    from kluis.tee.vm.machine import kept

    return kept.names()


def test_an_enclave_in_a_machine(
    commands: Commands, built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its evidence passes the policy drafted from it; another machine's and another boot's do not."""
    image, folder = built(HELLO), commands.folder
    commands.good("vm", "guest", "build", "-o", folder / "guest")
    shown = commands.good("vm", "start", "--guest", folder / "guest", "--name", "one", *MEMORY)
    assert shown["missing"] == []
    commands.good("vm", "root", "-o", folder / "processor.pem")
    monkeypatch.setenv(MACHINE, "one")
    first = commands.evidence(image, "first")
    claims = commands.good("verify", *first)["claims"]
    assert (claims["protection"], claims["debug"]) == ("vm", False)
    assert claims["machine"]["claims"]["measurement"] == f"sha384:{shown['measurement']}"
    assert claims["measurement"] == f"sha256:{commands.good('measure', image)['image_id']}"
    policy = folder / "policy.toml"
    commands.good("policy", "init", first[0], "-o", policy, *first[1:])
    assert commands.run("appraise", *first, "--policy", policy, "--nonce", NONCE)[0] == 0
    commands.good("vm", "stop", "one")

    # An initial RAM disk with more bytes, and a description that agrees: it boots, as another machine.
    with (folder / "guest" / "initrd").open("ab") as initrd:
        initrd.write(bytes(512))
    about = json.loads((folder / "guest" / "guest.json").read_text())
    about["digests"]["initrd"] = hashlib.sha256((folder / "guest" / "initrd").read_bytes()).hexdigest()
    (folder / "guest" / "guest.json").write_text(json.dumps(about))
    assert guest.Guest.open(folder / "guest").command_line == about["command_line"]
    only = hashlib.sha256(b"another image").hexdigest()
    other = commands.good("vm", "start", "--guest", folder / "guest", "--name", "two", *MEMORY)
    assert other["measurement"] != shown["measurement"]
    monkeypatch.setenv(MACHINE, "two")
    second = commands.evidence(image, "second")
    code, value, _ = commands.run("appraise", *second, "--policy", policy, "--nonce", NONCE)
    assert code == 6
    print(json.dumps(value)[:3000])
    failed = {rule["name"] for rule in value["rules"] if not rule["ok"]}
    assert failed == {"machine_measurement"}

    # The collateral of the boot before endorses another root.
    code, _, error = commands.run("verify", second[0], *first[1:])
    assert code == 4
    assert json.loads(error)["code"] in ("endorsement_root", "root_untrusted", "chain_sig")
    commands.good("vm", "stop", "two")

    # A machine for one image runs no other.
    commands.good("vm", "start", "--guest", folder / "guest", "--name", "two", "--only", only, *MEMORY)
    code, _, error = commands.run("attest", image, "-o", folder / "third.bin", "--nonce", NONCE)
    assert code != 0
    assert only[:16] in error


def test_a_machine_with_a_vtpm(
    commands: Commands, built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A boot by ``uefi`` has evidence of Azure's form, and registers and digest that were computed before it.

    A host that was killed within a record does not keep the next one from the machine.
    """
    for tool in ("swtpm", "tpm2_eventlog"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: apt-get install swtpm tpm2-tools")
    image, folder = built(HELLO), commands.folder
    commands.good("vm", "guest", "build", "-o", folder / "guest")
    options = ("--guest", folder / "guest", "--name", "one", "--boot", "uefi", *MEMORY)
    shown = commands.good("vm", "start", *options)
    commands.good("vm", "root", "-o", folder / "processor.pem")
    monkeypatch.setenv(MACHINE, "one")

    with kept.connect("one") as torn:
        torn.sendall(b"\xe8\3\0\0\0\0\0\0what a host that was killed had begun to send")
    given = commands.evidence(image, "first")

    claims = commands.good("verify", *given)["claims"]
    machine = claims["machine"]["claims"]
    assert (claims["protection"], claims["machine"]["kind"]) == ("vm", "azure-snp")
    assert machine["measurement"] == f"sha384:{shown['measurement']}"
    firmware = ("--firmware", programs.OVMF_CODE, "--vcpus", 2, "--boot", "uefi")
    before = commands.good("vm", "guest", "measure", folder / "guest", *firmware)
    assert [each["digest"] for each in before["launches"]] == [shown["measurement"]]
    registers = {name: value.rpartition(":")[2] for name, value in machine["registers"].items()}
    assert registers["pcr4"] == before["pcr4_loaded"]
    assert {name: registers[name] for name in ("pcr9", "pcr11", "pcr12")} == {
        name: before["pcrs"][name] for name in ("pcr9", "pcr11", "pcr12")
    }
    collateral = json.loads((folder / "first.json").read_text())
    log = Endorsement.parse(collateral["endorsement"].encode()).parts["event_log"]
    (folder / "log").write_bytes(log)
    read = subprocess.run(["tpm2_eventlog", folder / "log"], capture_output=True, text=True, check=True)
    assert f"11 : 0x{registers['pcr11']}" in read.stdout
    policy = folder / "policy.toml"
    commands.good("policy", "init", given[0], "-o", policy, *given[1:])
    assert commands.run("appraise", *given, "--policy", policy, "--nonce", NONCE)[0] == 0
