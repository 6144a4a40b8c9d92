"""What the paravisor of an Azure confidential VM leaves in its vTPM: NV indexes and persistent handles.

Spec: Azure "Guest attestation of confidential VMs"; OpenHCL, ``openhcl_attestation_protocol``.
"""

from __future__ import annotations

from typing import Final

REPORT: Final = 0x01400001
USER_DATA: Final = 0x01400002
AK: Final = 0x81000003
AK_CERTIFICATE: Final = 0x01C101D0
