"""Who an enclave is, as the platform launched it: what reports, quotes and sealing keys are made from."""

from __future__ import annotations

import dataclasses
from typing import Final

from kluis.formats import jcs
from kluis.formats.sgx.report import ReportBody
from kluis.hashes import sha512
from kluis.tee.platform.quoting import make_report_body

UNWITNESSED: Final = "unwitnessed"
"""Nobody outside this machine would notice that counters were set back."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LaunchConfiguration:
    """How an image was started: what its measurement does not cover.

    Attributes:
        level: ``process`` or ``process-user``.
        missing: names of what this machine lacked and the operator granted to lack, sorted.
        platform: SHA-256 over the launcher's and the guardian's bytes, hex.
    """

    heap_bytes: int
    threads: int
    grants: tuple[str, ...]
    missing: tuple[str, ...]
    level: str
    platform: str

    def document(self) -> dict[str, jcs.Writable]:
        """The document as JSON values."""
        return {
            "version": 1,
            "heap_bytes": self.heap_bytes,
            "threads": self.threads,
            "grants": list(self.grants),
            "missing": list(self.missing),
            "counter": UNWITNESSED,
            "level": self.level,
            "platform": self.platform,
        }

    def encode(self) -> bytes:
        """Canonical JSON (RFC 8785), whose SHA-512 is CONFIGID."""
        return jcs.dumps(self.document())

    def protection(self) -> bytes:
        """Canonical bytes of what lowers or raises protection, for sealing keys.

        Heap and threads are left out: a new release may change them and must still unseal.
        """
        weak = [grant for grant in self.grants if grant.startswith("insecure_")]
        return jcs.dumps({"level": self.level, "missing": list(self.missing), "insecure": weak})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One launched enclave.

    Attributes:
        mrenclave: 32 bytes, the image id.
        mrsigner: 32 bytes.
        flags: attribute flags as in ``kluis.formats.sgx.report.Flag``.
        cpusvn: 16 bytes, the platform's component SVNs at launch.
    """

    mrenclave: bytes
    mrsigner: bytes
    product_id: int
    svn: int
    flags: int
    cpusvn: bytes
    configuration: LaunchConfiguration

    def body(self, report_data: bytes) -> ReportBody:
        """The enclave's report body over ``report_data``, 64 bytes."""
        return make_report_body(
            cpusvn=self.cpusvn,
            flags=self.flags,
            mrenclave=self.mrenclave,
            mrsigner=self.mrsigner,
            isvprodid=self.product_id,
            isvsvn=self.svn,
            configid=sha512(self.configuration.encode()),
            report_data=report_data,
        )
