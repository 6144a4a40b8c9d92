"""The doctor's row about containers, and the hint of a launch that is refused in one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee.doctor import containers
from kluis.tee.doctor.finding import Finding, Part, State
from kluis.tee.process import container, linux


def findings(missing: str = "") -> list[Finding]:
    """Those of a machine that has everything but one."""
    return [
        Finding(
            part=Part.PROCESS, name=name, state=State.MISSING if name == missing else State.OK, seen="tried"
        )
        for name in containers.NEEDED
    ]


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in which a test puts the marks of containers."""
    monkeypatch.delenv(container.KUBERNETES, raising=False)
    monkeypatch.setattr(
        container, "MARKS", (("podman", tmp_path / "podman"), ("docker", tmp_path / "docker"))
    )
    monkeypatch.setattr(container, "MANAGER", tmp_path / "manager")
    return tmp_path


def test_no_container(marks: Path) -> None:
    """Outside there is nothing to fix."""
    found = containers.probe(findings("memfd_secret"))
    assert (found.state, found.seen, found.fix) == (State.OK, "not in a container", None)


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_a_container_that_leaves_everything(marks: Path, name: str) -> None:
    """It is named, with the level that enclaves have at most."""
    (marks / name).touch()
    found = containers.probe(findings())
    level = "process" if os.geteuid() == 0 else "process-user"
    assert found.state is State.OK
    assert found.seen == (
        f"{name}: memfd_secret, RLIMIT_MEMLOCK, user namespaces, Landlock, seccomp, bubblewrap work in it;"
        f" enclaves have level {level} at most"
    )


def test_a_container_without_secret_memory(marks: Path) -> None:
    """The row names what is missing, and the flags that give it."""
    (marks / "podman").touch()
    found = containers.probe(findings("memfd_secret"))
    assert found.state is State.MISSING
    assert found.seen == "podman: without memfd_secret: no enclave starts that requires it"
    assert found.fix == (
        "podman run --cap-add IPC_LOCK --cap-add NET_ADMIN --cap-add SYS_ADMIN --cap-add SYS_PTRACE,"
        " with a seccomp profile that allows memfd_secret"
    )


def test_a_launch_without_secret_memory() -> None:
    """A launch that is refused leads to the doctor's row: the platform itself does not see a container."""
    with pytest.raises(UnavailableError) as caught:
        linux.check_missing(frozenset({"secret-memory"}), frozenset())
    assert caught.value.code == "missing_protection"
    assert "in a container, the flags that kluis doctor prints there" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("systemd-nspawn\n", "systemd-nspawn"),
        ("a\x1b[31mb", "unknown"),
        ("", "unknown"),
        ("x" * 900, "x" * 64),
    ],
)
def test_the_name_of_another_manager(marks: Path, text: str, want: str) -> None:
    """It is read within bounds, and printed only if it is a plain word."""
    (marks / "manager").write_text(text)
    assert container.manager() == want


def test_a_pod(marks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod's fix is part of its security context."""
    monkeypatch.setenv(container.KUBERNETES, "10.0.0.1")
    assert container.manager() == "kubernetes"
    assert "securityContext.capabilities.add: [IPC_LOCK, NET_ADMIN, SYS_ADMIN, SYS_PTRACE]" in container.fix(
        "kubernetes"
    )
