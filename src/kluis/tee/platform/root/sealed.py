"""The platform's secret sealed to a TPM that also witnesses the counters.

Once it is sealed, there is no way back: an older secret file, or counters without their witness, would not be
recognized.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kluis import files
from kluis.errors import FormatError, UsageError
from kluis.formats.tpm.sealed import SealedSecret
from kluis.tee import keyfiles
from kluis.tee.platform.root.counters import Counters
from kluis.tee.platform.root.keys import SECRET_SIZE, Secret
from kluis.tee.platform.root.slots import Slots
from kluis.tee.tpm import sealing
from kluis.tee.tpm.tpm import Tpm
from kluis.tee.tpm.witness import Witness

PLAIN: Final = "platform.secret"
COUNTERS: Final = "counters"


def open_state(state: Path, sealed: Path, tpm: Tpm) -> tuple[Secret, Counters]:
    """Read the secret and the counters of a platform, or create them on first use.

    A secret that is not sealed yet is sealed for the current boot, its file is removed, and the counters get
    their witness.

    Args:
        state: the platform's directory.
        sealed: file of the sealed secret.
        tpm: kept open by the witness.

    Raises:
        UnavailableError: a file is another user's or accessible to others; the secret is sealed for another
            boot or by another TPM; an older state was restored; or the TPM refuses.
        FormatError: a file is damaged.
    """
    plain, counters = state / PLAIN, state / COUNTERS
    if sealed.exists():
        secret = sealing.unseal(tpm, SealedSecret.parse(keyfiles.read(sealed)))
        witness = Witness(tpm, _authorization(secret))
    else:
        secret = keyfiles.read(plain) if plain.exists() else os.urandom(SECRET_SIZE)
        if len(secret) != SECRET_SIZE:
            raise FormatError(f"{plain}: want {SECRET_SIZE} bytes, got {len(secret)}", code="bad_length")
        witness = Witness(tpm, _authorization(secret))
        witness.establish(Slots(counters).digest())
        files.write(sealed, sealing.seal(tpm, secret, sealing.current(tpm)).encode())
    plain.unlink(missing_ok=True)
    return Secret(secret), Counters(counters, witness)


def reseal(sealed: Path, tpm: Tpm, values: Mapping[int, bytes]) -> None:
    """Seal the secret for the current boot and for an announced one, and for no other.

    Args:
        sealed: file of the sealed secret.
        tpm: of the platform.
        values: that differ in the announced boot, by PCR: 4, 7, 8, 9, 11 or 12; 32 bytes each.

    Raises:
        UsageError: another PCR.
        UnavailableError: the secret is not sealed for this boot, or the TPM refuses.
    """
    if others := sorted(set(values) - set(sealing.PCRS)):
        raise UsageError(f"reseal: want PCRs {', '.join(map(str, sealing.PCRS))}, got {others[0]}")
    secret = sealing.unseal(tpm, SealedSecret.parse(keyfiles.read(sealed)))
    now = sealing.current(tpm)
    files.write(sealed, sealing.seal(tpm, secret, now, {**now, **values}).encode())


def _authorization(secret: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"kluis witness 1").derive(secret)
