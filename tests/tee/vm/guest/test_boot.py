"""The real guest, booted: the platform answers, registers are as computed, and nothing else boots."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee.image.build import builder
from kluis.tee.inside import boot
from kluis.tee.platform import start
from kluis.tee.process import native
from kluis.tee.vm.guest import Guest, build, content, measure, needs
from tests.meta import guest as debian
from tests.meta.tree import ROOT
from tests.tee.vm.guest import booting, made


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """The guest of this Kluis, with Debian's kernel, and a stand-in for its agent."""
    folder = tmp_path_factory.mktemp("built")
    unpacked = None
    if needs.newest(Path("/")) is None:
        debian.kernel(folder)
        unpacked = folder / "kernel"
    return build(folder / "guest", kernel=unpacked, extra=[booting.STAND_IN])


def test_the_platform_starts_before_the_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One program starts the platform, then runs the agent until it ends."""
    agent = f"with open({str(tmp_path / 'ran')!r}, 'a') as f: f.write(__name__)"
    (tmp_path / "kluis_stand_in_agent.py").write_text(agent)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(boot, "AGENT", "kluis_stand_in_agent")

    class Starting:
        def __init__(self, base: Path) -> None:
            (tmp_path / "ran").write_text(f"{base} ")

        def finish(self) -> None:
            with (tmp_path / "ran").open("a") as file:
                file.write("runs ")

    monkeypatch.setattr(start, "Starting", Starting)
    boot.main()
    assert (tmp_path / "ran").read_text() == "/k/python runs __main__"
    assert "kluis_stand_in_agent" not in sys.modules


@pytest.mark.slow
@made.tools
@booting.qemu
def test_a_direct_boot_answers(built: Guest, tmp_path: Path) -> None:
    """The platform has every protection, the root is read-only, and no program but Kluis's runs."""
    console = booting.boot(built, tmp_path, uefi=False)
    said = booting.said(console)
    assert said.get("platform") == "process []", console[-2000:]
    assert said["root"] == "Read-only file system"
    assert (said["modules"], said["sysrq"]) == ("1", "0")
    assert "[confidentiality]" in said["lockdown"]
    assert "has" not in said
    assert set(said["programs"].split()) <= {
        "/init",
        "/k/guardian",
        "/k/guest/bin/python",
        "/k/python/bin/kluis-launcher",
        "/usr/bin/bwrap",
    }
    assert "kluis-init: the agent ended with status 0" in console


@pytest.mark.slow
@made.tools
@booting.qemu
def test_an_enclave_starts_in_the_guest(built: Guest, tmp_path: Path) -> None:
    """An image has its id there, level ``process``, and no protection is missing."""
    image = tmp_path / "hello.kluis"
    image_id = builder.build(ROOT / "examples/hello", image, tmp_path / "author.pem").image_id
    size = image.stat().st_size
    os.truncate(image, -(-size // 4096) * 4096)
    unpacked = built.root.parent.parent / "kernel"
    kernel = unpacked if unpacked.exists() else None
    guest = build(tmp_path / "guest", kernel=kernel, extra=[booting.LAUNCHES])
    line = f"{guest.command_line} image.bytes={size}"
    console = booting.boot(guest, tmp_path, uefi=False, command_line=line, disk=image)
    said = booting.said(console)
    assert said.get("enclave") == f"process False {image_id.hex()}", console[-2000:]
    assert json.loads(said["configuration"])["missing"] == []


@pytest.mark.slow
@made.tools
@booting.qemu
@booting.firmware
@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_registers_are_as_computed(built: Guest, tmp_path: Path, cpus: int) -> None:
    """What a TPM holds after a boot by UEFI is what was computed before, for 1, 2 and 4 processors."""
    said = booting.said(booting.boot(built, tmp_path, uefi=True, cpus=cpus))
    assert said.get("platform") == "process []"
    assert {name: said[name] for name in said if name.startswith("pcr")} == {
        name: value.hex() for name, value in measure(built).pcrs.items()
    }


@pytest.mark.slow
@made.tools
@booting.qemu
def test_another_root_does_not_run(built: Guest, tmp_path: Path) -> None:
    """A root file system with one changed bit ends the machine before the platform answers."""
    changed = tmp_path / "root"
    shutil.copyfile(built.root, changed)
    data = changed.read_bytes()
    at = data.index(b"Start the platform for the whole life of the guest")
    with changed.open("r+b") as f:
        f.seek(at)
        f.write(bytes([data[at] ^ 1]))
    console = booting.boot(dataclasses.replace(built, root=changed), tmp_path, uefi=False)
    assert "platform" not in booting.said(console)
    assert "dm-verity device corrupted" in console


@pytest.mark.slow
@made.tools
@booting.qemu
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (f"kluis.root={'0' * 64}:30000", "dm-verity device corrupted"),
        ("", "kluis-init: command line: want kluis.root=HASH:BLOCKS"),
        ("kluis.root=1:1", "kluis-init: command line: want kluis.root=HASH:BLOCKS"),
        (f"kluis.root={'0' * 64}:1x", "kluis-init: command line: number of blocks"),
        ("{own} {own}", "kluis-init: command line: kluis.root= is there twice"),
    ],
)
def test_another_command_line_does_not_run(built: Guest, tmp_path: Path, options: str, message: str) -> None:
    """Another root hash, none, a malformed one, or two of them end the machine."""
    rest, _, own = built.command_line.rpartition(" ")
    line = f"{rest} {options.format(own=own)}"
    console = booting.boot(built, tmp_path, uefi=False, command_line=line)
    assert "platform" not in booting.said(console)
    assert message in console


@pytest.mark.slow
@made.tools
def test_the_real_guest_is_reproducible(built: Guest, tmp_path: Path) -> None:
    """A second build, by the command in another process, has the same bytes."""
    program = (
        "import sys; from pathlib import Path; from kluis.tee.vm.guest import build;"
        "from tests.tee.vm.guest import booting;"
        "kernel = Path(sys.argv[2]) if sys.argv[2] else None;"
        "build(Path(sys.argv[1]), kernel=kernel, extra=[booting.STAND_IN])"
    )
    unpacked = built.root.parent.parent / "kernel"
    kernel = str(unpacked) if unpacked.exists() else ""
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "again"), kernel],
        check=True,
        umask=0o077,
        env={"PATH": "/usr/bin", "HOME": str(tmp_path), "TZ": "Asia/Tokyo", "PYTHONPATH": str(Path.cwd())},
    )
    assert Guest.open(tmp_path / "again").digests == built.digests


@pytest.mark.slow
def test_the_guest_has_no_shell(built: Guest, tmp_path: Path) -> None:
    """The root file system has the programs that Kluis starts, and no other."""
    subprocess.run(["fsck.erofs", f"--extract={tmp_path}", built.root], check=True, capture_output=True)
    programs = {
        str(path.relative_to(tmp_path))
        for path in tmp_path.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o111 and ".so" not in path.name
    }
    assert programs == {
        "k/guest/bin/python",
        "k/kluis/kluis_runtime/kluis-guardian",
        "k/python/bin/kluis-launcher",
        "usr/bin/bwrap",
    }
    for layer in (native.base_layer(), native.inside_layer()):  # which the agent does not let a host send
        assert (tmp_path / "k/kluis/kluis_runtime" / layer.name).read_bytes() == layer.read_bytes()
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    assert {path.name for path in (tmp_path / "k/kluis/kluis").iterdir()}.isdisjoint(
        {"cli", "services", "host"}
    )
    assert set(content.EMPTY) <= {path.name for path in tmp_path.iterdir()}


def test_an_error_is_one_line_on_the_console(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A guest whose platform is not endorsed ends with the reason and its fix, and without a traceback."""

    def fail(base: Path) -> None:
        raise UnavailableError("emulated: want an answer of 4000 bytes, got 0", hint="the host ended")

    monkeypatch.setattr(start, "Starting", fail)
    assert boot.main() == 7
    assert capsys.readouterr().out == "kluis: emulated: want an answer of 4000 bytes, got 0; the host ended\n"
