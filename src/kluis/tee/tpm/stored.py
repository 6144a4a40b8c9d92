"""Read what firmware or a cloud stored in a TPM's NV indices."""

from __future__ import annotations

from kluis.errors import UnavailableError
from kluis.formats.tpm.command import OWNER
from kluis.formats.tpm.nv import NvAttribute
from kluis.tee.tpm.tpm import Tpm


def nv_bytes(tpm: Tpm, index: int, most: int) -> bytes:
    """Read a whole NV index, by the owner if the owner may read it.

    Raises:
        UnavailableError: it is not defined, is empty or larger than ``most`` bytes, or cannot be read.
    """
    area = tpm.nv_public(index)
    if not 0 < area.size <= most:
        raise UnavailableError(
            f"TPM: NV index {index:#x}: want 1..{most} bytes, got {area.size}", code="driver_answer"
        )
    by = OWNER if area.attributes & NvAttribute.OWNER_READ else index
    return tpm.nv_read(index, area.size, by=by)


def exists(tpm: Tpm, handle: int) -> bool:
    """Whether the TPM has this persistent object or NV index."""
    return handle in tpm.handles(handle)[:1]
