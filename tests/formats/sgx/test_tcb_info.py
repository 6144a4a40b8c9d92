"""TCB info and QE identity: what was signed, as fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats import jcs
from kluis.formats._members import Members
from kluis.formats.sgx import tcb_info, tcb_levels
from tests.evidence.forge import NOW, Forge
from tests.evidence.intel.forge import TdxForge
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


TDX = TdxForge().collateral().tcb_info
MODULE = json.loads(TDX)["tdxModule"]


def _tdx(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(TDX)
    change(document)
    return _text(document)


def test_tdx() -> None:
    """A document of TDX has levels with components of its own, and modules by their version."""
    info = tcb_info.parse_tcb_info(TDX)
    assert (info.tee, info.version) == ("TDX", 3)
    (level,) = info.levels
    assert (len(level.svns), level.tdx) == (17, (0, 0, 2, *([0] * 13)))
    assert info.module is not None
    assert (info.module.id, info.module.mrsigner, info.module.levels) == ("", bytes(48), ())
    (module,) = info.modules
    assert (module.id, module.attributes_mask) == ("TDX_01", b"\xff" * 8)
    assert [(each.svns, each.status) for each in module.levels] == [((4,), "UpToDate"), ((2,), "OutOfDate")]


def test_tdx_of_version_1_0() -> None:
    """A document without modules of later versions is one of TDX 1.0."""
    assert tcb_info.parse_tcb_info(_tdx(lambda d: d.pop("tdxModuleIdentities"))).modules == ()


REFUSED_TDX = {
    "TEE": (_tdx(lambda d: d.update(id="SNP")), "TCB info.id: want SGX or TDX, got 'SNP'"),
    "no module": (_tdx(lambda d: d.pop("tdxModule")), "TCB info: member 'tdxModule' is missing"),
    "a module in SGX's": (
        _info(lambda d: d.update(tdxModule=MODULE)),
        "TCB info: member 'tdxModule' is of TDX alone",
    ),
    "modules in SGX's": (
        _info(lambda d: d.update(tdxModuleIdentities=[])),
        "TCB info: member 'tdxModuleIdentities' is of TDX alone",
    ),
    "a module twice": (
        _tdx(
            lambda d: d["tdxModuleIdentities"].append(d["tdxModuleIdentities"][0] | {"id": "tdx_01"}),
        ),
        "TCB info.tdxModuleIdentities: an id stands twice",
    ),
    "no components": (
        _tdx(lambda d: _tcb(d).pop("tdxtcbcomponents")),
        "TCB info.tcbLevels.tcb: member 'tdxtcbcomponents' is missing",
    ),
    "components": (
        _tdx(lambda d: _tcb(d)["tdxtcbcomponents"].pop()),
        "TCB info.tcbLevels.tcb.tdxtcbcomponents: want 16, got 15",
    ),
    "a truth as a number": (
        _tdx(lambda d: _tcb(d)["tdxtcbcomponents"][3].update(svn=True)),
        "TCB info.tcbLevels.tcb.tdxtcbcomponents.svn: want an integer, got a boolean",
    ),
    "advisories as text": (
        _tdx(lambda d: d["tcbLevels"][0].update(advisoryIDs="INTEL")),
        "TCB info.tcbLevels.advisoryIDs: want a list, got text",
    ),
    "a status without end": (
        _tdx(lambda d: d["tcbLevels"][0].update(tcbStatus="U" * 1025)),
        "TCB info.tcbLevels.tcbStatus: is 1025 long, must be at most 1024",
    ),
    "pcesvn": (
        _tdx(lambda d: _tcb(d).update(pcesvn=65536)),
        "TCB info.tcbLevels.tcb.pcesvn: want 0..65535, got 65536",
    ),
    "key twice in a component": (
        TDX.replace(b'{"svn":0}', b'{"svn":9,"svn":0}', 1),
        "TCB info: key 'svn' stands twice",
    ),
    "key twice in a module": (
        TDX.replace(b'"isvsvn":4', b'"isvsvn":9,"isvsvn":4', 1),
        "TCB info: key 'isvsvn' stands twice",
    ),
}


@pytest.mark.parametrize("name", REFUSED_TDX)
def test_refuses_of_tdx(name: str) -> None:
    """Each failure names the member."""
    data, message = REFUSED_TDX[name]
    with pytest.raises(FormatError) as caught:
        tcb_info.parse_tcb_info(data)
    assert str(caught.value) == message


def test_an_identity_with_a_key_twice() -> None:
    """A key that stands twice in an identity is refused, however deep."""
    with pytest.raises(FormatError) as caught:
        tcb_info.parse_identity(COLLATERAL.qe_identity.replace(b'"isvsvn":1', b'"isvsvn":2,"isvsvn":1'))
    assert str(caught.value) == "QE identity: key 'isvsvn' stands twice"


def test_members_that_nobody_knows() -> None:
    """A member that Intel may add one day is passed over, whatever it holds; the rest reads as before."""
    more = _tdx(lambda d: d.update(later={"a": [{"b": 1}]}))
    assert tcb_info.parse_tcb_info(more) == tcb_info.parse_tcb_info(TDX)


@PROPERTY
@given(mutations(TDX, COLLATERAL.tcb_info))
def test_both_readers_of_levels_agree(data: bytes) -> None:
    """The quick reader of levels gives what the slower, which names each fault, gives; or leaves it to it."""
    try:
        document = Members(jcs.loads(data, "it"), "it")
        if document.version(3) != 3 or "tcbLevels" not in document:
            return
        lists = ("sgxtcbcomponents", "tdxtcbcomponents") if b'"TDX"' in data else ("sgxtcbcomponents",)
        quick = tcb_levels._usual(document, lists, "pcesvn")
    except KluisError:
        return
    if quick is not None:
        assert quick == tcb_levels._levels(document, tcb_levels._listed(lists))


@PROPERTY
@given(mutations(COLLATERAL.tcb_info, COLLATERAL.qe_identity, TDX))
def test_only_our_errors(data: bytes) -> None:
    """No foreign exception leaves the readers."""
    for read in (tcb_info.parse_tcb_info, tcb_info.parse_identity):
        try:
            read(data)
        except KluisError:
            continue
