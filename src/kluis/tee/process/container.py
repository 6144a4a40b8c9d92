"""Detect whether this process runs in a container, and which runtime's flags would give it what is missing.

Only a hint for people: a container can hide these marks, and an enclave's level does not depend on them.

Spec: systemd, "Container Interface" (``/run/host/container-manager``); podman-run(1)
(``/run/.containerenv``); Kubernetes, "Service environment variables".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MANAGER: Final = Path("/run/host/container-manager")
MARKS: Final = (("podman", Path("/run/.containerenv")), ("docker", Path("/.dockerenv")))
KUBERNETES: Final = "KUBERNETES_SERVICE_HOST"
MOST_BYTES: Final = 64
CAPABILITIES: Final = ("IPC_LOCK", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE")
"""What a platform needs: locked memory, namespaces for enclaves, and the guardian's attachment."""


def manager() -> str | None:
    """The container's runtime, such as ``podman`` or ``kubernetes``; None outside containers."""
    if KUBERNETES in os.environ:
        return "kubernetes"
    for name, mark in MARKS:
        if mark.exists():
            return name
    try:
        with MANAGER.open(encoding="ascii", errors="replace") as file:
            name = file.read(MOST_BYTES).strip()
    except OSError:
        return None
    return name if name.replace("-", "").isalnum() else "unknown"


def fix(runtime: str) -> str:
    """The flags with which a runtime starts a container that can run enclaves."""
    if runtime == "kubernetes":
        names = ", ".join(CAPABILITIES)
        return f"securityContext.capabilities.add: [{names}], and a seccompProfile that allows memfd_secret"
    program = runtime if runtime in {"podman", "docker"} else "podman"
    capabilities = " ".join(f"--cap-add {name}" for name in CAPABILITIES)
    return f"{program} run {capabilities}, with a seccomp profile that allows memfd_secret"
