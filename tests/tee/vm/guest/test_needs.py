"""A build takes named packages from this machine; what is missing is named with the line that installs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee.vm.guest import needs


def _kernel(root: Path, release: str, modules: str = "usr/lib/modules") -> None:
    (root / "boot").mkdir(parents=True, exist_ok=True)
    (root / "boot" / f"vmlinuz-{release}").write_bytes(b"MZ")
    (root / modules / release / "kernel").mkdir(parents=True)


def test_the_newest_kernel_is_taken(tmp_path: Path) -> None:
    """Versions are compared as numbers; kernels for other machines, or without modules, do not count."""
    for release in ("6.9.7+deb13-cloud-amd64", "6.12.7+deb13-cloud-amd64", "6.99.1+deb13-amd64"):
        _kernel(tmp_path, release)
    (tmp_path / "boot/vmlinuz-6.98.1-cloud-amd64").write_bytes(b"MZ")
    found = needs.newest(tmp_path)
    assert found == needs.Kernel(
        "6.12.7+deb13-cloud-amd64",
        tmp_path / "boot/vmlinuz-6.12.7+deb13-cloud-amd64",
        tmp_path / "usr/lib/modules/6.12.7+deb13-cloud-amd64",
    )


def test_modules_of_an_older_package_are_found(tmp_path: Path) -> None:
    """Before Debian merged /usr, a package had its modules in /lib."""
    _kernel(tmp_path, "6.12.7-cloud-amd64", "lib/modules")
    found = needs.newest(tmp_path)
    assert found is not None
    assert found.modules == tmp_path / "lib/modules/6.12.7-cloud-amd64"


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error has one line that installs all of it, and a command ends with 7."""
    monkeypatch.setattr(needs, "PROGRAMS", {**needs.PROGRAMS, "no-such-program": "some-package"})
    monkeypatch.setattr(needs, "FILES", {tmp_path / "stub": "systemd-boot-efi"})
    with pytest.raises(UnavailableError) as refused:
        needs.find(tmp_path)
    assert refused.value.hint is not None
    assert refused.value.hint.endswith("some-package systemd-boot-efi linux-image-cloud-amd64")
    assert refused.value.hint.startswith("apt-get install ")
    assert (refused.value.code, refused.value.exit_code) == ("guest_packages", 7)


def test_a_tool_that_fails_is_quoted() -> None:
    """The error has the tool's last words."""
    with pytest.raises(UnavailableError) as refused:
        needs.run(["/bin/sh", "-c", "echo no room >&2; exit 3"], "mkfs.erofs")
    assert refused.value.message == "mkfs.erofs: ended with status 3: no room"
    assert refused.value.code == "guest_tool"


def test_a_tool_does_not_get_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller has in its environment does not change what is built."""
    monkeypatch.setenv("KLUIS_SAID", "x")
    assert needs.run(["/usr/bin/env"], "env", {"A": "b"}).splitlines() == [
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL=C.UTF-8",
        "A=b",
    ]
