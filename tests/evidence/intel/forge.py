"""A forger of trust domains: its quotes, and the collateral that Intel would publish for them."""

from __future__ import annotations

import json
from typing import Any

from kluis.evidence import Collateral
from kluis.formats.sgx.quote import Body
from kluis.formats.tdx.report import Attribute, TdReport, TdReport15, TdReport15Ex
from tests.evidence.forge import Forge

MRTD = bytes(range(48))
REPORT_DATA = bytes(range(64))
TEE_TCB_SVN = bytes((5, 1, 2, *bytes(13)))
_OLD = "2024-03-13T00:00:00Z"
_REGISTERS: dict[str, Any] = {f"rtmr{index}": bytes([index + 1]) * 48 for index in range(4)}
_EX: dict[str, Any] = {
    "vmid": 7,
    "td_id": bytes(range(32)),
    "dev_info": bytes([2]) * 48,
    "init_servtd_hash": bytes([3]) * 48,
    "init_servtd_attr": 4,
    "init_cpusvn": bytes([5]) * 16,
    "init_tee_tcb_svn": bytes([6]) * 16,
    "init_tee_fmspc": bytes([7]) * 12,
    "cur_servtd_hash": bytes([8]) * 48,
    "cur_servtd_attr": 9,
}


def as_tdx(document: dict[str, Any]) -> None:
    """Make a TCB info of SGX one of TDX: module version 1 is good from minor SVN 4, known from 2."""
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    document["id"] = "TDX"
    document["tdxModule"] = module
    document["tdxModuleIdentities"] = [
        {
            "id": "TDX_01",
            **module,
            "tcbLevels": [
                {"tcb": {"isvsvn": 4}, "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": "UpToDate"},
                {
                    "tcb": {"isvsvn": 2},
                    "tcbDate": _OLD,
                    "tcbStatus": "OutOfDate",
                    "advisoryIDs": ["KLUIS-MODULE"],
                },
            ],
        }
    ]
    for level in document["tcbLevels"]:
        level["tcb"]["tdxtcbcomponents"] = [{"svn": svn} for svn in (0, 0, 2, *bytes(13))]
    document["tcbLevels"] = document.pop("tcbLevels")  # which Intel writes last


class TdxForge(Forge):
    """The same authority and platform, whose quoting enclave quotes trust domains."""

    def td(self, kind: type[TdReport] = TdReport, **changes: Any) -> TdReport:
        """The report of the forger's trust domain."""
        fields: dict[str, Any] = {
            "tee_tcb_svn": TEE_TCB_SVN,
            "mrseam": bytes([9]) * 48,
            "mrsignerseam": bytes(48),
            "seam_attributes": 0,
            "td_attributes": int(Attribute.SEPT_VE_DISABLE),
            "xfam": 0xE7,
            "mrtd": MRTD,
            "mrconfigid": bytes([1]) * 48,
            "mrowner": bytes([2]) * 48,
            "mrownerconfig": bytes([3]) * 48,
            **_REGISTERS,
            "report_data": REPORT_DATA,
        }
        if issubclass(kind, TdReport15):
            fields |= {"tee_tcb_svn_2": TEE_TCB_SVN, "mrservicetd": bytes(48)}
        if issubclass(kind, TdReport15Ex):
            fields |= _EX
        return kind(**{**fields, **changes})

    def quote(self, body: Body | None = None) -> bytes:
        """A good quote: version 4 of a TDX 1.0 report, version 5 of a later one."""
        body = body or self.td()
        return self.quote_of(body, 4 if type(body) is TdReport else 5)

    def collateral(self, **changes: bytes) -> Collateral:
        """Good collateral for TDX, with parts replaced."""
        good = Forge.collateral(self)
        info, identity = json.loads(good.tcb_info), json.loads(good.qe_identity)
        as_tdx(info)
        identity["id"] = "TD_QE"
        parts = {**self.signed("tcb_info", info), **self.signed("qe_identity", identity)}
        return Forge.collateral(self, **{**parts, **changes})
