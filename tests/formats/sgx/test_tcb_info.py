"""TCB info and QE identity: what was signed, as fields."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.sgx import tcb_documents, tcb_info
from kluis.formats.sgx.tcb_levels import AnyLevel
from tests.evidence.forge import NOW, Forge
from tests.evidence.intel.forge import TdxForge
from tests.strategies import PROPERTY, mutations

COLLATERAL = Forge().collateral()
INFO, IDENTITY = json.loads(COLLATERAL.tcb_info), json.loads(COLLATERAL.qe_identity)


def _text(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _svns(level: AnyLevel) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(level.tcb.svns), tuple(level.tcb.tdx)


def test_version_3() -> None:
    """A version 3 document's levels are components and PCESVN, newest first."""
    info = tcb_info.parse_tcb_info(COLLATERAL.tcb_info)
    assert (info.tee, info.fmspc.hex(), info.pceid, info.evaluation) == ("SGX", "e0e0e0000000", b"\0\0", 1)
    (level,) = info.levels
    assert (_svns(level), level.status, level.advisories) == (((1,) * 17, ()), "UpToDate", ())
    assert level.date == NOW


def test_version_2() -> None:
    """A version 2 document is of SGX, and names its components one by one."""
    components = {f"sgxtcbcomp{i:02}svn": i for i in range(1, 17)}
    level = INFO["tcbLevels"][0] | {"tcb": components | {"pcesvn": 9}, "advisoryIDs": ["A"]}
    old = {key: value for key, value in INFO.items() if key != "id"} | {"version": 2, "tcbLevels": [level]}
    info = tcb_info.parse_tcb_info(_text(old))
    assert info.tee == "SGX"
    assert _svns(info.levels[0]) == ((*range(1, 17), 9), ())
    assert info.levels[0].advisories == ("A",)


def test_identity() -> None:
    """An identity's masks are numbers, and its levels have one SVN."""
    identity = tcb_info.parse_identity(COLLATERAL.qe_identity)
    assert (identity.id, identity.attributes, identity.miscselect_mask) == ("QE", 0x11, 0xFFFFFFFF)
    assert identity.attributes_mask == 0xFFFFFFFFFFFFFFFB
    assert _svns(identity.levels[0]) == ((1,), ())


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
    """A TDX document has levels with TDX components, and modules by their version."""
    info = tcb_info.parse_tcb_info(TDX)
    assert (info.tee, info.version) == ("TDX", 3)
    (level,) = info.levels
    svns, tdx = _svns(level)
    assert (len(svns), tdx) == (17, (0, 0, 2, *([0] * 13)))
    assert info.module is not None
    assert (info.module.id, info.module.mrsigner, info.module.levels) == ("", bytes(48), ())
    (module,) = info.modules
    assert (module.id, module.attributes_mask) == ("TDX_01", b"\xff" * 8)
    assert [(_svns(each), each.status) for each in module.levels] == [
        (((4,), ()), "UpToDate"),
        (((2,), ()), "OutOfDate"),
    ]


def test_tdx_of_version_1_0() -> None:
    """A document without modules of later versions is one of TDX 1.0."""
    assert tcb_info.parse_tcb_info(_tdx(lambda d: d.pop("tdxModuleIdentities"))).modules == ()


REFUSED_TDX = {
    "TEE": (_tdx(lambda d: d.update(id="SNP")), "TCB info.id: want SGX or TDX, got 'SNP'"),
    "no module": (_tdx(lambda d: d.pop("tdxModule")), "TCB info: member 'tdxModule' is missing"),
    "a module in SGX's": (
        _info(lambda d: d.update(tdxModule=MODULE)),
        "TCB info: member 'tdxModule' is only for TDX",
    ),
    "modules in SGX's": (
        _info(lambda d: d.update(tdxModuleIdentities=[])),
        "TCB info: member 'tdxModuleIdentities' is only for TDX",
    ),
    "a module twice": (
        _tdx(
            lambda d: d["tdxModuleIdentities"].append(d["tdxModuleIdentities"][0] | {"id": "tdx_01"}),
        ),
        "TCB info.tdxModuleIdentities: an id appears twice",
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
        "TCB info: key 'svn' appears twice",
    ),
    "key twice in a module": (
        TDX.replace(b'"isvsvn":4', b'"isvsvn":9,"isvsvn":4', 1),
        "TCB info: key 'isvsvn' appears twice",
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
    """A key that appears twice in an identity is refused, however deep."""
    with pytest.raises(FormatError) as caught:
        tcb_info.parse_identity(COLLATERAL.qe_identity.replace(b'"isvsvn":1', b'"isvsvn":2,"isvsvn":1'))
    assert str(caught.value) == "QE identity: key 'isvsvn' appears twice"


def test_members_that_nobody_knows() -> None:
    """A member that Intel may add one day is passed over, whatever it holds; the rest reads as before."""
    more = _tdx(lambda d: d.update(later={"a": [{"b": 1}]}))
    assert tcb_info.parse_tcb_info(more) == tcb_info.parse_tcb_info(TDX)


Read = Callable[[bytes], tcb_info.TcbInfo | tcb_info.Identity]


def _outcome(read: Read, data: bytes) -> tcb_info.TcbInfo | tcb_info.Identity | str:
    """A reader's result for a document, or its error."""
    try:
        return read(data)
    except FormatError as error:
        return str(error)


@PROPERTY
@given(mutations(TDX, COLLATERAL.tcb_info))
def test_both_readers_of_tcb_info_agree(data: bytes) -> None:
    """What the typed reader takes, the reader by member reads the same, or refuses for the same reason."""
    if tcb_documents.tcb_info(data) is not None:
        assert _outcome(tcb_info.parse_tcb_info, data) == _outcome(tcb_info._tcb_info_by_member, data)


@PROPERTY
@given(mutations(COLLATERAL.qe_identity))
def test_both_readers_of_identities_agree(data: bytes) -> None:
    """As of TCB info."""
    if tcb_documents.identity(data) is not None:
        assert _outcome(tcb_info.parse_identity, data) == _outcome(tcb_info._identity_by_member, data)


def test_as_intel_writes() -> None:
    """The typed reader takes documents as Intel writes them, whose components may say what they are."""
    named = TDX.replace(b'{"svn":0}', b'{"svn":0,"category":"BIOS","type":"SEAMLDR ACM"}', 2)
    for data in (COLLATERAL.tcb_info, TDX, named):
        assert tcb_documents.tcb_info(data) is not None
    assert tcb_documents.identity(COLLATERAL.qe_identity) is not None
    (plain,), (level,) = tcb_info.parse_tcb_info(TDX).levels, tcb_info.parse_tcb_info(named).levels
    assert _svns(level) == _svns(plain)


NOT_AS_INTEL_WRITES = {
    "another order": TDX.replace(b'"pceId":"0000","tcbType":0', b'"tcbType":0,"pceId":"0000"'),
    "a space": TDX.replace(b'"version":3', b'"version": 3'),
    "a line": TDX + b"\n",
    "an escape": TDX.replace(b'"TDX"', b'"\\u0054DX"'),
    "a member more": TDX.replace(b'"tcbType":0', b'"tcbType":0,"later":1'),
    "no advisory": TDX.replace(b'"tcbStatus":"UpToDate"', b'"tcbStatus":"UpToDate","advisoryIDs":[]'),
}


@pytest.mark.parametrize("name", NOT_AS_INTEL_WRITES)
def test_not_as_intel_writes(name: str) -> None:
    """A document in another form of JSON is read by member, with the same result."""
    data = NOT_AS_INTEL_WRITES[name]
    assert data != TDX
    assert tcb_documents.tcb_info(data) is None
    assert tcb_info.parse_tcb_info(data) == tcb_info.parse_tcb_info(TDX)


REFUSED_AS_WRITTEN = {
    "key twice": (
        TDX.replace(b'"tcbType":0', b'"tcbType":1,"tcbType":0'),
        "TCB info: key 'tcbType' appears twice",
    ),
    "a fraction of a second": (
        re.sub(rb'("issueDate":"[^Z]*)Z', rb"\1.123456Z", TDX),
        "TCB info.issueDate: is not a time like 2026-01-31T00:00:00Z",
    ),
    "an offset": (
        re.sub(rb'("issueDate":"[^Z]*)Z', rb"\1+00:00", TDX),
        "TCB info.issueDate: is not a time like 2026-01-31T00:00:00Z",
    ),
    "hex of another size": (
        re.sub(rb'"fmspc":"..', b'"fmspc":"', TDX),
        "TCB info.fmspc: want 6 bytes, got 5",
    ),
    "hex with a space": (
        re.sub(rb'"fmspc":"..(..)', rb'"fmspc":" \1 ', TDX),
        "TCB info.fmspc: is not hex",
    ),
    "too large": (
        TDX + b" " * (1 << 20),
        f"TCB info: is {len(TDX) + (1 << 20)} bytes, must be at most 1048576",
    ),
    "half a byte of text": (TDX.replace(b'"TDX_01"', b'"TDX_\xff"'), None),
}


@pytest.mark.parametrize("name", REFUSED_AS_WRITTEN)
def test_refuses_as_written(name: str) -> None:
    """Values that the typed reader would truncate are refused, with their names."""
    data, message = REFUSED_AS_WRITTEN[name]
    with pytest.raises(FormatError) as caught:
        tcb_info.parse_tcb_info(data)
    assert message is None or str(caught.value) == message


def test_an_identity_whose_hex_is_none() -> None:
    """An identity in Intel's form whose measurement is not hex is refused, with the member's name."""
    data = re.sub(rb'"mrsigner":"..', b'"mrsigner":"zz', COLLATERAL.qe_identity)
    assert tcb_documents.identity(data) is not None
    with pytest.raises(FormatError) as caught:
        tcb_info.parse_identity(data)
    assert str(caught.value) == "QE identity.mrsigner: is not hex"


@PROPERTY
@given(mutations(COLLATERAL.tcb_info, COLLATERAL.qe_identity, TDX))
def test_only_our_errors(data: bytes) -> None:
    """No foreign exception leaves the readers."""
    for read in (tcb_info.parse_tcb_info, tcb_info.parse_identity):
        try:
            read(data)
        except KluisError:
            continue


@pytest.mark.parametrize("depth", [50, 5_000, 100_000])
def test_nested_deeper_than_any_document(depth: int) -> None:
    """Nesting is refused by our own error, whichever reader meets it first."""
    for data in (b'{"a":' * depth + b"1" + b"}" * depth, b'{"tcbLevels":' + b"[" * depth):
        for read in (tcb_info.parse_tcb_info, tcb_info.parse_identity):
            with pytest.raises(FormatError) as caught:
                read(data)
            assert caught.value.code == "too_deep"
