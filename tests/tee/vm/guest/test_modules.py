"""The list of modules names each with what it needs, and the devices that it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee.vm.guest import modules
from tests.tee.vm.guest import made


def test_the_list_has_patterns_and_dependencies_first(tmp_path: Path) -> None:
    """A module that is always wanted has the pattern ``*``, another one the names of its devices."""
    made.module(tmp_path, "dm_mod")
    made.module(tmp_path, "dm_bufio", depends="dm-mod")
    made.module(tmp_path, "dm_verity", depends="dm-bufio,dm-mod", aliases=("dm-verity",))
    made.module(tmp_path, "virtio_blk", aliases=("virtio:d00000002v*", "with space"))
    found = {
        file.path: file
        for file in modules.files(modules.Modules(tmp_path), "m", ["dm_verity"], ["virtio_blk"])
    }
    assert found["m/list"].read() == (
        b"* dm_mod.ko dm_bufio.ko dm_verity.ko\nvirtio:d00000002v* virtio_blk.ko\n"
    )
    assert sorted(found) == ["m/dm_bufio.ko", "m/dm_mod.ko", "m/dm_verity.ko", "m/list", "m/virtio_blk.ko"]
    assert found["m/virtio_blk.ko"].read().startswith(b"\x7fELF")


def test_modules_that_need_each_other_end(tmp_path: Path) -> None:
    """A circle, which no kernel has, does not hang the build."""
    made.module(tmp_path, "one", depends="two")
    made.module(tmp_path, "two", depends="one")
    found = modules.Modules(tmp_path).with_dependencies("one")
    assert [module.name for module in found] == ["two", "one"]


def test_a_kernel_without_a_module_is_named(tmp_path: Path) -> None:
    """The error states the module, and the line that installs it."""
    made.module(tmp_path, "dm_verity", depends="dm-mod")
    with pytest.raises(UnavailableError) as refused:
        modules.files(modules.Modules(tmp_path), "m", ["dm_verity"], [])
    assert refused.value.message == f"{tmp_path}: want the module dm_mod, got none: the guest needs it"
    assert refused.value.hint == "apt-get install --reinstall linux-image-cloud-amd64"
    assert (refused.value.code, refused.value.exit_code) == ("guest_packages", 7)


@pytest.mark.parametrize("data", [b"", b"not compressed", b"\xfd7zXZ\0"])
def test_a_damaged_module_is_named(tmp_path: Path, data: bytes) -> None:
    """A file that does not decompress is an error with its path."""
    path = tmp_path / "kernel/erofs.ko.xz"
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(UnavailableError, match=r"erofs\.ko\.xz: cannot be read"):
        modules.Modules(tmp_path).get("erofs")
