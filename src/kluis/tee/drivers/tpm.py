"""A TPM without a TEE: it measures the boot of a machine, and protects nothing from its owner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from kluis.errors import KluisError
from kluis.tee.driver import answers
from kluis.tee.tpm import keys, quoting
from kluis.tee.tpm.tpm import Tpm


class TpmDriver:
    """The driver of a TPM.

    Args:
        tpm: opens it.
        event_log: of the firmware.
    """

    name = "tpm"

    def __init__(self, tpm: Callable[[], Tpm] = Tpm.open, event_log: Path = quoting.EVENT_LOG) -> None:
        self._tpm = tpm
        self._event_log = event_log

    def available(self) -> str | None:
        """Why it cannot be used; None if it can."""
        try:
            with self._tpm() as tpm:
                tpm.random(1)
        except KluisError as error:
            return error.message
        return None

    def kind(self) -> str:
        """``tpm``."""
        return "tpm"

    def endorse(self, report_data: bytes) -> Mapping[str, bytes]:
        """Quote PCRs 0 to 15 and the first 32 bytes of the report data.

        Part ``ak`` is the public area of the key, which the relying party trusts by naming it.
        """
        nonce = quoting.nonce_of(report_data)
        with answers(self.name), self._tpm() as tpm, keys.attestation_key(tpm) as key:
            area = tpm.read_public(key)
            quoted = quoting.quote(tpm, key, nonce)
        parts = {**quoted.parts(), "ak": area.encode()}
        if log := quoting.event_log(self._event_log):
            parts["event_log"] = log
        return parts

    def seal_secret(self) -> None:
        """None: a TPM seals a secret of somebody else; see :mod:`kluis.tee.tpm.sealing`."""
        return
