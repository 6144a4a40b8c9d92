"""A secret sealed to a TPM unseals on this machine and for this boot only; copies unseal nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.formats.tpm.sealed import SealedSecret
from kluis.tee.tpm import sealing
from tests.tee.tpm import tpms
from tests.tee.tpm.tpms import Software

SECRET = bytes(range(32))
KERNEL = b"\4" * 32


def test_unseals_after_the_same_boot(software: Software) -> None:
    """The file unseals after a reset and the same measurements; it does not contain the secret."""
    with software.tpm() as tpm:
        tpm.extend(11, KERNEL)
        stored = sealing.seal(tpm, SECRET, sealing.current(tpm)).encode()
    assert SECRET not in stored
    assert SECRET.hex().encode() not in stored

    software.restart()
    with software.tpm() as tpm:
        with pytest.raises(UnavailableError, match="not one that it was sealed for: PCR 11: want") as refused:
            sealing.unseal(tpm, SealedSecret.parse(stored))
        assert refused.value.code == "tpm_policy"
        assert refused.value.exit_code == 7
        tpm.extend(11, KERNEL)
        assert sealing.unseal(tpm, SealedSecret.parse(stored)) == SECRET


@pytest.mark.parametrize("index", sealing.PCRS)
def test_each_pcr_counts(software: Software, index: int) -> None:
    """With another value in any of the PCRs the TPM itself refuses, whatever the file states."""
    with software.tpm() as tpm:
        held = sealing.seal(tpm, SECRET, sealing.current(tpm)).objects[0]
        tpm.extend(index, KERNEL)
        lying = SealedSecret((type(held)(sealing.current(tpm), held.public, held.private),))
        with pytest.raises(UnavailableError, match="has other PCR values than the policy names") as refused:
            sealing.unseal(tpm, lying)
    assert refused.value.code == "tpm_policy"


def test_announced_upgrade(software: Software) -> None:
    """Sealed for the current system and the next one: each unseals it, and no third one."""
    with software.tpm() as tpm:
        now = sealing.current(tpm)
        tpm.extend(11, KERNEL)
        after = sealing.current(tpm)
    software.restart()
    with software.tpm() as tpm:
        stored = sealing.seal(tpm, SECRET, now, after)
        assert sealing.unseal(tpm, stored) == SECRET
        tpm.extend(11, KERNEL)
        assert sealing.unseal(tpm, stored) == SECRET
        tpm.extend(11, KERNEL)
        with pytest.raises(UnavailableError, match="not one that it was sealed for"):
            sealing.unseal(tpm, stored)


def test_another_machine(software: Software, tmp_path: Path) -> None:
    """On another TPM, with the same PCRs, the file unseals nothing."""
    with software.tpm() as tpm:
        stored = sealing.seal(tpm, SECRET, sealing.current(tpm))
    with (
        tpms.running(tmp_path / "other") as other,
        other.tpm() as tpm,
        pytest.raises(UnavailableError, match="did not make this object") as refused,
    ):
        sealing.unseal(tpm, stored)
    assert refused.value.code == "tpm_integrity"


def test_password_unseals_nothing(software: Software) -> None:
    """The object has no password: without a session of the policy the TPM refuses."""
    from kluis.formats.tpm.command import PASSWORD
    from kluis.tee.tpm import keys

    with software.tpm() as tpm:
        held = sealing.seal(tpm, SECRET, sealing.current(tpm)).objects[0]
        with (
            keys.storage_key(tpm) as parent,
            tpm.holding(tpm.load(parent, held.private, held.public)) as item,
            pytest.raises(UnavailableError, match="UNSEAL"),
        ):
            tpm.unseal(item, PASSWORD)


def test_cleared_owner(software: Software, tmp_path: Path) -> None:
    """Once the owner's hierarchy is cleared, the file unseals nothing, not even with the same PCRs."""
    with software.tpm() as tpm:
        stored = sealing.seal(tpm, SECRET, sealing.current(tpm))
    software.tools("tpm2_clear", folder=tmp_path)
    with software.tpm() as tpm, pytest.raises(UnavailableError, match="did not make this object"):
        sealing.unseal(tpm, stored)
