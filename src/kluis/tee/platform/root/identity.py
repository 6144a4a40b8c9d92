"""The identity of a launched enclave, from which reports, quotes and sealing keys are derived."""

from __future__ import annotations

from kluis.formats.kluis.launch import LaunchConfiguration, config_id
from kluis.formats.sgx.report import ReportBody
from kluis.frozen import frozen
from kluis.tee.platform.root.reports import make_report_body


@frozen(kw_only=True)
class Identity:
    """One launched enclave.

    Attributes:
        mrenclave: 32 bytes, the image id.
        mrsigner: 32 bytes.
        flags: attribute flags, as in ``kluis.formats.sgx.report.Flag``.
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
            configid=config_id(self.configuration.encode()),
            report_data=report_data,
        )
