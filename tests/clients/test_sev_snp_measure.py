"""Another's calculator of launch measurements (``sev-snp-measure``) agrees with ours."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from kluis.formats.snp import firmware
from kluis.tee.measure.snp import kernel, launch, vcpu
from kluis.tee.measure.snp.launch import Guest
from kluis.tee.measure.snp.vcpu import Monitor
from kluis.tee.vm.processor import measured
from tests.formats.snp import images

guest = pytest.importorskip("sevsnpmeasure.guest", reason="pip install sev-snp-measure")
from sevsnpmeasure.sev_mode import SevMode  # noqa: E402  # there only if the line above passed
from sevsnpmeasure.vcpu_types import CPU_SIGS  # noqa: E402
from sevsnpmeasure.vmm_types import VMMType  # noqa: E402

MONITORS = {Monitor.QEMU: VMMType.QEMU, Monitor.EC2: VMMType.ec2, Monitor.GCE: VMMType.gce}
IMAGES = {
    "all sections": images.image(),
    "one page": images.image(pages=1),
    "no kernel hashes": images.image(meta=images.metadata(images.SECTIONS[:4])),
    "CPUID first": images.image(meta=images.metadata(images.SECTIONS[::-1])),
    "no sections": images.image(meta=images.metadata(())),
}
KERNELS = [None, (b"kernel", b"initrd", "console=ttyS0 quiet"), (b"other kernel", b"", "")]
DEBIAN = sorted(Path("/usr/share/OVMF").glob("OVMF_CODE*.fd"))


def _theirs(
    path: Path, vcpus: int, cpu: int, boot: tuple[bytes, bytes, str] | None, features: int, monitor: Monitor
) -> bytes:
    kernel_path, initrd_path, append = "", "", ""
    if boot is not None:
        files = path.with_suffix(".kernel"), path.with_suffix(".initrd")
        files[0].write_bytes(boot[0])
        files[1].write_bytes(boot[1])
        kernel_path, initrd_path, append = str(files[0]), str(files[1]) if boot[1] else "", boot[2]
    found = guest.calc_launch_digest(
        SevMode.SEV_SNP,
        vcpus,
        cpu,
        str(path),
        kernel_path,
        initrd_path,
        append,
        features,
        vmm_type=MONITORS[monitor],
    )
    return bytes(found)


def _ours(
    data: bytes, vcpus: int, cpu: int, boot: tuple[bytes, bytes, str] | None, features: int, monitor: Monitor
) -> bytes:
    made = Guest(
        firmware=firmware.parse(data),
        vcpus=vcpus,
        cpu=cpu,
        kernel=None if boot is None else kernel.hashes(*boot),
        features=features,
        monitor=monitor,
    )
    return launch.measure(made).value


def test_types() -> None:
    """Both know the same types of processors, by the same signatures."""
    assert vcpu.TYPES == CPU_SIGS


@pytest.mark.parametrize("monitor", Monitor)
@pytest.mark.parametrize("name", IMAGES)
def test_matrix(name: str, monitor: Monitor, tmp_path: Path) -> None:
    """For every firmware and monitor: processors by number and type, kernels, features."""
    data, path = IMAGES[name], tmp_path / "ovmf.fd"
    path.write_bytes(data)
    checks = "kernel" not in name and name != "no sections"
    for vcpus, kind, boot, features in itertools.product(
        (1, 2, 5),
        ("EPYC-v4", "EPYC-Milan", "EPYC-Genoa", "EPYC-Turin"),
        KERNELS if checks else [None],
        (1, 0x21),
    ):
        given = (vcpus, vcpu.TYPES[kind], boot, features, monitor)
        assert _ours(data, *given) == _theirs(path, *given), given


@pytest.mark.skipif(not DEBIAN, reason="no firmware here: apt-get install ovmf")
@pytest.mark.parametrize("path", DEBIAN, ids=lambda path: path.name)
def test_debians_firmware(path: Path) -> None:
    """A real firmware measures the same, for each monitor."""
    for monitor in Monitor:
        given = (4, vcpu.TYPES["EPYC-v4"], None, 1, monitor)
        assert _ours(path.read_bytes(), *given) == _theirs(path, *given)


@pytest.mark.parametrize("vcpus", [1, 2, 4])
def test_an_emulated_machine(tmp_path: Path, vcpus: int) -> None:
    """The digest of a machine that boots directly, of the firmware with our page of metadata."""
    bios = bytes(range(256)) * 1024
    boot = b"kernel" * 999, b"initrd" * 999, "console=ttyS0 kluis.root=00"
    path = tmp_path / "firmware"
    path.write_bytes(measured.firmware_of(bios))
    theirs = _theirs(path, vcpus, CPU_SIGS[measured.CPU], boot, 1, Monitor.QEMU)
    assert measured.measure(bios, *boot, vcpus) == theirs
