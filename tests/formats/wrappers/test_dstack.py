"""dstack's event log: replayed, and every runtime digest made again from its content."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.encoding import der
from kluis.formats.sgx import quote as sgx_quote
from kluis.formats.tdx.report import TdReport
from kluis.formats.wrappers import dstack
from tests.strategies import PROPERTY, mutations

ROOT = Path(__file__).resolve().parents[3]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))


def digest_v1(name: str, payload: bytes) -> bytes:
    """The digest of a runtime event: over type, name and payload, separated by colons."""
    return hashlib.sha384(b"\x01\x00\x00\x08:" + name.encode() + b":" + payload).digest()


def digest_v2(name: str, payload: bytes) -> bytes:
    """The digest of a runtime event of version 2: over canonical JSON that includes its type."""
    text = f'{{"event":"{name}","event_type":134217729,"payload":"{payload.hex()}","version":2}}'
    return hashlib.sha384(text.encode()).digest()


def event(**changes: Any) -> dict[str, Any]:
    """A runtime event of version 1."""
    made = {"imr": 3, "event_type": dstack.RUNTIME_EVENT, "event": "app-id", "event_payload": "deadbeef"}
    return {**made, "digest": digest_v1("app-id", bytes.fromhex("deadbeef")).hex(), **changes}


BOOT = {"imr": 0, "event_type": 4, "event": "", "event_payload": "00", "digest": "aa" * 48}
GOOD = json.dumps([BOOT, event()]).encode()


def test_replay() -> None:
    """Registers are extended in order, from zeros; the runtime's is always given."""
    boot, runtime = dstack.parse_log(GOOD)
    assert (boot.runtime, runtime.runtime, runtime.payload.hex()) == (False, True, "deadbeef")
    assert dstack.replay([boot, runtime]) == {
        0: hashlib.sha384(bytes(48) + boot.digest).digest(),
        3: hashlib.sha384(bytes(48) + runtime.digest).digest(),
    }
    assert dstack.replay([]) == {3: bytes(48)}


@pytest.mark.parametrize(
    "made",
    [
        event(version=1),
        event(digest=""),
        event(digest=digest_v2("app-id", bytes.fromhex("deadbeef")).hex(), version=2),
        event(digest=digest_v2("app-id", bytes.fromhex("deadbeef")).hex()),
        event(preimage=(b"\x01\x00\x00\x08:app-id:" + bytes.fromhex("deadbeef")).hex()),
        event(
            digest="",
            version=2,
            preimage='{"event":"app-id","event_type":134217729,"payload":"deadbeef","version":2}',
        ),
        {key: value for key, value in event().items() if key != "digest"},
    ],
)
def test_versions(made: dict[str, Any]) -> None:
    """An event states its version, or its digest shows it; a digest that is left out is made."""
    (parsed,) = dstack.parse_log(json.dumps([made]).encode())
    assert parsed.digest in (
        digest_v1(parsed.name, parsed.payload),
        digest_v2(parsed.name, parsed.payload),
    )


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (event(event_payload="deadbeee"), "event_log"),
        (event(event="app-ix"), "event_log"),
        (event(digest="00" * 48), "event_log"),
        (event(version=2), "event_log"),
        (event(preimage="00"), "event_log"),
        (event(imr=4), "bad_encoding"),
        (event(more=1), "bad_type"),
        ({**BOOT, "digest": "aa"}, "bad_length"),
        ({key: value for key, value in BOOT.items() if key != "digest"}, "bad_length"),
    ],
)
def test_refused(made: dict[str, Any], code: str) -> None:
    """A runtime event whose content is not what was measured is refused, whatever the replay gives."""
    with pytest.raises(FormatError) as caught:
        dstack.parse_log(json.dumps([made]).encode())
    assert caught.value.code == code


def test_no_list() -> None:
    """A log is a list, and bounded."""
    for data in (b"{}", b"[" + b",".join([b"{}"] * (dstack.MAX_EVENTS + 1)) + b"]"):
        with pytest.raises(FormatError) as caught:
            dstack.parse_log(data)
        assert caught.value.code == "too_large"


def test_response() -> None:
    """A quote response holds quote and log; its report data are padded with zeros."""
    text = json.dumps({"quote": "aabb", "event_log": "[]", "report_data": "1234", "vm_config": "{}"}).encode()
    response = dstack.parse_response(text)
    assert (response.quote, response.event_log) == (b"\xaa\xbb", b"[]")
    assert response.report_data == b"\x12\x34" + bytes(62)
    assert dstack.matches_response(text)
    assert dstack.parse_response(b'{"quote":"","event_log":""}').report_data is None
    for more in ({"more": 1}, {"report_data": "00" * 65}):
        with pytest.raises(FormatError):
            dstack.parse_response(json.dumps({"quote": "", "event_log": "", **more}).encode())


def test_extension() -> None:
    """An extension of a certificate is one octet string."""
    assert dstack.octets(der.element(der.OCTET_STRING, b"quote"), "quote") == b"quote"
    with pytest.raises(FormatError):
        dstack.octets(der.element(der.OCTET_STRING, b"quote") + b"\0", "quote")


def test_matches() -> None:
    """A log is a list of events of registers."""
    assert dstack.matches_log(GOOD)
    assert not dstack.matches_log(b'[{"arch":""}]')


@PROPERTY
@given(mutations(GOOD))
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape."""
    try:
        dstack.parse_log(data)
    except KluisError:
        return


def _recorded() -> list[Path]:
    paths = sorted((VECTORS / "eventlog").glob("*/meta.json"))
    return [p for p in paths if json.loads(p.read_text(encoding="utf-8"))["format"].startswith("dstack")]


@pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")
@pytest.mark.parametrize("path", _recorded(), ids=lambda path: path.parent.name)
def test_vector(path: Path) -> None:
    """A real log gives the registers of the quote that was made with it."""
    meta = json.loads(path.read_text(encoding="utf-8"))
    events = dstack.parse_log((path.parent / meta["files"]["event_log"]["file"]).read_bytes())
    quote = sgx_quote.parse((path.parent / meta["files"]["td_quote"]["file"]).read_bytes())
    body = quote.body
    assert isinstance(body, TdReport)
    registers = dstack.replay(events)
    for name, matched in meta["expected"]["rtmr_matches_quote"].items():
        assert (registers[int(name[-1])] == getattr(body, name)) is matched
    assert any(each.runtime for each in events)
