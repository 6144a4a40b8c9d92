"""``kluis demo --vm``: one image outside and in a machine, and attacks by the machine's host."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kluis
from kluis.appraisal.draft import draft
from kluis.cli.demo import machine_limits, machine_release, text
from kluis.cli.demo.attempt import Attempt, expect_refusal
from kluis.cli.demo.machine_release import Releasing
from kluis.cli.demo.machine_stage import CPUS, MEMORY_MB, Shown, Stage
from kluis.cli.demo.text import conclude, print_each, say
from kluis.errors import InternalError, UnavailableError
from kluis.evidence import Collateral
from kluis.hashes import sha256
from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.tee.backend import Backend
from kluis.tee.image.build import builder
from kluis.tee.measure import image as measure
from kluis.tee.platform.client import Platform
from kluis.tee.vm.guest import building, measuring
from kluis.tee.vm.machine import kept, programs
from kluis.tee.vm.machine.kept import Settings
from kluis.tee.vm.processor import measured

OPENING: Final = """\
A confidential virtual machine isolates a whole machine from its host. Kluis runs its platform inside, so \
an image is the same file outside and inside, with the same image id. The machine's processor signs a \
measurement of what booted, and names the key of the platform inside.

This computer has no such processor: one is emulated, and its root is trusted only by naming its file. What \
you see is how evidence is judged; the last section shows whom an emulated processor does not keep out."""
CLOSING: Final = """\
On confidential hardware the processor's vendor holds the keys, and the host cannot sign for it. The image, \
the guest, the policy and the commands are the same."""


def play() -> None:
    """Run the demo and print each step.

    Raises:
        InternalError: an attack succeeded that must not.
        UnavailableError: a program that machines need is missing; with the command that installs it.
    """
    began, facts = time.monotonic(), dict[str, Any]()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended so, it cleans up all the same
    say(text.paragraph(OPENING))
    with tempfile.TemporaryDirectory(prefix="kluis-demo-") as name, Platform.connect().hold():
        stage, root = Stage(Path(name)), machine_limits.emulated_processor().root_pem()
        missing = frozenset({*Platform.connect().status()["missing"], "secret-memory"})
        say("\nAn attestation service and a vault start, each in an enclave of this computer.")
        with (
            contextlib.ExitStack() as stack,
            machine_release.running(stage.folder / "services", root, missing) as releasing,
        ):
            stack.callback(stage.remove)
            stage.root = root
            _outside(stage, facts, missing, releasing)
            tried = list(print_each(_inside(stage, facts, releasing)))
            say(text.heading(6, "What an emulated processor does NOT keep out"))
            limits = list(print_each(machine_limits.try_limits(stage), limit=True))
    signal.signal(signal.SIGTERM, before)
    say("\n" + text.paragraph(CLOSING))
    facts |= {
        "attempts": [dataclasses.asdict(each) for each in tried],
        "limits": [dataclasses.asdict(each) for each in limits],
    }
    conclude(facts, began)


def _outside(stage: Stage, facts: dict[str, Any], missing: frozenset[str], releasing: Releasing) -> None:
    say(text.heading(1, "An image, outside of any machine"))
    example = Path(kluis.__file__).resolve().parents[2] / "examples" / "machine"
    if not (example / "app.py").is_file():
        raise UnavailableError(f"demo: want {example}, found none", hint="run it in a checkout: make demo-vm")
    source = Path(shutil.copytree(example, stage.folder / "machine"))
    (source / "vault.json").write_bytes(releasing.expected.encode())
    builder.build(source, stage.image, stage.folder / "author.pem")
    with load(stage.image, insecure_allow_missing=missing) as enclave:
        say(text.fact("answers", enclave.greet("Ada")))
        say(text.fact("image id", enclave.image_id.hex()))
        say(text.fact("level", f"{enclave.level}: Linux isolates this enclave"))
        facts["outside"] = {"image_id": enclave.image_id.hex(), "level": enclave.level}


def _inside(stage: Stage, facts: dict[str, Any], releasing: Releasing) -> Iterator[Attempt]:
    """The machine, and then each attack on it. One machine boots while another one is used."""
    say(text.heading(2, "The guest, measured before anything boots"))
    guest = building.build(stage.guest)
    stage.measured = measuring.measure(guest)
    say(text.fact("guest", f"kernel {guest.description.kernel}, no shell, no login"))
    say(text.fact("root hash", guest.description.root_hash))
    releasing.keep(_required_claims(stage))
    good = (stage.guest / "initrd").read_bytes()
    initrd = good[:-1] + bytes([good[-1] ^ 1])  # of the padding at its end
    line = stage.rebuild("line", command_line=f"{guest.command_line} kluis.demo")
    with contextlib.ExitStack() as other:
        changed = other.enter_context(stage.machine(stage.rebuild("initrd", initrd=initrd), "-initrd"))
        say(text.heading(3, "The same image in a machine"))
        with stage.machine(stage.guest) as booting:
            platform = booting()
            about = kept.show(stage.name)
            with load(stage.image, platform=platform) as enclave:
                stage.first = stage.evidence(enclave, platform)
                _read(stage, about, facts)
                say(text.heading(4, "A key for this image in this guest"))
                _release(enclave, releasing, facts)
                say(text.heading(5, "What the host tries"))
                yield from _while_it_runs(stage, enclave, platform, int(about["pid"]))
        with stage.machine(stage.guest) as booting:
            yield from _other_initrd(stage, initrd, releasing, changed())
            other.close()
            changed = other.enter_context(stage.machine(line, "-line"))
            platform = booting()
            with load(stage.image, platform=platform) as enclave:
                yield from _boot_before(stage, enclave, platform)
        yield from _other_line(stage, changed())


def _boot_before(stage: Stage, enclave: EnclaveProxy, platform: Backend) -> Iterator[Attempt]:
    """The first machine, booted again."""
    again = stage.evidence(enclave, platform)
    stage.judge(again)
    yield expect_refusal(
        "host",
        "the endorsement of the boot before",
        "it endorses a root that no longer exists",
        lambda: stage.judge(dataclasses.replace(again, collateral=_swap_endorsement(again, stage.first))),
    )
    stage.ended = machine_limits.end_machine(stage, enclave)


def _required_claims(stage: Stage) -> dict[str, str]:
    """The claims of a token on which the vault releases the key: all are computed before the boot."""
    firmware = programs.firmware("uefi").code.read_bytes()
    image_id = measure.measure(stage.image).image_id
    pcrs = {**stage.measured.pcrs, "pcr4": stage.measured.loaded, "pcr15": sha256(bytes(32) + image_id)}
    tee = "x-ms-isolation-tee.x-ms-sevsnpvm"
    return {
        "x-ms-attestation-type": "azurevm",
        f"{tee}-is-debuggable": "false",
        f"{tee}-launchmeasurement": measured.measure_firmware(firmware, CPUS).hex(),
        **{f"x-kluis-pcrs.{name}": value.hex() for name, value in pcrs.items()},
    }


def _release(enclave: EnclaveProxy, releasing: Releasing, facts: dict[str, Any]) -> None:
    token = releasing.token(enclave)
    say(text.fact("token", f"AzureGuest, {len(token)} bytes; only this machine's vTPM opens it"))
    release = releasing.release(token)
    say(text.fact("released", f"{len(release)} bytes, wrapped to a key in the vTPM"))
    if not releasing.opens(enclave, release):
        raise InternalError("demo: want the owner's key, got another")
    say(text.fact("opened", "the enclave has the owner's key; its host saw only the wrapped one"))
    facts["released"] = True


def _read(stage: Stage, about: dict[str, Any], facts: dict[str, Any]) -> None:
    """Read the evidence whole, and draft the policy that all later evidence is judged by."""
    verified = stage.verify(stage.first)
    claims, machine = verified.value, verified.value.machine
    if machine is None:
        raise InternalError("demo: want claims of a machine, got none")
    stage.policy = draft(
        verified, runtime_data=stage.first.runtime_data, launch_configuration=stage.first.launch_configuration
    )
    stage.measurement = machine.claims.measurement.value
    stage.judge(stage.first)
    same = claims.measurement.value == measure.measure(stage.image).image_id
    computed = {**stage.measured.pcrs, "pcr4": stage.measured.loaded}
    others = [name for name, value in computed.items() if machine.claims.registers[name].value != value]
    say(text.fact("image id", claims.measurement.value.hex() + (", the same" if same else ", ANOTHER")))
    say(text.fact("level", f"{claims.level}, by {machine.claims.anchor}"))
    say(text.fact("machine", f"{machine.kind}: launch digest {stage.measurement.hex()[:32]}.., of OVMF"))
    words = (
        f"{', '.join(others)} DIFFER" if others else f"{', '.join(computed)} are as computed before the boot"
    )
    say(text.fact("registers", words))
    facts["inside"] = {
        "image_id": claims.measurement.value.hex(),
        "level": str(claims.level),
        "measurement": stage.measurement.hex(),
    }
    if not same or others or about["measurement"] != stage.measurement.hex():
        raise InternalError("demo: want the image and the machine that were measured, got others")


def _while_it_runs(stage: Stage, enclave: EnclaveProxy, platform: Backend, pid: int) -> Iterator[Attempt]:
    """Exchange the disk of the running machine, and read its memory."""
    disk = stage.guest / "root.erofs"
    whole = disk.read_bytes()
    disk.write_bytes(bytes(len(whole)))
    try:
        stage.judge(stage.evidence(enclave, platform))
        yield Attempt(
            "host",
            "overwrites the file of the root disk while the machine runs",
            "the machine reads the sealed copy that was measured; its evidence is as before",
            True,
        )
        yield expect_refusal(
            "host",
            "starts a machine from the exchanged root disk",
            "a file of the guest is compared as it is sealed",
            lambda: kept.start(_other(stage, stage.guest)),
        )
    finally:
        disk.write_bytes(whole)
    if os.geteuid() != 0:
        yield Attempt("root", "writes into the sealed disk; reads the memory", "needs root", None)
        return
    yield _write_disk(pid)
    yield _read_memory(pid)


def _write_disk(pid: int) -> Attempt:
    tried = "writes into QEMU's sealed copy of the root disk"
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if not os.readlink(path).startswith("/memfd:kluis-root"):
                continue
            disk = os.open(path, os.O_RDWR)
            try:
                os.write(disk, b"x")
            except PermissionError as error:
                return Attempt("root", tried, f"refused by the kernel: {error.strerror}", True)
            finally:
                os.close(disk)
            return Attempt("root", tried, "it worked", False)
    return Attempt("root", tried, "QEMU has no such file", None)


def _read_memory(pid: int) -> Attempt:
    """Read every mapping that is as large as the guest's memory."""
    tried, size, got = "reads the guest's memory through /proc/PID/mem", 0, 0
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
            if end - start < MEMORY_MB << 20 or line.split()[1].startswith("---"):
                continue
            size += end - start
            for at in range(start, end, 16 << 20):
                with contextlib.suppress(OSError):
                    memory.seek(at)
                    got += len(memory.read(4096))
    pages = size // (16 << 20)
    return Attempt("root", tried, f"{got // 4096} of {pages} pages that it tried", got == 0 if size else None)


def _other_initrd(stage: Stage, initrd: bytes, releasing: Releasing, platform: Backend) -> Iterator[Attempt]:
    """A guest with another initial RAM disk, which boots if its description agrees."""
    yield expect_refusal(
        "host",
        "an initial RAM disk with another byte",
        "the description of the guest names another",
        lambda: kept.start(_other(stage, _replace_initrd(stage, initrd))),
    )
    with load(stage.image, platform=platform) as enclave:
        shown = stage.evidence(enclave, platform)
        yield expect_refusal(
            "host",
            "the same, and a description that agrees: it boots",
            stage.changed_sections(shown),
            lambda: stage.judge(shown),
        )
        yield expect_refusal(
            "host",
            "requests the key for this machine",
            "the vault compares the registers",
            lambda: releasing.release(releasing.token(enclave)),
        )
    yield expect_refusal(
        "host",
        "the good machine's endorsement, for this machine's enclave",
        "an endorsement names one platform's root",
        lambda: stage.judge(dataclasses.replace(shown, collateral=_swap_endorsement(shown, stage.first))),
    )


def _other_line(stage: Stage, platform: Backend) -> Iterator[Attempt]:
    """A guest with another command line of its kernel."""
    with load(stage.image, platform=platform) as enclave:
        shown = stage.evidence(enclave, platform)
    yield expect_refusal(
        "host",
        "another command line of the kernel",
        stage.changed_sections(shown),
        lambda: stage.judge(shown),
    )


def _replace_initrd(stage: Stage, initrd: bytes) -> Path:
    torn = stage.copy("torn")
    (torn / "initrd").write_bytes(initrd)
    return torn


def _other(stage: Stage, guest: Path) -> Settings:
    """A second machine, by ``direct``: each of its files is compared with the description."""
    return Settings(f"{stage.name}-other", str(guest), memory_mb=MEMORY_MB)


def _swap_endorsement(shown: Shown, by: Shown) -> bytes:
    """One machine's collateral with the endorsement of another."""
    other = Collateral.from_json(by.collateral)
    return dataclasses.replace(
        Collateral.from_json(shown.collateral), endorsement=other.endorsement
    ).to_json()
