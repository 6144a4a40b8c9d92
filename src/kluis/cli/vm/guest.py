"""``kluis vm guest``: build the guest of confidential virtual machines, and measure it before it boots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from kluis.cli import render
from kluis.cli.parameters import argument, group, option
from kluis.tee.measure.snp.vcpu import Monitor
from kluis.tee.vm.guest import Guest, building, measuring, reference

Folder = Annotated[Path, argument("A guest that kluis vm guest build wrote.", "DIR")]


def build(
    out: Annotated[Path, option("The folder to write it to.", "DIR", "-o", "--output")],
    kernel: Annotated[
        Path | None,
        option(
            "Where Debian's package linux-image-*-cloud-amd64 is unpacked; by default it is installed.", "DIR"
        ),
    ] = None,
) -> None:
    """Build a guest. The same packages give the same bytes.

    Nothing is fetched. If a package is missing, the error names it, and the line that installs it.
    """
    _show(building.build(out, kernel=kernel, say=render.note))


def measure(
    folder: Folder,
    firmware: Annotated[
        list[Path] | None, option("An image of OVMF, for SEV-SNP launch digests; may be repeated.", "FILE")
    ] = None,
    boot: Annotated[
        Literal["direct", "uefi"] | None, option("Only launch digests of this way to boot; by default both.")
    ] = None,
    vcpus: Annotated[
        list[int] | None, option("Number of virtual processors; may be repeated; by default 1, 2 and 4.", "N")
    ] = None,
    vcpu_type: Annotated[
        str, option("QEMU's processor type, or a signature like 0xa00f11.", "TYPE")
    ] = measuring.CPU,
    monitor: Annotated[Monitor, option("The monitor that launches it.")] = Monitor.QEMU,
    corim: Annotated[
        Path | None, option("Also write the values as CoRIM, for kluis appraise --reference.", "FILE")
    ] = None,
) -> None:
    """Print the values that hardware will report, before a boot.

    PCRs 4, 9, 11 and 12 and RTMR 2 are those of a boot by UEFI. A launch digest of a direct boot contains
    kernel, initial RAM disk and command line; one of a boot by UEFI contains only the firmware.
    """
    guest = Guest.open(folder, check=False)
    guest.check(
        "kernel", "initrd", "unified"
    )  # the others are not read: the command line has the root's hash
    measured = measuring.measure(
        guest,
        firmware=firmware or (),
        boot=boot,
        cpus=vcpus or measuring.CPUS,
        cpu=vcpu_type,
        monitor=monitor,
    )
    rows = [(f"PCR {name.removeprefix('pcr')}", value.hex()) for name, value in measured.pcrs.items()]
    rows.append(("PCR 4 by kluis vm", measured.loaded.hex()))
    rows.append(("RTMR 2", measured.rtmr2.hex()))
    rows += [
        (f"SNP {each.boot} {each.cpus} vCPU {each.firmware}", each.digest.hex()) for each in measured.launches
    ]
    if corim is not None:
        render.save(corim, reference.encode(measured))
        render.note(f"written: {corim}")
    render.out(measured.document(), render.fold(render.table(rows)))


def show(folder: Folder) -> None:
    """Check every file of a guest, and print what it consists of."""
    _show(Guest.open(folder))


def _show(guest: Guest) -> None:
    description = guest.description
    value: dict[str, Any] = {
        "release": guest.release,
        "kernel": description.kernel,
        "command_line": guest.command_line,
        "root_hash": description.root_hash,
        "files": {
            part: {"path": str(path), "bytes": path.stat().st_size, "sha256": guest.digests[part].hex()}
            for part, path in guest.paths.items()
        },
    }
    rows = [
        ("kernel version" if name == "kernel" else name, str(value[name]))
        for name in ("release", "kernel", "command_line", "root_hash")
    ]
    rows += [(part, f"{each['path']} ({each['bytes']} bytes)") for part, each in value["files"].items()]
    rows += [(f"{part} SHA-256", each["sha256"]) for part, each in value["files"].items()]
    render.out(value, render.fold(render.table(rows)))


GROUP = group("guest", "The guest: kernel, initial RAM disk and root file system.", (build, measure, show))
