"""Google's confidential VMs: the hardware's evidence by configfs-tsm, and a quote of the certified vTPM.

Spec: Linux, ``configfs-tsm-report``; Google, "go-tpm-tools", the NV indices of the attestation keys'
templates and certificates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from kluis.errors import KluisError, UnavailableError
from kluis.formats import x509
from kluis.formats.tpm.command import ENDORSEMENT
from kluis.tee.driver import answers, check_equal
from kluis.tee.drivers import reports
from kluis.tee.drivers.tsm import Tsm
from kluis.tee.tpm import quoting
from kluis.tee.tpm.stored import exists, nv_bytes
from kluis.tee.tpm.tpm import Tpm

MAX_CERTIFICATE: Final = 8192
MAX_TEMPLATE: Final = 1024


class _Key(NamedTuple):
    certificate: int
    template: int


KEYS: Final = (_Key(0x01C10002, 0x01C10003), _Key(0x01C10000, 0x01C10001))
"""Of the key on P-256, then of the RSA key."""


class Google:
    """The driver of Google.

    Args:
        tsm: reports of the hardware.
        tpm: opens the vTPM.
        event_log: of the firmware.
    """

    name = "google"

    def __init__(
        self,
        tsm: Tsm | None = None,
        tpm: Callable[[], Tpm] = Tpm.open,
        event_log: Path = quoting.EVENT_LOG,
    ) -> None:
        self._tsm = tsm or Tsm()
        self._tpm = tpm
        self._event_log = event_log

    def available(self) -> str | None:
        """Why it cannot be used; None if it can."""
        try:
            self.kind()
            with self._tpm() as tpm:
                self._key(tpm)
        except KluisError as error:
            return error.message
        return None

    def kind(self) -> str:
        """``snp`` or ``tdx``."""
        return self._tsm.kind()

    def endorse(self, report_data: bytes) -> Mapping[str, bytes]:
        """Get the hardware's evidence over the report data; the vTPM's quote is not a part of it."""
        return self._tsm.endorse(report_data)

    def quote(self, report_data: bytes) -> Mapping[str, bytes]:
        """Get the vTPM's quote over the first 32 bytes of the report data; the others must be zeros.

        Returns:
            Parts as those of a TPM's endorsement, and ``ak_certificate``, the certificate of its key, DER,
            without its issuers.

        Raises:
            UnavailableError: the vTPM has no certified key, or refuses.
            UsageError: report data of another form.
        """
        nonce = quoting.nonce_of(report_data)
        with answers(self.name), self._tpm() as tpm:
            key = self._key(tpm)
            certificate = reports.certificate(self.name, nv_bytes(tpm, key.certificate, MAX_CERTIFICATE))
            template = nv_bytes(tpm, key.template, MAX_TEMPLATE)
            with tpm.holding(tpm.create_primary(ENDORSEMENT, template)) as handle:
                area = tpm.read_public(handle)
                certified = x509.parse(certificate, "AK certificate").spki
                check_equal(self.name, "key of the AK certificate", area.spki, certified)
                quoted = quoting.quote(tpm, handle, nonce)
        parts = {**quoted.parts(), "ak": area.encode(), "ak_certificate": certificate}
        if log := quoting.event_log(self._event_log):
            parts["event_log"] = log
        return parts

    def seal_secret(self) -> None:
        """None: what is sealed here is sealed to the vTPM."""
        return

    def _key(self, tpm: Tpm) -> _Key:
        for key in KEYS:
            if exists(tpm, key.certificate) and exists(tpm, key.template):
                return key
        raise UnavailableError(
            "google: the TPM has no attestation key with a certificate",
            hint="Google's shielded VMs with a vTPM have one",
            code="driver_absent",
        )
