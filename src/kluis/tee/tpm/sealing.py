"""Seal a secret to a TPM, so that it unseals only on this machine and only with the same boot.

Of a unified kernel image these PCRs contain everything that boots: 4 (the image), 7 (secure boot), 11 (its
sections) and 12 (its command line). PCR 11 is zero after another boot, in which a loader reads kernel,
initial RAM disk and command line from files. Then the secret is sealed under PCRs 8 (the loader's commands)
and 9 (what it read), too: otherwise another command line would open it. Before an announced upgrade the
secret is sealed again, under the values that the upgrade will have, next to the current ones.

Spec: UAPI Group "Linux TPM PCR Registry".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kluis.errors import FormatError, UnavailableError
from kluis.formats.tpm import sealed
from kluis.formats.tpm.sealed import SealedObject, SealedSecret
from kluis.tee.tpm import keys
from kluis.tee.tpm.tpm import Tpm

UNIFIED: Final = (4, 7, 11, 12)
PCRS: Final = (4, 7, 8, 9, 11, 12)
_SECTIONS: Final = 11
SECRET_SIZE: Final = 32


def current(tpm: Tpm) -> dict[int, bytes]:
    """The values now of the PCRs under which a secret is sealed, by index; 32 bytes each.

    PCRs 8 and 9 are left out after the boot of a unified kernel image.
    """
    values = tpm.pcrs(PCRS)
    return {index: values[index] for index in (UNIFIED if any(values[_SECTIONS]) else PCRS)}


def seal(tpm: Tpm, secret: bytes, *boots: Mapping[int, bytes]) -> SealedSecret:
    """Seal ``secret``, 32 bytes, once for each boot.

    Args:
        tpm: to seal to.
        secret: to be sealed.
        boots: PCR values by index; 1 to 4 different boots.

    Raises:
        UnavailableError: the TPM refuses.
    """
    with keys.storage_key(tpm) as parent:
        return SealedSecret(tuple(_seal_object(tpm, parent, secret, values) for values in boots))


def _seal_object(tpm: Tpm, parent: int, secret: bytes, values: Mapping[int, bytes]) -> SealedObject:
    private, area = tpm.seal(parent, sealed.template(values), secret)
    return SealedObject(dict(values), area, private)


def unseal(tpm: Tpm, secret: SealedSecret) -> bytes:
    """Return the secret, 32 bytes.

    Raises:
        UnavailableError: it was sealed for other boots (code ``tpm_policy``; names the PCRs), or by another
            TPM (code ``tpm_integrity``).
        FormatError: what is sealed is not a secret of this kind.
    """
    chosen = _choose_object(secret, tpm.pcrs(PCRS))
    with (
        keys.storage_key(tpm) as parent,
        tpm.holding(tpm.load(parent, chosen.private, chosen.public)) as item,
        tpm.pcr_session(chosen.values) as session,
    ):
        data = tpm.unseal(item, session)
    if len(data) != SECRET_SIZE:
        raise FormatError(f"sealed secret: want {SECRET_SIZE} bytes, got {len(data)}", code="bad_length")
    return data


def _choose_object(secret: SealedSecret, now: Mapping[int, bytes]) -> SealedObject:
    for each in secret.objects:
        if all(now.get(index) == value for index, value in each.values.items()):
            return each
    first = secret.objects[0].values
    changed = "; ".join(
        f"PCR {index}: want {value.hex()}, got {now[index].hex() if index in now else 'none'}"
        for index, value in first.items()
        if now.get(index) != value
    )
    raise UnavailableError(
        f"sealed secret: this boot is not one that it was sealed for: {changed or 'other PCRs'}",
        hint="start the former system; before it is upgraded: kluis platform reseal PCRS",
        code="tpm_policy",
    )
