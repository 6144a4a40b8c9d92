"""Check the programs that isolation uses: our own two, bubblewrap, and a virtual machine's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from kluis.errors import AuthenticityError, UnavailableError
from kluis.tee.doctor.finding import Finding, Part, State
from kluis.tee.image.build import interpreter
from kluis.tee.process import native

OVMF = (Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd"))
TRY_SECONDS = 60


def probe() -> list[Finding]:
    """Find each program; run the ones that process enclaves need."""
    return [
        find_runtime(),
        bubblewrap(),
        _version("QEMU", "qemu-system-x86_64", "apt-get install qemu-system-x86"),
        _version("swtpm", "swtpm", "apt-get install swtpm"),
        firmware(),
        _version("erofs-utils", "mkfs.erofs", "apt-get install erofs-utils"),
    ]


def find_runtime() -> Finding:
    """Find the runtime: CPython for images, launcher and guardian."""
    try:
        native.guardian()
        native.program()
        interpreter.base()
    except (UnavailableError, AuthenticityError) as lack:
        return Finding(
            part=Part.PROCESS, name="runtime", state=State.MISSING, seen=lack.message, fix=lack.hint
        )
    runtime = native.runtime()
    seen = f"CPython {runtime.python}, base layer {runtime.digest[:16]}"
    return Finding(part=Part.PROCESS, name="runtime", state=State.OK, seen=seen)


def bubblewrap() -> Finding:
    """Run a program in fresh namespaces."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return Finding(
            part=Part.PROCESS,
            name="bubblewrap",
            state=State.MISSING,
            seen="not installed",
            fix="apt-get install bubblewrap",
        )
    command = [bwrap, "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", "true"]
    tried = subprocess.run(command, capture_output=True, text=True, timeout=TRY_SECONDS, check=False)
    if tried.returncode:
        return Finding(
            part=Part.PROCESS,
            name="bubblewrap",
            state=State.MISSING,
            seen=tried.stderr.strip(),
            fix="see user namespaces",
        )
    seen = f"{_first_number(bwrap)}; ran a program in fresh namespaces"
    return Finding(part=Part.PROCESS, name="bubblewrap", state=State.OK, seen=seen)


def firmware() -> Finding:
    """Find the firmware for virtual machines that boot by UEFI."""
    lacking = [path.name for path in OVMF if not os.access(path, os.R_OK)]
    if lacking:
        seen = f"not installed: {', '.join(lacking)}"
        return Finding(part=Part.VM, name="OVMF", state=State.ABSENT, seen=seen, fix="apt-get install ovmf")
    return Finding(part=Part.VM, name="OVMF", state=State.OK, seen=str(OVMF[0]))


def _version(name: str, program: str, fix: str) -> Finding:
    if shutil.which(program) is None:
        return Finding(part=Part.VM, name=name, state=State.ABSENT, seen="not installed", fix=fix)
    return Finding(part=Part.VM, name=name, state=State.OK, seen=_first_number(program))


def _first_number(program: str) -> str:
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=TRY_SECONDS, check=False
    )
    number = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    return number.group() if number else "of an unknown version"
