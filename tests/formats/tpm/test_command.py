"""Commands are written as the specification has them, and responses are read strictly."""

from __future__ import annotations

import pytest

from kluis.errors import FormatError, UsageError
from kluis.formats.tpm import command
from kluis.formats.tpm.command import Authorization, Command

OK = bytes.fromhex("80010000000c00000000abcd")


def test_encode() -> None:
    """Header, handles, authorizations and parameters, each with its size."""
    plain = command.encode(Command.GET_RANDOM, (), b"\0\x08")
    assert plain.hex() == "80010000000c0000017b0008"
    with_auth = command.encode(Command.NV_READ, (1, 2), b"\0\x08", auth=(Authorization(secret=b"pw"),))
    assert with_auth.hex() == ("8002000000230000014e00000001000000020000000b40000009000000000270770008")
    session = Authorization(0x03000000).encode()
    assert session.hex() == "030000000000010000"


def test_too_long() -> None:
    """A command beyond a TPM's buffer is the caller's fault."""
    with pytest.raises(UsageError, match="want at most 4096 bytes, got 4097"):
        command.encode(Command.NV_WRITE, (), bytes(4087))


def test_parse() -> None:
    """Handles come before the parameters; authorizations after them are read and dropped."""
    assert command.parse(OK).parameters == b"\xab\xcd"
    assert command.parse(bytes.fromhex("80010000000e0000000080000001"), handles=1).handles == (0x80000001,)
    held = bytes.fromhex("8002000000150000000000000002abcd0000010000")
    assert command.parse(held, sessions=1).parameters == b"\xab\xcd"


@pytest.mark.parametrize(
    ("data", "sessions", "message"),
    [
        (OK[:5], 0, "needs 4 bytes"),
        (OK + b"\0", 0, "size at 0x2: want 13, got 12"),
        (b"\x80\x03" + OK[2:], 0, "want 0x8001 or 0x8002, got 0x8003"),
        (OK, 1, "got 0x8001 to 1 authorizations"),
        (b"\x80\x02" + OK[2:], 0, "got 0x8002 to 0 authorizations"),
        (bytes.fromhex("80010000000a00000100"), 0, "want 0, got 0x100"),
        (bytes.fromhex("80010000000b0000010000"), 0, "1 bytes after the end"),
        (bytes.fromhex("80020000001500000000000000ffabcd0000010000"), 1, "needs 255 bytes"),
        (bytes.fromhex("8002000000160000000000000002abcd000001000000"), 1, "1 bytes after the end"),
        (bytes(5000), 0, "must be at most 4096"),
    ],
)
def test_malformed(data: bytes, sessions: int, message: str) -> None:
    """Whatever does not fit is refused."""
    with pytest.raises(FormatError, match=message):
        command.parse(data, sessions=sessions)


@pytest.mark.parametrize("size", [0, 9, 4097, 0xFFFFFFFF])
def test_size(size: int) -> None:
    """A response has at least its header, and at most a TPM's buffer."""
    with pytest.raises(FormatError, match=r"want 10\.\.4096"):
        command.size_of(b"\x80\x01" + size.to_bytes(4, "big") + bytes(4))


def test_secret_is_not_shown() -> None:
    """Neither authorizations nor responses show what is in them."""
    assert "pw" not in repr(Authorization(secret=b"pw"))
    assert "abcd" not in repr(command.parse(OK)).lower()
