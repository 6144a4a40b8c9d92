"""The file of a sealed secret has one form."""

from __future__ import annotations

import pytest

from kluis.errors import FormatError
from kluis.formats.tpm import nv, sealed
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.nv import NvPublic
from kluis.formats.tpm.sealed import SealedObject, SealedSecret

VALUES = {4: b"\4" * 32, 7: b"\7" * 32, 11: b"\x0b" * 32}
GOOD = SealedSecret((SealedObject(VALUES, b"public", b"private"),))


def test_round_trip() -> None:
    """It is read back as it was written."""
    assert SealedSecret.parse(GOOD.encode()) == GOOD


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"version":1', b'"version":2', "version"),
        (b'"sha256"', b'"sha1"', "20 bytes of hex"),
        (b'"sha256"', b'"0xb"', "lower-case hex under sha256"),
        (b"0b" * 32, b"0B" * 32, "lower-case hex under sha256"),
        (b'"11"', b'"24"', r"indices 0\.\.23"),
        (b'"private":"70', b'"private":"7', "private"),
        (b'"private":"', b'"private":"' + b"00" * 3000, "must be at most 2048"),
        (b'"objects":[', b'"objects":[{},', "pcrs"),
        (b'"public"', b'"publik"', "publik"),
        (b"{", b" {", "canonical"),
    ],
)
def test_malformed(old: bytes, new: bytes, message: str) -> None:
    """Another form is refused."""
    data = GOOD.encode()
    assert old in data
    with pytest.raises(FormatError, match=message):
        SealedSecret.parse(data.replace(old, new, 1))


def test_bounds() -> None:
    """It has 1 to 4 objects, each with PCR values."""
    for objects in ((), GOOD.objects * 5, (SealedObject({}, b"p", b"p"),)):
        with pytest.raises(FormatError):
            SealedSecret.parse(SealedSecret(objects).encode())


def test_policy_depends_on_each_value() -> None:
    """Another value, or another selection, is another policy; the order of a mapping is not."""
    policy = sealed.policy(VALUES)
    assert policy == sealed.policy(dict(reversed(VALUES.items())))
    assert (
        len({policy, sealed.policy({**VALUES, 4: bytes(32)}), sealed.policy({**VALUES, 5: bytes(32)})}) == 3
    )


def test_nv_public() -> None:
    """A public area of an NV index is read back as it was written, and nothing may follow it."""
    area = NvPublic(index=0x01800001, name_hash=HashId.SHA256, attributes=0x12, policy=b"p", size=8)
    assert nv.parse(area.encode()) == area
    for data in (area.encode() + b"\0", area.encode()[:-1], b"\2" + area.encode()[1:], bytes(200)):
        with pytest.raises(FormatError):
            nv.parse(data)
