"""The hash tree is dm-verity's: veritysetup agrees, and every block counts."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from kluis.errors import FormatError
from kluis.tee.vm.guest import verity

BLOCKS = [1, 2, 128, 129, 128 * 128 + 1]


def _data(blocks: int) -> bytes:
    return random.Random(blocks).randbytes(4096) * (blocks - 1) + bytes(4096)


@pytest.mark.skipif(shutil.which("veritysetup", path="/usr/sbin:/sbin") is None, reason="no veritysetup")
@pytest.mark.parametrize("blocks", BLOCKS)
def test_veritysetup_makes_the_same_tree(tmp_path: Path, blocks: int) -> None:
    """Root hash and tree are veritysetup's, without a salt and a superblock, for one to three levels."""
    image, tree = tmp_path / "image", tmp_path / "tree"
    image.write_bytes(_data(blocks))
    line = ["/usr/sbin/veritysetup", "format", "--no-superblock", "--salt=-", str(image), str(tree)]
    said = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    want = next(row.split()[-1] for row in said.splitlines() if row.startswith("Root hash"))

    found = verity.append(image)

    assert found.root_hash.hex() == want
    assert found.blocks == blocks
    assert tree.read_bytes()[: len(found.levels)] == found.levels
    assert image.read_bytes() == _data(blocks) + found.levels


def test_one_block_has_no_tree() -> None:
    """The hash of a single block is the root hash."""
    found = verity.tree(io.BytesIO(bytes(4096)))
    assert found == verity.Tree(hashlib.sha256(bytes(4096)).digest(), 1, b"")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "root file system: want at least 1 block of 4096 bytes, got 0"),
        (4097, "root file system: want whole blocks of 4096 bytes, got 1 at the end"),
    ],
)
def test_other_sizes_are_refused(size: int, message: str) -> None:
    """A file that is empty, or does not end with a block, has no tree."""
    with pytest.raises(FormatError) as refused:
        verity.tree(io.BytesIO(bytes(size)))
    assert refused.value.message == message


def test_each_block_counts(tmp_path: Path) -> None:
    """A changed bit of the data or of the tree is found."""
    image = tmp_path / "image"
    image.write_bytes(_data(129))
    found = verity.append(image)
    whole = image.read_bytes()
    assert verity.check(io.BytesIO(whole), found.root_hash, 129)
    for at in (0, 4096 * 128 + 5, 4096 * 129, len(whole) - 1):
        changed = bytearray(whole)
        changed[at] ^= 1
        assert not verity.check(io.BytesIO(changed), found.root_hash, 129)
    assert not verity.check(io.BytesIO(whole), bytes(32), 129)
    assert not verity.check(io.BytesIO(whole), found.root_hash, 130)
    assert not verity.check(io.BytesIO(whole[:-1]), found.root_hash, 129)
    assert not verity.check(io.BytesIO(b""), found.root_hash, 129)
