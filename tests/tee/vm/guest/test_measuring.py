"""Values before a boot are those that other programs compute, and policies read them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kluis.appraisal.policy.reference import ReferenceValues
from kluis.cli.main import run
from kluis.errors import FormatError, UsageError
from kluis.evidence.model import Tee
from kluis.formats.eventlog import pe
from kluis.formats.eventlog.event_type import EventType
from kluis.tee.vm.guest import Guest, Measured, measure, measuring, reference, registers
from tests.formats.eventlog.logs import event, log
from tests.formats.snp import images
from tests.tee.vm.guest import made

pytestmark = made.tools
SYSTEMD_MEASURE = shutil.which("systemd-measure", path=f"/usr/lib/systemd:{os.environ['PATH']}")
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A small guest."""
    folder = tmp_path_factory.mktemp("measured")
    return made.guest(folder / "guest", made.kernel(folder / "kernel"))


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A firmware with a section for kernel hashes."""
    path = tmp_path_factory.mktemp("firmware") / "direct.fd"
    path.write_bytes(images.image())
    return path


@pytest.mark.skipif(SYSTEMD_MEASURE is None, reason="not installed: a package of systemd")
@pytest.mark.parametrize("algorithm", ["sha256", "sha384"])
def test_systemd_measure_computes_the_same_pcr_11(tmp_path: Path, guest: Guest, algorithm: str) -> None:
    """PCR 11 before any phase is that of systemd's own program, over the same sections."""
    program = pe.parse(guest.unified.read_bytes(), "unified")
    line = [SYSTEMD_MEASURE or "", "calculate", "--phase=:", "--json=short", f"--bank={algorithm}"]
    for name in ("linux", "osrel", "cmdline", "initrd", "uname", "sbat"):
        (tmp_path / name).write_bytes(program.content(f".{name}") or b"")
        line.append(f"--{name}={tmp_path / name}")
    said = json.loads(subprocess.run(line, capture_output=True, check=True).stdout)
    found = registers.registers(guest.unified.read_bytes(), algorithm)  # type: ignore[arg-type]
    assert said[algorithm][0]["hash"] == found["pcr11"].hex()


def test_sections_of_a_log(guest: Guest) -> None:
    """The sections that a log has in PCR 11 are those of the image; another one is found by its name."""
    program = pe.parse(guest.unified.read_bytes(), "unified")
    sections = {name: data for name in registers.SECTIONS if (data := program.content(name)) is not None}

    def logged(**changed: bytes) -> dict[str, bytes]:
        parts = [
            (name.encode() + b"\0", changed.get(name.strip("."), data)) for name, data in sections.items()
        ]
        events = [event(11, EventType.IPL, b"", over) for part in parts for over in part]
        return registers.logged_sections(log(event(4, EventType.IPL, b"x"), *events))

    want = registers.section_hashes(guest.unified.read_bytes())
    assert logged() == want
    found = logged(cmdline=b"another")
    assert [name for name, digest in want.items() if found[name] != digest] == [".cmdline"]


@pytest.mark.skipif(shutil.which("osslsigncode") is None, reason="no osslsigncode")
def test_osslsigncode_computes_the_same_hash(tmp_path: Path, guest: Guest) -> None:
    """The hash that firmware measures into PCR 4 is Authenticode's."""
    for path in (guest.unified, guest.kernel):
        out = tmp_path / path.name
        line = ["osslsigncode", "extract-data", "-h", "sha256", "-in", path, "-out", out]
        subprocess.run(line, capture_output=True, check=True)
        assert pe.parse(path.read_bytes(), "program").hash("sha256") in out.read_bytes()


def test_each_part_changes_its_registers(guest: Guest) -> None:
    """A changed section changes PCR 4, 11 and RTMR 2, and PCR 9 if the kernel measures the section."""
    data = guest.unified.read_bytes()
    program = pe.parse(data, "unified")
    before, rtmr = registers.registers(data), registers.rtmr2(data)
    for name, both in (
        (".linux", False),
        (".osrel", True),
        (".cmdline", True),
        (".initrd", True),
        (".sbat", False),
    ):
        section = next(each for each in program.sections if each.name == name)
        changed = bytearray(data)
        changed[section.start + section.size - 1] ^= 1
        after = registers.registers(bytes(changed))
        differ = {register for register in before if before[register] != after[register]}
        assert differ == {"pcr4", "pcr11"} | ({"pcr9"} if both else set()), name
        assert registers.rtmr2(bytes(changed)) != rtmr
        assert [part for part, value in registers.section_hashes(bytes(changed)).items()
                if value != registers.section_hashes(data)[part]] == [name]  # fmt: skip
    assert before["pcr12"] == bytes(32)


def test_pcr_4_has_the_kernel_and_the_image(guest: Guest) -> None:
    """The register is extended with firmware's constants, the unified image and the kernel in it."""
    value = bytes(32)
    program = pe.parse(guest.unified.read_bytes(), "unified")
    kernel = pe.parse(guest.kernel.read_bytes(), "kernel")
    for each in (
        hashlib.sha256(b"Calling EFI Application from Boot Option").digest(),
        hashlib.sha256(bytes(4)).digest(),
        program.hash("sha256"),
        kernel.hash("sha256"),
    ):
        value = hashlib.sha256(value + each).digest()
    assert measure(guest).pcrs["pcr4"] == value


def test_checksum_and_signatures_do_not_change_the_hash(guest: Guest) -> None:
    """What signing a program changes is left out of its hash."""
    data = bytearray(guest.kernel.read_bytes())
    want = pe.parse(bytes(data), "kernel").hash("sha256")
    optional = int.from_bytes(data[0x3C:0x40], "little") + 24
    data[optional + 64 : optional + 68] = b"\xff" * 4
    signature = bytes(64)
    directory = optional + 112 + 4 * 8
    data[directory : directory + 4] = len(data).to_bytes(4, "little")
    data[directory + 4 : directory + 8] = len(signature).to_bytes(4, "little")
    assert pe.parse(bytes(data) + signature, "kernel").hash("sha256") == want


def test_cut_programs_are_refused(guest: Guest) -> None:
    """A program that ends within its headers or sections is malformed, at any length."""
    data = guest.unified.read_bytes()
    for size in (0, 1, 0x3C, 0x40, 0x80, 0x100, 0x200, 0x400, 2000, len(data) // 2):
        with pytest.raises(FormatError):
            registers.registers(data[:size])


def test_a_program_that_is_no_unified_image_is_refused(guest: Guest) -> None:
    """The stub alone has no kernel."""
    with pytest.raises(FormatError) as refused:
        registers.registers(guest.kernel.read_bytes())
    assert refused.value.message == "unified kernel image: want a section .linux, got none"


def test_launch_digests_are_sev_snp_measures(guest: Guest, firmware: Path) -> None:
    """For 1, 2 and 4 processors, with and without the kernel, they are those of sev-snp-measure."""
    guests = pytest.importorskip("sevsnpmeasure.guest")
    modes = pytest.importorskip("sevsnpmeasure.sev_mode")
    types = pytest.importorskip("sevsnpmeasure.vcpu_types")
    found = measure(guest, firmware=[firmware]).launches
    assert [(each.boot, each.cpus) for each in found] == [
        (boot, cpus) for boot in ("direct", "uefi") for cpus in (1, 2, 4)
    ]
    for each in found:
        direct = each.boot == "direct"
        want = guests.calc_launch_digest(
            modes.SevMode.SEV_SNP,
            each.cpus,
            types.CPU_SIGS["EPYC-v4"],
            str(firmware),
            str(guest.kernel) if direct else None,
            str(guest.initrd) if direct else None,
            guest.command_line if direct else None,
            0x1,
        )
        assert each.digest == want


def test_a_firmware_that_boots_anything_is_not_measured_as_direct(tmp_path: Path, guest: Guest) -> None:
    """Without a section for hashes there is a digest of ``uefi`` only, and ``direct`` is refused."""
    path = tmp_path / "any.fd"
    sections = tuple(each for each in images.SECTIONS if each[2] is not images.SectionKind.KERNEL_HASHES)
    path.write_bytes(images.image(meta=images.metadata(sections)))
    assert [each.boot for each in measure(guest, firmware=[path], cpus=[1]).launches] == ["uefi"]
    with pytest.raises(UsageError) as refused:
        measure(guest, firmware=[path], boot="direct")
    assert refused.value.message == f"{path}: has no section for kernel hashes, so it would boot any kernel"


def test_references_are_read_by_policies(guest: Guest, firmware: Path) -> None:
    """Registers go to the TEE that has them; only launches that contain the kernel are accepted values."""
    found = measure(guest, firmware=[firmware])
    values = ReferenceValues.from_corim(reference.encode(found), key=None, now=NOW).values
    pcrs = {name: frozenset({value}) for name, value in found.pcrs.items()}
    pcrs["pcr4"] |= {found.loaded}
    assert len(pcrs["pcr4"]) == 2
    assert set(values) == {Tee.TPM, Tee.AZURE, Tee.TDX, Tee.SNP}
    assert dict(values[Tee.TPM].registers) == dict(values[Tee.AZURE].registers) == pcrs
    assert dict(values[Tee.TDX].registers) == {"rtmr2": frozenset({found.rtmr2})}
    assert values[Tee.SNP].measurements == {each.digest for each in found.launches if each.boot == "direct"}
    assert values[Tee.SNP].names == {f"kluis-guest-{guest.release}"}


def test_references_of_firmware_alone_accept_no_guest(guest: Guest, firmware: Path) -> None:
    """A digest that any guest would have is not a reference value."""
    found = measure(guest, firmware=[firmware], boot="uefi")
    assert found.launches
    values = ReferenceValues.from_corim(reference.encode(found), key=None, now=NOW).values
    assert Tee.SNP not in values


def test_the_command_prints_and_writes_the_values(
    tmp_path: Path, guest: Guest, firmware: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table for people, the same as JSON, and a manifest."""
    folder, corim = str(guest.root.parent), tmp_path / "guest.corim"
    line = ["vm", "guest", "measure", folder, "--firmware", str(firmware), "--vcpus", "2", "--boot", "direct"]
    assert run([*line, "--corim", str(corim)]) == 0
    shown = capsys.readouterr().out
    found = measure(guest, firmware=[firmware], cpus=[2], boot="direct")
    rows = {row.rpartition(" ")[0].strip(): row.rpartition(" ")[2] for row in shown.splitlines()}
    assert rows == {
        "PCR 4": found.pcrs["pcr4"].hex(),
        "PCR 4 by kluis vm": found.loaded.hex(),
        "PCR 9": found.pcrs["pcr9"].hex(),
        "PCR 11": found.pcrs["pcr11"].hex(),
        "PCR 12": "00" * 32,
        "RTMR 2": found.rtmr2.hex(),
        "SNP direct 2 vCPU direct.fd": found.launches[0].digest.hex(),
    }
    assert corim.read_bytes() == reference.encode(found)
    assert run([*line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found.document()


def test_the_command_shows_a_guest(guest: Guest, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file with its hash; a changed one ends with 4."""
    folder = guest.root.parent
    assert run(["vm", "guest", "show", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["command_line"] == guest.command_line
    assert {part: each["sha256"] for part, each in said["files"].items()} == {
        part: digest.hex() for part, digest in guest.digests.items()
    }
    assert run(["vm", "guest", "show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert guest.digests["root"].hex() in shown
    names = [line.partition("  ")[0] for line in shown.splitlines()]
    assert (names[1], len(names)) == ("kernel version", len(set(names)))
    whole = guest.initrd.read_bytes()
    guest.initrd.write_bytes(whole + b"\0")
    try:
        assert run(["vm", "guest", "show", str(folder)]) == 4
    finally:
        guest.initrd.write_bytes(whole)
    assert f"{guest.initrd}: want SHA-256 " in capsys.readouterr().err


@pytest.mark.parametrize("part", ["kernel", "initrd", "unified"])
def test_a_changed_file_is_not_measured(guest: Guest, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each file that is measured is compared with its digest first; the error names it."""
    path = guest.paths[part]
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0")
    try:
        assert run(["vm", "guest", "measure", str(path.parent)]) == 4
    finally:
        path.write_bytes(whole)
    assert f"{path}: want SHA-256 {guest.digests[part].hex()}, got " in capsys.readouterr().err


def test_defaults_are_what_the_help_states() -> None:
    """1, 2 and 4 virtual processors of QEMU's type for SNP."""
    assert (measuring.CPUS, measuring.CPU) == ((1, 2, 4), "EPYC-v4")
    assert {field.name for field in dataclasses.fields(Measured)} >= {"pcrs", "rtmr2", "launches"}
