"""Check what this machine leaves accessible to root and to everyone: the limits of isolation in software.

None of these is attested: a host that falsifies them can falsify its kernel too. They are advice to its
owner.

Spec: Documentation/admin-guide/sysctl/kernel.rst; Documentation/admin-guide/LSM/Yama.rst; kernel_lockdown(7).
"""

from __future__ import annotations

from pathlib import Path

from kluis.tee.doctor.finding import Finding, Part, State, setting

KERNEL = "/proc/sys/kernel"
LSM = "/sys/kernel/security/lsm"
"""The kernel's security modules, in the order of the boot parameter; ``capability`` is always the first."""


def probe() -> list[Finding]:
    """Read each setting and judge it."""
    return [perf(), bpf(), lockdown(), yama(), modules(), kexec(), core(), swap()]


def perf() -> Finding:
    """Who may sample other processes' stacks and registers; root always may, unless in lockdown."""
    level = setting(f"{KERNEL}/perf_event_paranoid")
    if level is None:
        return _closed_finding("perf_event_paranoid", "the kernel has no perf events")
    if int(level) >= 3:
        return _closed_finding("perf_event_paranoid", f"{level}: only root")
    return _open(
        "perf_event_paranoid", f"{level}: want 3 or more", _sysctl("kernel.perf_event_paranoid", "3")
    )


def bpf() -> Finding:
    """Who may load eBPF programs; root always may, unless lockdown=confidentiality."""
    off = setting(f"{KERNEL}/unprivileged_bpf_disabled")
    if off is None:
        return _closed_finding("unprivileged BPF", "the kernel has no bpf for ordinary users")
    if off != "0":
        return _closed_finding("unprivileged BPF", f"off ({off})")
    return _open("unprivileged BPF", "on", _sysctl("kernel.unprivileged_bpf_disabled", "1"))


def lockdown() -> Finding:
    """Whether the kernel restricts root: kprobes, reads by uprobes, /dev/mem, unsigned modules."""
    mode = setting("/sys/kernel/security/lockdown")
    fix = _lsm("lockdown") + " lockdown=confidentiality"
    if mode is None:
        return _open("lockdown", "the kernel has none, or securityfs is not mounted", fix)
    chosen = mode.partition("[")[2].partition("]")[0]
    if chosen == "confidentiality":
        return _closed_finding("lockdown", chosen)
    return _open("lockdown", f"{chosen or mode}: want confidentiality", fix)


def yama() -> Finding:
    """Who may trace other processes; 3 would refuse the guardian too."""
    scope = setting(f"{KERNEL}/yama/ptrace_scope")
    if scope is None:
        return _open(
            "Yama",
            "the kernel does not have it: only the guardian keeps debuggers out",
            _lsm("yama"),
        )
    if scope == "3":
        return Finding(
            part=Part.OPEN,
            name="Yama",
            state=State.MISSING,
            seen="3: nobody may trace, the guardian neither",
            fix="boot with kernel.yama.ptrace_scope=1 (3 cannot be lowered while running)",
        )
    if scope == "0":
        return _open(
            "Yama",
            "0: any process of a user may trace that user's others",
            _sysctl("kernel.yama.ptrace_scope", "1"),
        )
    return _closed_finding("Yama", f"ptrace_scope {scope}")


def modules() -> Finding:
    """Whether root can still add code to the kernel."""
    if not Path("/proc/modules").exists() or setting(f"{KERNEL}/modules_disabled") == "1":
        return _closed_finding("kernel modules", "none can be loaded")
    return _open(
        "kernel modules",
        "root can load them",
        _sysctl("kernel.modules_disabled", "1") + " once all are loaded",
    )


def kexec() -> Finding:
    """Whether root can start another kernel, which can read this one's memory."""
    off = setting(f"{KERNEL}/kexec_load_disabled")
    if off is None or off == "1":
        return _closed_finding("kexec", "off")
    return _open("kexec", "root can start another kernel", _sysctl("kernel.kexec_load_disabled", "1"))


def core() -> Finding:
    """Where core dumps go; an enclave produces none, and its secret memory is in none."""
    pattern = setting(f"{KERNEL}/core_pattern") or ""
    where = "piped to a program" if pattern.startswith("|") else f"written as {pattern!r}"
    return _closed_finding("core dumps", f"{where}; enclaves make none")


def swap() -> Finding:
    """Whether memory that is not secret can reach a disk."""
    areas = (setting("/proc/swaps") or "").splitlines()[1:]
    if not areas:
        return _closed_finding("swap", "off")
    return _open(
        "swap",
        f"{len(areas)} in use: secret memory never goes there, other memory may",
        "sudo swapoff -a, or encrypted swap",
    )


def _lsm(name: str) -> str:
    """The boot parameter that adds a security module to those of now: a list that omits one turns it off."""
    running = setting(LSM)
    if not running:
        return f"boot with {name} in front of the others in lsm="
    others = [module for module in running.split(",") if module not in ("capability", name)]
    return f"boot with lsm={','.join([name, *others])}"


def _sysctl(name: str, value: str) -> str:
    return f"sudo sysctl -w {name}={value} (to keep it: a file in /etc/sysctl.d)"


def _closed_finding(name: str, seen: str) -> Finding:
    return Finding(part=Part.OPEN, name=name, state=State.OK, seen=seen)


def _open(name: str, seen: str, fix: str) -> Finding:
    return Finding(part=Part.OPEN, name=name, state=State.OPEN, seen=seen, fix=fix)
