"""Sealing: opened by whom the policy names, and by nobody else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kluis.enclave import seal
from kluis.errors import RemoteError, UsageError
from kluis.host.proxy import EnclaveProxy
from kluis.testing.rehearsal import RehearsalPlatform

Launch = Callable[..., EnclaveProxy]
CANNOT = "AuthenticityError: sealed blob: cannot be opened by this enclave"


@pytest.fixture
def changed(subject: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """The subject with a line changed: another measurement."""

    def change(old: str, new: str) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(subject.parent, folder)
        text = (folder / "app.py").read_text()
        assert old in text
        (folder / "app.py").write_text(text.replace(old, new))
        return folder / "app.py"

    return change


@pytest.mark.parametrize("policy", ["measurement", "signer"])
def test_there_and_back(enclave: Launch, subject: Path, policy: str) -> None:
    """A later run of the same image opens what an earlier one sealed."""
    blob = enclave(subject).keep(b"secret", policy, b"context")
    assert b"secret" not in blob
    assert enclave(subject).take(blob, b"context") == b"secret"


def test_blobs_differ(enclave: Launch, subject: Path) -> None:
    """The same data never seals to the same bytes."""
    running = enclave(subject)
    assert running.keep(b"x", "signer", b"") != running.keep(b"x", "signer", b"")


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(RemoteError) as raised:
        call()
    return raised.value.message


def test_every_bit_counts(enclave: Launch, subject: Path) -> None:
    """With any bit changed, it does not open; nor with other associated data."""
    running = enclave(subject)
    blob = running.keep(b"x", "measurement", b"a")
    for offset in range(len(blob)):
        bad = bytearray(blob)
        bad[offset] ^= 1
        said = refused(lambda bad=bad: running.take(bytes(bad), b"a"))  # type: ignore[misc]
        assert said == CANNOT or said.startswith("FormatError: sealed blob")
    assert refused(lambda: running.take(blob, b"b")) == CANNOT
    assert running.take(blob, b"a") == b"x"


def test_every_cut(enclave: Launch, subject: Path) -> None:
    """Cut short anywhere, it is refused."""
    running = enclave(subject)
    blob = running.keep(b"x", "measurement", b"")
    for size in range(len(blob)):
        said = refused(lambda size=size: running.take(blob[:size], b""))  # type: ignore[misc]
        assert said == CANNOT or said.startswith("FormatError: sealed blob")


def test_another_image(enclave: Launch, subject: Path, changed: Callable[[str, str], Path]) -> None:
    """By measurement: only this image. By signer: another image of the signer, too."""
    first, other = enclave(subject), enclave(changed("SECRET = ", "MORE = 1\nSECRET = "))
    assert refused(lambda: other.take(first.keep(b"x", "measurement", b""), b"")) == CANNOT
    assert other.take(first.keep(b"x", "signer", b""), b"") == b"x"


def test_another_signer_or_product(
    enclave: Launch, subject: Path, changed: Callable[[str, str], Path]
) -> None:
    """By signer: not for another signer, nor for another product of the same."""
    blob = enclave(subject).keep(b"x", "signer", b"")
    assert refused(lambda: enclave(subject, signer=b"\1" * 32).take(blob, b"")) == CANNOT
    other = enclave(changed("product_id=7", "product_id=8"))
    assert refused(lambda: other.take(blob, b"")) == CANNOT


def test_forward_and_not_back(enclave: Launch, subject: Path, changed: Callable[[str, str], Path]) -> None:
    """By signer: a later version opens what an earlier one sealed, and not the other way round."""
    now, later = enclave(subject), enclave(changed("svn=3", "svn=4"))
    assert later.take(now.keep(b"x", "signer", b""), b"") == b"x"
    assert refused(lambda: now.take(later.keep(b"x", "signer", b""), b"")) == CANNOT


def test_another_platform(enclave: Launch, subject: Path, other_platform: RehearsalPlatform) -> None:
    """What one machine sealed, another does not open."""
    blob = enclave(subject).keep(b"x", "signer", b"")
    assert refused(lambda: enclave(subject, on=other_platform).take(blob, b"")) == CANNOT


def test_unknown_policy(enclave: Launch, subject: Path) -> None:
    """There are two policies."""
    said = refused(lambda: enclave(subject).keep(b"x", "anyone", b""))
    assert said == "UsageError: seal policy: want measurement or signer, got anyone"


def test_outside() -> None:
    """Outside an enclave there is no sealing key, and the error states that."""
    with pytest.raises(UsageError, match=r"^seal: works only inside an enclave(?m:$)"):
        seal(b"x")
