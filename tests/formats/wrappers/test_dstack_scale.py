"""dstack's attestation in SCALE: read, and written back as the same bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.wrappers import dstack, dstack_scale
from kluis.formats.wrappers.dstack_scale import Attestation, Event, Platform, parse
from tests.strategies import PROPERTY, mutations

RUNTIME = (("app-id", b"\x11" * 20), ("système", b""))
LOGGED = tuple(Event(3, dstack.RUNTIME_EVENT, b"", name, payload) for name, payload in RUNTIME)
TDX = Attestation(
    platform=Platform.TDX,
    evidence=b"\4\0" + bytes(5000),
    events=(Event(0, 10, b"\x22" * 48, "", b""), *LOGGED),
    certificates=(),
    config="",
    runtime=RUNTIME,
    report_data=bytes(range(64)),
    vm_config='{"os_image_hash":""}',
)
SNP = replace(
    TDX,
    platform=Platform.SNP,
    evidence=b"\3\0" + bytes(1182),
    events=(),
    certificates=(b"ask", b"vcek"),
    config='{"version":3}',
)
NITRO = replace(TDX, platform=Platform.NITRO, evidence=b"\xd2\x84" + bytes(500), events=(), runtime=())
NITROTPM = replace(NITRO, platform=Platform.NITROTPM, evidence=b"\x84\x44" + bytes(500))
GOOD = [one.encode() for one in (TDX, SNP, NITRO, NITROTPM)]


@pytest.mark.parametrize("one", [TDX, SNP, NITRO, NITROTPM], ids=lambda one: one.platform.name)
def test_good(one: Attestation) -> None:
    """Every platform's is recognised, read, and written back."""
    data = one.encode()
    assert dstack_scale.matches(data)
    assert parse(data) == one
    assert parse(data).encode() == data


def test_bytes() -> None:
    """The encoding is that of the codec: version, platform, then each field with its compact size."""
    assert NITRO.encode()[:4] == b"\0\2" + (502 << 2 | 1).to_bytes(2, "little")
    assert TDX.encode()[:4] == b"\0\0" + (5002 << 2 | 1).to_bytes(2, "little")
    large = replace(NITRO, evidence=b"\xd2\x84" + bytes(20000))
    assert large.encode()[2:6] == (20002 << 2 | 2).to_bytes(4, "little")
    assert parse(large.encode()) == large
    assert SNP.encode().endswith(bytes(range(64)) + b"\x50" + b'{"os_image_hash":""}')


def test_log() -> None:
    """The log is dstack's own in JSON; where there is none, what the software recorded is it."""
    listed = json.loads(TDX.log())
    assert listed[0] == {"imr": 0, "event_type": 10, "event": "", "event_payload": "", "digest": "22" * 48}
    assert listed[1] == {
        "imr": 3,
        "event_type": dstack.RUNTIME_EVENT,
        "event": "app-id",
        "event_payload": "11" * 20,
    }
    assert json.loads(replace(TDX, events=()).log()) == listed[1:]
    assert len(dstack.parse_log(TDX.log())) == 3


def test_host_data() -> None:
    """A SEV-SNP report binds the configuration's hash under a different name."""
    want = hashlib.sha256(b"dstack-mr-config-v3:" + b"\0" + b'{"version":3}').digest()
    assert (SNP.host_data, TDX.host_data) == (want, None)


def test_matches() -> None:
    """Other bytes that begin with zeros are not recognised, nor is evidence of another platform."""
    for data in (
        b"",
        bytes(2000),
        b"\1" + GOOD[0][1:],
        b"\0\5" + GOOD[0][2:],
        b"\0\2" + GOOD[0][2:],
        GOOD[0][:500],
        b"\0\0\3" + bytes(600),
        b"\0\0\1\0" + bytes(600),
        b"\0\0\x40" + b"\4\0" + bytes(600),
    ):
        assert not dstack_scale.matches(data), data[:8]


REFUSED: dict[str, tuple[bytes, type[KluisError], str]] = {
    "version 1": (b"\1" + GOOD[0][1:], UnsupportedError, "bad_version"),
    "MessagePack": (b"\x83\xa7version\1", UnsupportedError, "bad_version"),
    "a platform to come": (b"\0\5", UnsupportedError, "bad_type"),
    "TDX of Google's": (b"\0\1", UnsupportedError, "bad_type"),
    "nothing": (b"", FormatError, "truncated"),
    "cut": (GOOD[1][:-1], FormatError, "truncated"),
    "more": (GOOD[2] + b"\0", FormatError, "trailing_data"),
    "a size of two bytes that fits one": (b"\0\2\1\0", FormatError, "bad_encoding"),
    "a size of four bytes that fits two": (b"\0\2\2\0\0\0", FormatError, "bad_encoding"),
    "a size past all bounds": (b"\0\2\3\0\0\0\0", FormatError, "too_large"),
    "a name that is no text": (
        NITRO.encode()[:4] + NITRO.evidence + b"\4\4\xff\0" + bytes(65),
        FormatError,
        "bad_encoding",
    ),
    "many certificates": (replace(SNP, certificates=(b"",) * 9).encode(), FormatError, "too_large"),
    "too large": (bytes(dstack_scale.MAX_SIZE + 1), FormatError, "too_large"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """Another version, a platform that is not handled, and whatever is malformed."""
    data, error, code = REFUSED[case]
    with pytest.raises(error) as caught:
        parse(data)
    assert caught.value.code == code


@PROPERTY
@given(mutations(*GOOD))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    dstack_scale.matches(data)
    try:
        parsed = parse(data)
    except KluisError:
        return
    assert parsed.encode() == data
