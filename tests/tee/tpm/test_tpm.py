"""The commands against a real TPM in software, and what TPM tools of others read of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.formats.tpm import attest, pcrs, sealed, signature
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.command import OWNER
from kluis.formats.tpm.nv import NvAttribute, NvPublic
from kluis.tee.tpm import keys, quoting
from kluis.tee.tpm.tpm import Tpm
from kluis.tee.tpm.transport import Transport
from tests.tee.tpm.tpms import Software

INDEX = 0x01800010
PERSISTENT = 0x81000010


def test_random(software: Software) -> None:
    """So many bytes as requested, and never the same."""
    with software.tpm() as tpm:
        assert len(tpm.random(32)) == 32
        assert tpm.random(16) != tpm.random(16)


def test_pcrs(software: Software) -> None:
    """All PCRs of a bank, though a TPM returns eight at once; extended as the specification states."""
    with software.tpm() as tpm:
        tpm.extend(11, b"\1" * 32)
        tpm.extend(3, b"\2" * 20, HashId.SHA1)
        values = tpm.pcrs(tuple(range(24)))
        old = tpm.pcrs((3,), HashId.SHA1)

    assert list(values) == list(range(24))
    assert values[11] == hashlib.sha256(bytes(32) + b"\1" * 32).digest()
    assert old == {3: hashlib.sha1(bytes(20) + b"\2" * 20).digest()}


def test_others_read_the_quote(software: Software, tmp_path: Path) -> None:
    """tpm2_checkquote verifies our quote, its nonce and its PCR values; with another nonce it refuses."""
    with software.tpm() as tpm:
        tpm.extend(7, b"\3" * 32)
        with keys.attestation_key(tpm) as key:
            area = tpm.read_public(key)
            quoted = quoting.quote(tpm, key, b"n" * 32)
    (tmp_path / "ak.pem").write_text(_pem(area.spki))
    (tmp_path / "message").write_bytes(quoted.message)
    (tmp_path / "signature").write_bytes(quoted.signature)
    (tmp_path / "pcrs").write_bytes(_tools_form(quoted.pcrs))

    line = "tpm2_checkquote", "-u", "ak.pem", "-m", "message", "-s", "signature", "-f", "pcrs", "-g", "sha256"
    software.tools(*line, "-q", (b"n" * 32).hex(), folder=tmp_path)
    with pytest.raises(AssertionError, match=r"[Nn]once|qualif|extra"):
        software.tools(*line, "-q", (b"m" * 32).hex(), folder=tmp_path)


def test_quote_is_of_the_values(software: Software) -> None:
    """The quote's digest is over the values that come with it, and the signature is the key's."""
    with software.tpm() as tpm, keys.attestation_key(tpm) as key:
        quoted = quoting.quote(tpm, key, b"n" * 32, (4, 11))
    values = pcrs.parse(quoted.pcrs)[HashId.SHA256]

    found = attest.parse(quoted.message)
    assert found.extra_data == b"n" * 32
    assert found.pcr_digest == hashlib.sha256(values[4] + values[11]).digest()
    assert signature.parse(quoted.signature).encode() == quoted.signature


def test_same_key_each_time(software: Software) -> None:
    """After a reset the TPM creates the same attestation key again."""
    with software.tpm() as tpm, keys.attestation_key(tpm) as key:
        first = tpm.read_public(key)
    software.restart()
    with software.tpm() as tpm, keys.attestation_key(tpm) as key:
        assert tpm.read_public(key) == first


def test_persistent_key(software: Software) -> None:
    """A key is made persistent and removed again; without it the error states that there is none."""
    with software.tpm() as tpm:
        with pytest.raises(UnavailableError, match="has no object or NV index of that handle") as refused:
            tpm.read_public(PERSISTENT)
        assert refused.value.code == "tpm_handle"
        handle = tpm.create_primary(OWNER, keys._ATTESTATION.encode())
        with tpm.holding(handle):
            tpm.persist(handle, PERSISTENT)
        assert tpm.handles(PERSISTENT) == (PERSISTENT,)
        assert tpm.read_public(PERSISTENT).key == tpm.read_public(PERSISTENT).key
        tpm.persist(PERSISTENT, PERSISTENT)
        assert tpm.handles(PERSISTENT) == ()


def test_nv(software: Software, tmp_path: Path) -> None:
    """What is written to an index is read back, in pieces if it is large; tpm2_nvread reads the same."""
    data = bytes(range(256)) * 5
    access = NvAttribute.OWNER_READ | NvAttribute.OWNER_WRITE | NvAttribute.AUTH_READ | NvAttribute.AUTH_WRITE
    area = NvPublic(index=INDEX, name_hash=HashId.SHA256, attributes=access, policy=b"", size=len(data))
    with software.tpm() as tpm:
        tpm.nv_define(area)
        assert tpm.nv_public(INDEX) == area
        with pytest.raises(UnavailableError, match="has nothing in that NV index"):
            tpm.nv_read(INDEX, 8)
        tpm.nv_write(INDEX, data)
        assert tpm.nv_read(INDEX, len(data)) == data
        assert tpm.nv_read(INDEX, 8, by=OWNER) == data[:8]
        with pytest.raises(UnavailableError, match="has that NV index already"):
            tpm.nv_define(area)

    software.tools("tpm2_nvread", hex(INDEX), "-o", "read", folder=tmp_path)
    assert (tmp_path / "read").read_bytes() == data
    with software.tpm() as tpm:
        tpm.nv_undefine(INDEX)
        with pytest.raises(UnavailableError, match="no object or NV index"):
            tpm.nv_public(INDEX)


def test_nv_full(software: Software) -> None:
    """A TPM without NV space refuses with an error that names the command which frees some."""
    with software.tpm() as tpm, pytest.raises(UnavailableError) as refused:
        fill(tpm, INDEX, 2048)
    assert refused.value.code == "tpm_nv_full"
    assert refused.value.exit_code == 7
    assert "tpm2_nvundefine" in str(refused.value.hint)


def test_lockout(software: Software, tmp_path: Path) -> None:
    """A TPM in lockout states it, and how it is ended."""
    access = NvAttribute.AUTH_READ | NvAttribute.AUTH_WRITE
    area = NvPublic(index=INDEX, name_hash=HashId.SHA256, attributes=access, policy=b"", size=8)
    with software.tpm() as tpm:
        tpm.nv_define(area, b"right")
        tpm.nv_write(INDEX, bytes(8), secret=b"right")
    software.tools(
        "tpm2_dictionarylockout", "--setup-parameters", "-n", "1", "-t", "1000", "-l", "1000", folder=tmp_path
    )
    with software.tpm() as tpm:
        with pytest.raises(UnavailableError, match="does not accept the authorization value"):
            tpm.nv_read(INDEX, 8, secret=b"wrong")
        with pytest.raises(UnavailableError, match="is locked after failed authorizations") as refused:
            tpm.nv_read(INDEX, 8, secret=b"right")
    assert refused.value.code == "tpm_lockout"
    assert "tpm2_dictionarylockout" in str(refused.value.hint)


def test_policy_is_the_tpms(software: Software, tmp_path: Path) -> None:
    """The policy that we compute is the one that tpm2_policypcr has from the TPM."""
    with software.tpm() as tpm:
        tpm.extend(11, b"\1" * 32)
        values = tpm.pcrs((4, 7, 11, 12))
    software.tools("tpm2_startauthsession", "-S", "session", folder=tmp_path)
    software.tools(
        "tpm2_policypcr", "-S", "session", "-l", "sha256:4,7,11,12", "-L", "policy", folder=tmp_path
    )

    assert (tmp_path / "policy").read_bytes() == sealed.policy(values)


def test_nothing_is_left_in_it(software: Software) -> None:
    """Keys and sessions are flushed: what we do a hundred times fills no TPM."""
    with software.tpm() as tpm:
        for _ in range(20):
            with keys.storage_key(tpm), tpm.pcr_session((4, 7)):
                pass
        assert tpm.handles(0x80000000) == ()
        assert tpm.handles(0x03000000) == ()


def test_no_device(tmp_path: Path) -> None:
    """Without a TPM the error names the device."""
    with pytest.raises(UnavailableError, match=f"TPM: no {tmp_path}/tpm") as refused:
        Tpm.open(str(tmp_path / "tpm"))
    assert refused.value.code == "tpm_absent"


def test_device_hangs_up(software: Software) -> None:
    """A TPM that ends in the middle is an error, not a traceback."""
    with software.tpm() as tpm:
        assert tpm.random(1)
        software.stop()
        with pytest.raises(UnavailableError, match=r"TPM: (closed the connection|does not answer)"):
            tpm.random(1)


def _pem(spki: bytes) -> str:
    import base64

    text = base64.encodebytes(spki).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{text}-----END PUBLIC KEY-----\n"


def _tools_form(data: bytes) -> bytes:
    """PCR values as ``tpm2 quote --pcrs`` writes them: little-endian, in slots of fixed sizes."""
    values = dict(sorted(pcrs.parse(data)[HashId.SHA256].items()))
    bitmap = sum(1 << index for index in values).to_bytes(4, "little")
    head = (1).to_bytes(4, "little") + HashId.SHA256.to_bytes(2, "little") + b"\3" + bitmap + b"\0"
    digests = list(values.values())
    lists = [digests[at : at + 8] for at in range(0, len(digests), 8)]
    out = head + bytes(8 * 15) + len(lists).to_bytes(4, "little")
    for held in lists:
        out += len(held).to_bytes(4, "little")
        out += b"".join(len(one).to_bytes(2, "little") + one.ljust(64, b"\0") for one in held)
        out += bytes(66 * (8 - len(held)))
    assert pcrs.parse_tools(out) == {HashId.SHA256: values}
    return out


def test_transport_refuses_more(tmp_path: Path) -> None:
    """A device that returns more than the size that it states is refused."""
    import socket

    mine, theirs = socket.socketpair()
    with theirs, Tpm(Transport(mine.detach())) as tpm:
        theirs.send(bytes.fromhex("80010000000a00000000") + b"\0")
        with pytest.raises(Exception, match="1 bytes follow it"):
            tpm.random(1)


def fill(tpm: Tpm, first: int, size: int) -> None:
    """Define indices of one size until there is no space."""
    access = NvAttribute.AUTH_READ | NvAttribute.AUTH_WRITE
    for index in range(first, first + 1000):
        tpm.nv_define(
            NvPublic(index=index, name_hash=HashId.SHA256, attributes=access, policy=b"", size=size)
        )
