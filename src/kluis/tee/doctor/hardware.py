"""Detect TEEs and security chips from device nodes and processor flags, and the drivers that can use them.

Spec: Documentation/arch/x86/{sgx,tdx,amd-memory-encryption}.rst; ABI/testing/configfs-tsm-report.
"""

from __future__ import annotations

from pathlib import Path

from kluis.tee.doctor.finding import Finding, Part, State, flags, setting
from kluis.tee.drivers import Driver
from kluis.tee.drivers.registry import all_drivers

YES = ("1", "Y")


def probe() -> list[Finding]:
    """Detect each TEE and a TPM, and the drivers that can use them."""
    return [
        _device(
            "SGX", ("/dev/sgx_enclave",), cpu="sgx", driver="the processor has SGX: enable it in the firmware"
        ),
        _device("TDX guest", ("/dev/tdx_guest",)),
        _device("SEV-SNP guest", ("/dev/sev-guest",)),
        _parameter("TDX host", "/sys/module/kvm_intel/parameters/tdx"),
        _parameter("SEV-SNP host", "/sys/module/kvm_amd/parameters/sev_snp"),
        _device("Nitro enclave", ("/dev/nsm",)),
        _device("Nitro parent", ("/dev/nitro_enclaves",)),
        tpm(),
        *drivers(all_drivers()),
    ]


def tpm() -> Finding:
    """Detect a TPM and its version."""
    for path in ("/dev/tpmrm0", "/dev/tpm0"):
        if Path(path).exists():
            major = setting("/sys/class/tpm/tpm0/tpm_version_major") or "of unknown version"
            return Finding(part=Part.HARDWARE, name="TPM", state=State.OK, seen=f"{path}, TPM {major}")
    return Finding(
        part=Part.HARDWARE,
        name="TPM",
        state=State.ABSENT,
        seen="no /dev/tpmrm0: the platform secret is a file, counters have no witness",
    )


def drivers(known: tuple[Driver, ...]) -> list[Finding]:
    """One finding for each driver that is available on this machine, in the order of detection.

    Args:
        known: to try; each opens its device, and leaves nothing behind.
    """
    findings = [
        Finding(
            part=Part.HARDWARE,
            name=f"driver {driver.name}",
            state=State.OK,
            seen=f"endorses a platform's root, as {driver.kind()}",
        )
        for driver in known
        if driver.available() is None
    ]
    none = Finding(
        part=Part.HARDWARE,
        name="driver",
        state=State.ABSENT,
        seen=f"none of {', '.join(driver.name for driver in known)} is available: no TEE endorses a platform",
    )
    return findings or [none]


def _device(name: str, paths: tuple[str, ...], cpu: str | None = None, driver: str | None = None) -> Finding:
    for path in paths:
        if Path(path).exists():
            return Finding(part=Part.HARDWARE, name=name, state=State.OK, seen=path)
    if cpu is not None and cpu in flags():
        return Finding(part=Part.HARDWARE, name=name, state=State.PARTIAL, seen=f"no {paths[0]}", fix=driver)
    return Finding(part=Part.HARDWARE, name=name, state=State.ABSENT, seen=f"no {paths[0]}")


def _parameter(name: str, path: str) -> Finding:
    value = setting(path)
    if value in YES:
        return Finding(part=Part.HARDWARE, name=name, state=State.OK, seen=f"{path} = {value}")
    return Finding(
        part=Part.HARDWARE,
        name=name,
        state=State.ABSENT,
        seen=f"no {path}" if value is None else f"{path} = {value}",
    )
