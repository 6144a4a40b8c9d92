"""A witness for a file: two NV indices that show at the next start whether an older file was restored.

One is a counter, which a TPM never decreases, not even for an index that was removed and defined again. The
other has the digest of the file's content and the counter's value for it. Its authorization value is derived
from the platform's secret, so nobody else writes it. The order makes it safe against crashes: first the file,
then the digest, then the counter; only then is the change reported.

The owner of the TPM can remove the indices. Then the next start fails, and nothing is rolled back.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError, UnavailableError
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.nv import COUNTER_SIZE, NvAttribute, NvPublic
from kluis.tee.tpm.tpm import Tpm

DIGEST_INDEX: Final = 0x01804B4C
COUNTER_INDEX: Final = 0x01804B4D
DIGEST_SIZE: Final = 32
_ACCESS: Final = NvAttribute.AUTH_READ | NvAttribute.AUTH_WRITE | NvAttribute.NO_DA


def _area(index: int, attributes: int, size: int) -> NvPublic:
    return NvPublic(index=index, name_hash=HashId.SHA256, attributes=attributes, policy=b"", size=size)


_DIGEST: Final = _area(DIGEST_INDEX, _ACCESS, DIGEST_SIZE + COUNTER_SIZE)
_COUNTER: Final = _area(COUNTER_INDEX, _ACCESS | NvAttribute.COUNTER, COUNTER_SIZE)


class Witness:
    """The two indices of one platform.

    Args:
        tpm: that has them; stays open as long as this object is used.
        secret: authorization value of both, 32 bytes.
    """

    def __init__(self, tpm: Tpm, secret: bytes) -> None:
        self._tpm = tpm
        self._secret = secret
        self._value = 0

    def __repr__(self) -> str:
        return "<witness>"

    def establish(self, digest: bytes) -> None:
        """Define both indices, and record ``digest``, 32 bytes.

        Raises:
            UnavailableError: an index exists already (code ``tpm_defined``), there is no space
                (``tpm_nv_full``), or the TPM refuses.
        """
        used = set(self._tpm.handles(DIGEST_INDEX))
        for area in (_DIGEST, _COUNTER):
            if area.index in used:
                raise UnavailableError(
                    f"TPM: NV index {area.index:#x} is in use by another program, or an earlier platform",
                    hint=f"if nothing needs it: tpm2_nvundefine {area.index:#x}",
                    code="tpm_defined",
                )
        self._tpm.nv_define(_COUNTER, self._secret)
        try:
            self._tpm.nv_define(_DIGEST, self._secret)
        except BaseException:
            self._tpm.nv_undefine(COUNTER_INDEX)
            raise
        self._tpm.nv_increment(COUNTER_INDEX, secret=self._secret)  # gives it its first value
        self._value = self._count()
        self._write(digest)

    def check(self, digest: bytes, before: bytes) -> None:
        """Compare the file with what was recorded last; complete what a crash interrupted.

        Args:
            digest: of the file's content, 32 bytes.
            before: of its content without the last change, 32 bytes.

        Raises:
            UnavailableError: an older or another file was restored, or an index is gone or not this
                platform's; code ``rolled_back``.
        """
        for area in (_DIGEST, _COUNTER):
            self._check_area(area)
        self._value = self._count()
        recorded = self._tpm.nv_read(DIGEST_INDEX, DIGEST_SIZE + COUNTER_SIZE, secret=self._secret)
        last, at = recorded[:DIGEST_SIZE], int.from_bytes(recorded[DIGEST_SIZE:], "big")
        if last == digest and at == self._value:
            return
        if last == digest and at == self._value + 1:
            self._advance()
        elif last == before and at == self._value:
            self.record(digest)
        else:
            raise UnavailableError(
                "counters: are not the ones that the TPM witnessed last: an older state was restored",
                hint="restore the newest state directory; without it, what is sealed here is lost",
                code="rolled_back",
            )

    def record(self, digest: bytes) -> None:
        """Record the digest of a file that is on disk, 32 bytes.

        Raises:
            UnavailableError: the TPM does not answer, or refuses; the change must not be reported.
        """
        self._write(digest, ahead=1)
        self._advance()

    def _write(self, digest: bytes, ahead: int = 0) -> None:
        value = (self._value + ahead).to_bytes(COUNTER_SIZE, "big")
        self._tpm.nv_write(DIGEST_INDEX, digest + value, secret=self._secret)

    def _advance(self) -> None:
        self._tpm.nv_increment(COUNTER_INDEX, secret=self._secret)
        self._value += 1

    def _count(self) -> int:
        return int.from_bytes(self._tpm.nv_read(COUNTER_INDEX, COUNTER_SIZE, secret=self._secret), "big")

    def _check_area(self, area: NvPublic) -> None:
        try:
            public = self._tpm.nv_public(area.index)
            if public.attributes & ~NvAttribute.WRITTEN != area.attributes or public.size != area.size:
                raise FormatError("TPM NV: other attributes")
            self._tpm.nv_read(area.index, area.size, secret=self._secret)
        except (UnavailableError, FormatError) as error:
            if isinstance(error, UnavailableError) and error.code not in _NOT_OURS:
                raise
            raise UnavailableError(
                f"counters: the NV index {area.index:#x} that witnesses them is gone, or not this platform's",
                hint="nothing else shows that what the platform sealed is current: kluis explain rolled_back",
                code="rolled_back",
            ) from None


_NOT_OURS: Final = frozenset({"tpm_handle", "tpm_auth", "tpm_unwritten"})
