"""``kluis measure --snp``: compute the measurement of a SEV-SNP guest before it is started."""

from __future__ import annotations

from pathlib import Path

from kluis.cli import render
from kluis.errors import UsageError
from kluis.formats.snp import firmware
from kluis.frozen import frozen
from kluis.tee.image import files
from kluis.tee.measure.snp import kernel, launch, vcpu
from kluis.tee.measure.snp.vcpu import Monitor


@frozen(kw_only=True)
class Options:
    """The command line's options for the guest."""

    ovmf: Path | None
    kernel: Path | None
    initrd: Path | None
    append: str | None
    vcpus: int
    vcpu_type: str
    monitor: Monitor
    features: str


def measure(options: Options) -> None:
    """Print the launch measurement (SHA-384) that the guest's reports will carry.

    Raises:
        UsageError: options that do not fit together.
        FormatError: the firmware is not a valid one.
    """
    if options.ovmf is None:
        raise UsageError("measure: want --ovmf with --snp", hint="--ovmf /usr/share/OVMF/OVMF_CODE_4M.fd")
    if options.kernel is None and (options.initrd is not None or options.append is not None):
        raise UsageError("measure: want --kernel with --initrd or --append")
    boot = None
    if options.kernel is not None:
        initrd = b"" if options.initrd is None else files.read(options.initrd)
        boot = kernel.hashes(files.read(options.kernel), initrd, options.append or "")
    guest = launch.Guest(
        firmware=firmware.parse(files.read(options.ovmf)),
        vcpus=options.vcpus,
        cpu=vcpu.signature_of(options.vcpu_type),
        kernel=boot,
        features=_features(options.features),
        monitor=options.monitor,
    )
    value = {
        "tee": "snp",
        "measurement": launch.measure(guest).value.hex(),
        "vcpus": guest.vcpus,
        "vcpu_signature": f"{guest.cpu:#x}",
        "features": f"{guest.features:#x}",
        "monitor": str(guest.monitor),
        "kernel": boot is not None,
    }
    booted = "measured" if boot is not None else "not measured: the firmware chooses what to boot"
    rows = [("measurement", str(value["measurement"])), ("kernel", booted)]
    render.out(value, render.table(rows))


def _features(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise UsageError(f"measure: want --features of 64 bits, like 0x1, got {text!a}")
    return value
