"""Report whether this is a container, which of the kernel's protections it leaves, and the level inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kluis.tee.doctor.finding import Finding, Part, State, is_root
from kluis.tee.process import container

# A container's runtime can take away each of these, by its seccomp profile, capabilities or limits.
NEEDED: Final = ("memfd_secret", "RLIMIT_MEMLOCK", "user namespaces", "Landlock", "seccomp", "bubblewrap")


def probe(findings: Sequence[Finding]) -> Finding:
    """Judge the container by the other findings, each of which was tried in it.

    Args:
        findings: of process enclaves.
    """
    runtime = container.manager()
    if runtime is None:
        return Finding(part=Part.PROCESS, name="container", state=State.OK, seen="not in a container")
    states = {finding.name: finding.state for finding in findings}
    missing = [name for name in NEEDED if states.get(name) is State.MISSING]
    if missing:
        return Finding(
            part=Part.PROCESS,
            name="container",
            state=State.MISSING,
            seen=f"{runtime}: without {', '.join(missing)}: no enclave starts that requires it",
            fix=container.fix(runtime),
        )
    level = "process" if is_root() else "process-user"
    seen = f"{runtime}: {', '.join(NEEDED)} work in it; enclaves have level {level} at most"
    return Finding(part=Part.PROCESS, name="container", state=State.OK, seen=seen)
