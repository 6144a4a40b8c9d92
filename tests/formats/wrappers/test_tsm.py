"""The files of configfs-tsm, as one collection."""

from __future__ import annotations

import json

import pytest

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.wrappers import tsm


def test_reports() -> None:
    """A report, and the certificates that came along behind it."""
    data = tsm.wrap("sev_guest", b"report", b"table")
    assert tsm.matches(data)
    assert tsm.parse(data) == ("sev_guest", b"reporttable")
    assert tsm.parse(tsm.wrap("tdx_guest\n", b"quote", b"")) == ("tdx_guest", b"quote")


def test_refused() -> None:
    """Another provider, and certificates that a provider does not have."""
    with pytest.raises(UnsupportedError):
        tsm.parse(tsm.wrap("other_guest", b"report"))
    with pytest.raises(FormatError):
        tsm.parse(tsm.wrap("tdx_guest", b"quote", b"table"))


def _object(**members: object) -> bytes:
    return json.dumps({"provider": "sev_guest\n", "outblob": "cmVwb3J0_w==", **members}, indent=1).encode()


def test_objects() -> None:
    """The files in one object: base64 or base64url, padded or not; a privilege level changes nothing."""
    for outblob in ("cmVwb3J0/w==", "cmVwb3J0_w==", "cmVwb3J0_w"):
        data = _object(outblob=outblob, auxblob="dGFibGU=", privilege_level="0")
        assert tsm.matches_object(data)
        assert tsm.parse_object(data) == ("sev_guest", b"report\xfftable")
    assert tsm.parse_object(_object(provider="arm_cca_guest")) == ("arm_cca_guest", b"report\xff")
    assert not tsm.matches_object(tsm.wrap("sev_guest", b"report"))
    assert not tsm.matches_object(b'{"provider": "sev_guest"}')


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"provider": "other_guest"}, UnsupportedError),
        ({"service_provider": "svsm", "manifestblob": "AA=="}, UnsupportedError),
        ({"provider": "tdx_guest", "auxblob": "dGFibGU="}, FormatError),
        ({"more": 1}, FormatError),
        ({"outblob": "?"}, FormatError),
        ({"outblob": None}, FormatError),
    ],
)
def test_objects_refused(members: dict[str, object], error: type[FormatError]) -> None:
    """Another provider, a service's report, and what is not known or no base64."""
    with pytest.raises(FormatError) as caught:
        tsm.parse_object(_object(**members))
    assert type(caught.value) is error
