"""TCB info and QE identity: what was signed, as fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.sgx import tcb_info
from tests.evidence.forge import NOW, Forge
from tests.strategies import PROPERTY, mutations

COLLATERAL = Forge().collateral()
INFO, IDENTITY = json.loads(COLLATERAL.tcb_info), json.loads(COLLATERAL.qe_identity)


def _text(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def test_version_3() -> None:
    """A version 3 document's levels are components and PCESVN, newest first."""
    info = tcb_info.parse_tcb_info(COLLATERAL.tcb_info)
    assert (info.tee, info.fmspc.hex(), info.pceid, info.evaluation) == ("SGX", "e0e0e0000000", b"\0\0", 1)
    (level,) = info.levels
    assert (level.svns, level.status, level.advisories) == ((1,) * 17, "UpToDate", ())
    assert level.date == NOW


def test_version_2() -> None:
    """A version 2 document is of SGX, and names its components one by one."""
    components = {f"sgxtcbcomp{i:02}svn": i for i in range(1, 17)}
    level = INFO["tcbLevels"][0] | {"tcb": components | {"pcesvn": 9}, "advisoryIDs": ["A"]}
    old = {key: value for key, value in INFO.items() if key != "id"} | {"version": 2, "tcbLevels": [level]}
    info = tcb_info.parse_tcb_info(_text(old))
    assert info.tee == "SGX"
    assert info.levels[0].svns == (*range(1, 17), 9)
    assert info.levels[0].advisories == ("A",)


def test_identity() -> None:
    """An identity's masks are numbers, and its levels have one SVN."""
    identity = tcb_info.parse_identity(COLLATERAL.qe_identity)
    assert (identity.id, identity.attributes, identity.miscselect_mask) == ("QE", 0x11, 0xFFFFFFFF)
    assert identity.attributes_mask == 0xFFFFFFFFFFFFFFFB
    assert identity.levels[0].svns == (1,)


def _info(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(COLLATERAL.tcb_info)
    change(document)
    return _text(document)


def _tcb(document: dict[str, Any]) -> dict[str, Any]:
    return document["tcbLevels"][0]["tcb"]  # type: ignore[no-any-return]


REFUSED = {
    "version": (_info(lambda d: d.update(version=4)), "TCB info.version: want one of [2, 3], got 4"),
    "type": (_info(lambda d: d.update(tcbType=1)), "TCB info.tcbType: want 0, got 1"),
    "fmspc": (_info(lambda d: d.update(fmspc="00")), "TCB info.fmspc: want 6 bytes, got 1"),
    "date": (
        _info(lambda d: d.update(issueDate="today")),
        "TCB info.issueDate: is not a time like 2026-01-31T00:00:00Z",
    ),
    "no level": (_info(lambda d: d.update(tcbLevels=[])), "TCB info.tcbLevels: want at least 1, got 0"),
    "components": (
        _info(lambda d: _tcb(d)["sgxtcbcomponents"].pop()),
        "TCB info.tcbLevels.tcb.sgxtcbcomponents: want 16, got 15",
    ),
    "component": (
        _info(lambda d: _tcb(d)["sgxtcbcomponents"][3].update(svn=256)),
        "TCB info.tcbLevels.tcb.sgxtcbcomponents.svn: want 0..255, got 256",
    ),
    "advisories": (
        _info(lambda d: d["tcbLevels"][0].update(advisoryIDs=["a", 1])),
        "TCB info.tcbLevels.advisoryIDs: want text, got an integer",
    ),
    "levels": (
        _info(lambda d: d.update(tcbLevels=d["tcbLevels"] * 65)),
        "TCB info.tcbLevels: has 65 items, must be at most 64",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """Each failure names the member."""
    data, message = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        tcb_info.parse_tcb_info(data)
    assert str(caught.value) == message


@PROPERTY
@given(mutations(COLLATERAL.tcb_info, COLLATERAL.qe_identity))
def test_only_our_errors(data: bytes) -> None:
    """No foreign exception leaves the readers."""
    for read in (tcb_info.parse_tcb_info, tcb_info.parse_identity):
        try:
            read(data)
        except KluisError:
            continue
