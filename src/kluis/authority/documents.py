"""The documents that an authority signs: TCB info, the quoting enclave's identity, evaluation numbers.

Spec: Intel PCS API v4, "Get TCB Info", "Get Quoting Enclave Identity", "Retrieve TCB Evaluation Data
Numbers".
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Final

from kluis.authority import issuing
from kluis.authority.state import PCEID, UP_TO_DATE, State
from kluis.hashes import sha256

QE_MRSIGNER: Final = sha256(b"Kluis emulated quoting enclave (no hardware)")
QE_PRODUCT_ID: Final = 1
QE_SVN: Final = 1
COLLATERAL_LIFE: Final = timedelta(days=30)


def tcb_info(state: State, now: datetime) -> bytes:
    """TCB info of the authority's platforms, version 3; JSON."""
    return _text(
        {
            "id": "SGX",
            "version": 3,
            **_window(now),
            "fmspc": state.fmspc.hex(),
            "pceId": PCEID.hex(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": state.evaluation,
            "tcbLevels": [
                {
                    "tcb": {
                        "sgxtcbcomponents": [{"svn": svn} for svn in level.cpusvn],
                        "pcesvn": level.pcesvn,
                    },
                    "tcbDate": level.date,
                    "tcbStatus": level.status,
                    **({"advisoryIDs": list(level.advisories)} if level.advisories else {}),
                }
                for level in state.levels
            ],
        }
    )


def qe_identity(state: State, now: datetime) -> bytes:
    """Identity of the emulated quoting enclave, version 2; JSON."""
    return _text(
        {
            "id": "QE",
            "version": 2,
            **_window(now),
            "tcbEvaluationDataNumber": state.evaluation,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11000000000000000000000000000000",
            "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": QE_MRSIGNER.hex().upper(),
            "isvprodid": QE_PRODUCT_ID,
            "tcbLevels": [
                {"tcb": {"isvsvn": QE_SVN}, "tcbDate": state.levels[-1].date, "tcbStatus": UP_TO_DATE}
            ],
        }
    )


def evaluation_numbers(state: State, now: datetime) -> bytes:
    """The only TCB evaluation data number in force, version 1; JSON."""
    newest = state.levels[0]
    return _text(
        {
            "id": "SGX",
            "version": 1,
            **_window(now),
            "tcbEvalNumbers": [
                {
                    "tcbEvaluationDataNumber": state.evaluation,
                    "tcbRecoveryEventDate": newest.date,
                    "tcbDate": newest.date,
                }
            ],
        }
    )


def _window(now: datetime) -> dict[str, str]:
    start = now - issuing.BACKDATED
    return {"issueDate": issuing.zulu(start), "nextUpdate": issuing.zulu(start + COLLATERAL_LIFE)}


def _text(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
