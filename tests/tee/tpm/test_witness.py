"""A platform's file of counters under a TPM: a restored older file is seen at the next start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.nv import NvAttribute, NvPublic
from kluis.tee.platform.root.counters import Counters
from kluis.tee.platform.root.slots import Slots
from kluis.tee.tpm import witness as nv
from kluis.tee.tpm.witness import Witness
from tests.tee.tpm.test_tpm import fill
from tests.tee.tpm.tpms import Software

SECRET = b"s" * 32
ID = bytes(32)
LOST = "an older state was restored"


class Lost(Exception):
    """The power is gone."""


class Failing(Witness):
    """A witness whose machine loses its power after so many of its TPM's writes."""

    def __init__(self, *given: object, after: int) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self._left = after

    def _write(self, digest: bytes, ahead: int = 0) -> None:
        self._count_down()
        super()._write(digest, ahead)

    def _advance(self) -> None:
        self._count_down()
        super()._advance()

    def _count_down(self) -> None:
        if not self._left:
            raise Lost
        self._left -= 1


@contextmanager
def opened(software: Software, path: Path) -> Iterator[Counters]:
    """A platform's start: the counters, with their witness."""
    with software.tpm() as tpm:
        yield Counters(path, Witness(tpm, SECRET))


@pytest.fixture
def path(software: Software, tmp_path: Path) -> Path:
    """A file of counters whose witness is established."""
    path = tmp_path / "counters"
    with software.tpm() as tpm:
        Witness(tpm, SECRET).establish(Slots(path).digest())
    return path


def test_witnessed(software: Software, path: Path) -> None:
    """Values are labelled, go up, and are there after a reset."""
    with opened(software, path) as counters:
        assert counters.read("one", ID) == (0, "witnessed", b"")
        assert counters.increment("one", ID) == (1, "witnessed", b"")
        assert counters.advance("two", ID, 7, b"m") == (7, "witnessed", b"m")
    software.restart()
    with opened(software, path) as counters:
        assert counters.read("one", ID) == (1, "witnessed", b"")
        assert counters.read("two", ID) == (7, "witnessed", b"m")


@pytest.mark.parametrize("later", [1, 2, 5])
def test_older_file(software: Software, path: Path, later: int) -> None:
    """A file that is one change older, or more, is refused; the newest one is accepted again."""
    with opened(software, path) as counters:
        counters.increment("one", ID)
        old = path.read_bytes()
        for _ in range(later):
            counters.increment("one", ID)
    new = path.read_bytes()

    path.write_bytes(old)
    with pytest.raises(UnavailableError, match=LOST) as refused, opened(software, path):
        pass
    assert refused.value.code == "rolled_back"
    assert refused.value.exit_code == 7
    path.write_bytes(new)
    with opened(software, path) as counters:
        assert counters.read("one", ID)[0] == 1 + later


def test_empty_file(software: Software, path: Path) -> None:
    """Without the file, all counters would be 0 again: refused."""
    with opened(software, path) as counters:
        counters.increment("one", ID)
    path.unlink()
    with pytest.raises(UnavailableError, match=LOST), opened(software, path):
        pass


def test_one_record_of_an_older_file(software: Software, path: Path) -> None:
    """The newest file with a single record of an older one is refused."""
    with opened(software, path) as counters:
        counters.increment("one", ID)
        counters.increment("two", ID)
        old = path.read_bytes()
        counters.increment("one", ID)
        counters.increment("two", ID)
    new = path.read_bytes()
    changed = [at for at in range(0, len(new), 1024) if new[at : at + 1024] != old[at : at + 1024]]
    assert len(changed) == 2
    for at in changed:
        path.write_bytes(new[:at] + old[at : at + 1024] + new[at + 1024 :])
        with pytest.raises(UnavailableError, match=LOST), opened(software, path):
            pass


@pytest.mark.parametrize("after", [0, 1])
def test_power_lost(software: Software, path: Path, after: int) -> None:
    """Between file, digest and counter the power is lost: the next start completes the change."""
    with opened(software, path) as counters:
        counters.increment("one", ID)
    with software.tpm() as tpm:
        counters = Counters(path, Failing(tpm, SECRET, after=after))
        with pytest.raises(Lost):
            counters.increment("one", ID)
        with pytest.raises(Lost):  # no value is reported that was not recorded
            counters.read("one", ID)
        with pytest.raises(Lost):
            counters.increment("two", ID)
    for _ in range(2):
        with opened(software, path) as counters:
            assert counters.read("one", ID)[0] == 2
    with opened(software, path) as counters:
        assert counters.increment("one", ID)[0] == 3


def test_of_two_unreported_changes_one(software: Software, path: Path) -> None:
    """Two files differ in a change that was never reported: once one goes on, the other is refused."""
    with opened(software, path) as counters:
        counters.increment("one", ID)
    before = path.read_bytes()
    with software.tpm() as tpm:
        counters = Counters(path, Failing(tpm, SECRET, after=0))
        with pytest.raises(Lost):
            counters.increment("one", ID)
    unreported = path.read_bytes()

    path.write_bytes(before)
    with opened(software, path) as counters:
        assert counters.increment("two", ID)[0] == 1
    path.write_bytes(unreported)
    with pytest.raises(UnavailableError, match=LOST), opened(software, path):
        pass


@pytest.mark.parametrize("index", [nv.DIGEST_INDEX, nv.COUNTER_INDEX])
def test_removed_index(software: Software, path: Path, index: int) -> None:
    """The owner of the TPM removed an index, or defined it again: the start fails, nothing goes back."""
    with opened(software, path) as counters:
        counters.increment("one", ID)
    with software.tpm() as tpm:
        area = tpm.nv_public(index)
        tpm.nv_undefine(index)
    with (
        pytest.raises(UnavailableError, match="is gone, or not this platform's") as refused,
        opened(software, path),
    ):
        pass
    assert refused.value.code == "rolled_back"
    with software.tpm() as tpm:
        new = NvPublic(
            index=index, name_hash=HashId.SHA256, attributes=area.attributes & ~NvAttribute.WRITTEN,
            policy=b"", size=area.size,
        )  # fmt: skip
        tpm.nv_define(new, b"another")
        if index == nv.COUNTER_INDEX:
            tpm.nv_increment(index, secret=b"another")
        else:
            tpm.nv_write(index, bytes(40), secret=b"another")
    with pytest.raises(UnavailableError, match="is gone, or not this platform's"), opened(software, path):
        pass


def test_counter_of_the_tpm_goes_on(software: Software, path: Path) -> None:
    """Even someone who knows the secret cannot set the counter back by defining it again."""
    with opened(software, path) as counters:
        old = path.read_bytes()
        for _ in range(3):
            counters.increment("one", ID)
    with software.tpm() as tpm:
        area = tpm.nv_public(nv.COUNTER_INDEX)
        highest = int.from_bytes(tpm.nv_read(nv.COUNTER_INDEX, 8, secret=SECRET), "big")
        tpm.nv_undefine(nv.COUNTER_INDEX)
        tpm.nv_define(NvPublic(
            index=area.index, name_hash=area.name_hash, attributes=area.attributes & ~NvAttribute.WRITTEN,
            policy=b"", size=8,
        ), SECRET)  # fmt: skip
        tpm.nv_increment(nv.COUNTER_INDEX, secret=SECRET)
        assert int.from_bytes(tpm.nv_read(nv.COUNTER_INDEX, 8, secret=SECRET), "big") > highest
    path.write_bytes(old)
    with pytest.raises(UnavailableError, match=LOST), opened(software, path):
        pass


def test_somebody_elses_index(software: Software, tmp_path: Path) -> None:
    """An index that exists is not taken; the error names it and how it is removed."""
    for index in (nv.DIGEST_INDEX, nv.COUNTER_INDEX):
        with software.tpm() as tpm:
            access = NvAttribute.AUTH_READ | NvAttribute.AUTH_WRITE
            tpm.nv_define(
                NvPublic(index=index, name_hash=HashId.SHA256, attributes=access, policy=b"", size=8)
            )
            with pytest.raises(UnavailableError, match=f"NV index {index:#x} is in use") as refused:
                Witness(tpm, SECRET).establish(bytes(32))
            assert refused.value.code == "tpm_defined"
            assert f"tpm2_nvundefine {index:#x}" in str(refused.value.hint)
            tpm.nv_undefine(index)
            assert tpm.handles(0x01000000) == ()


def test_nv_full(software: Software) -> None:
    """Without space for both indices, neither is left: a TPM keeps space for counters."""
    with software.tpm() as tpm:
        for size in (2048, 64, 40, 16):
            with pytest.raises(UnavailableError, match="has no NV space left"):
                fill(tpm, 0x01900000 + size * 1024, size)
        before = tpm.handles(nv.DIGEST_INDEX)
        with pytest.raises(UnavailableError, match="has no NV space left"):
            Witness(tpm, SECRET).establish(bytes(32))
        assert tpm.handles(nv.DIGEST_INDEX) == before


def test_secret_is_not_printed(software: Software) -> None:
    """Neither the witness nor the authorization shows its value."""
    from kluis.formats.tpm.command import Authorization

    with software.tpm() as tpm:
        assert repr(Witness(tpm, SECRET)) == "<witness>"
    assert "ssss" not in repr(Authorization(secret=SECRET))
