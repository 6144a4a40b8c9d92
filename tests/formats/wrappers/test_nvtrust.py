"""NVIDIA's SDK writes reports of several devices as one list."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.wrappers import nvtrust


def entry(
    report: bytes = b"report", chain: bytes = b"chain", nonce: bytes = bytes(32), **more: Any
) -> dict[str, Any]:
    """One device, as the SDK writes it."""
    made = {
        "arch": "HOPPER",
        "nonce": nonce.hex(),
        "evidence": base64.b64encode(report).decode(),
        "certificate": base64.b64encode(chain).decode(),
    }
    return {**made, **more}


def test_devices() -> None:
    """Each device is separate evidence; a single one can be extracted."""
    data = json.dumps([entry()]).encode()
    assert nvtrust.matches(data)
    assert nvtrust.only(nvtrust.parse(data)) == nvtrust.Device(b"report", b"chain", bytes(32))
    two = json.dumps([entry(), entry(b"other")]).encode()
    assert [device.report for device in nvtrust.parse(two)] == [b"report", b"other"]
    with pytest.raises(UnsupportedError) as caught:
        nvtrust.only(nvtrust.parse(two))
    assert caught.value.hint is not None


@pytest.mark.parametrize("value", [{}, [], [entry(more=1)], [entry(nonce=b"")], [entry(evidence="?")]])
def test_refused(value: Any) -> None:
    """Another shape."""
    with pytest.raises(FormatError):
        nvtrust.parse(json.dumps(value).encode())


def coco(*devices: dict[str, Any]) -> bytes:
    """A list of Confidential Containers."""
    return json.dumps({"device_evidence_list": list(devices)}).encode()


def test_coco() -> None:
    """The same without the nonce, which the report itself has."""
    made = {name: value for name, value in entry().items() if name != "nonce"}
    for device in (made, {**made, "uuid": "GPU-1"}):
        data = coco(device)
        assert nvtrust.matches_coco(data)
        assert not nvtrust.matches(data)
        assert nvtrust.only(nvtrust.parse_coco(data)) == nvtrust.Device(b"report", b"chain", None)
    for count in (0, 2):
        with pytest.raises(UnsupportedError):
            nvtrust.only(nvtrust.parse_coco(coco(*[made] * count)))
    for data in (
        coco(entry()),
        coco({**made, "evidence": "?"}),
        b'{"device_evidence_list":[],"more":1}',
        b"[]",
    ):
        with pytest.raises(FormatError):
            nvtrust.parse_coco(data)
