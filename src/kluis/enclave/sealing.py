"""Sealing: encrypt data that only this enclave, or a later one of its signer, can open again.

    blob = "KLUISEAL" 1 || policy (1) || svn (2, little-endian) || cpusvn (16) || key id (32)
           || level size (1) || level || nonce (12) || AES-256-GCM ciphertext and tag

Everything before the ciphertext, followed by the caller's associated data, is authenticated. The key is the
platform's for (policy, svn, cpusvn, key id), which also depends on debug, level and launch configuration: a
launch with less protection never gets the key of one with more. One key id serves a run and policy, with a
random nonce for each blob. Spec: NIST SP 800-38D.
"""

from __future__ import annotations

import os
import threading
from typing import Final, Literal, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.enclave.inside import Inside, inside
from kluis.errors import AuthenticityError, FormatError, PolicyError, UsageError
from kluis.formats.encoding.reader import Reader
from kluis.formats.kluis.channel import Bytes, SealKey

Policy = Literal["measurement", "signer"]


def seal(data: bytes, *, policy: Policy = "measurement", associated: bytes = b"") -> bytes:
    """Seal ``data`` so that it can leave the enclave.

    Args:
        data: any length.
        policy: who may open it: ``measurement``, this exact image; or ``signer``, any image of the same
            signer and product id with at least this svn. Both under the same launch configuration.
        associated: authenticated with it, and needed again to open it; not stored in the blob.

    Raises:
        UsageError: outside an enclave, or an unknown policy.
    """
    here = inside("seal")
    if policy not in POLICIES:
        raise UsageError(f"seal policy: want measurement or signer, got {policy}")
    header = _own_header(here, policy)
    nonce = os.urandom(NONCE_SIZE)
    head = header.encode() + nonce
    return head + AESGCM(_key(here, header)).encrypt(nonce, data, head + associated)


def unseal(blob: bytes, *, associated: bytes = b"") -> bytes:
    """Open a sealed blob.

    Args:
        blob: from :func:`seal`.
        associated: as passed to :func:`seal`.

    Raises:
        FormatError: not a sealed blob.
        AuthenticityError: this enclave cannot open it: another image, signer, level or machine, a later svn,
            or a changed bit. The error does not state which.
        UsageError: outside an enclave.
    """
    here = inside("unseal")
    header, size = _parse(blob)
    head = blob[:size]
    try:
        if header.level != here.launch.level:
            raise InvalidTag
        return AESGCM(_key(here, header)).decrypt(head[-NONCE_SIZE:], blob[size:], head + associated)
    except (InvalidTag, PolicyError, UsageError):
        raise AuthenticityError("sealed blob: cannot be opened by this enclave", code="sealed") from None


class _Header(NamedTuple):
    policy: str
    svn: int
    cpusvn: bytes
    key_id: bytes
    level: str

    def encode(self) -> bytes:
        level = self.level.encode("ascii")
        return b"".join((
            MAGIC, bytes([POLICIES.index(self.policy) + 1]), self.svn.to_bytes(2, "little"), self.cpusvn,
            self.key_id, bytes([len(level)]), level,
        ))  # fmt: skip


class _Fresh(NamedTuple):
    header: _Header
    left: int = 1 << 24
    """Blobs under one key: far below the limit of 2^32 random nonces in SP 800-38D."""


def _own_header(here: Inside, policy: Policy) -> _Header:
    """The header, and so the key, that this run seals under; replaced after very many blobs."""
    with _lock:
        if (fresh := _own.get(policy)) is None or fresh.left == 0:
            fresh = _Fresh(
                _Header(policy, here.launch.svn, here.platform().cpusvn, os.urandom(32), here.launch.level)
            )
        _own[policy] = fresh._replace(left=fresh.left - 1)
    return fresh.header


def _parse(blob: bytes) -> tuple[_Header, int]:
    """Parse the part before the ciphertext; its size includes the nonce."""
    reader = Reader(blob, "sealed blob")
    if reader.take(len(MAGIC), "magic") != MAGIC:
        raise FormatError("sealed blob: does not begin as one")
    policy = reader.u8("policy")
    if not 1 <= policy <= len(POLICIES):
        raise FormatError(f"sealed blob.policy: want 1..{len(POLICIES)}, got {policy}")
    svn, cpusvn, key_id = reader.u16("svn"), reader.take(16, "cpusvn"), reader.take(32, "key_id")
    level = reader.take(reader.u8("level size"), "level")
    reader.take(NONCE_SIZE, "nonce")
    header = _Header(POLICIES[policy - 1], svn, cpusvn, key_id, level.decode("ascii", "replace"))
    return header, reader.position


def _key(here: Inside, header: _Header) -> bytes:
    with _lock:
        key = _keys.get(header)
    if key is None:
        request = SealKey(header.policy, header.svn, header.key_id, header.cpusvn)
        key = here.attester.request(request, Bytes).value
        with _lock:
            if len(_keys) >= MAX_KEYS:
                _keys.clear()
            _keys[header] = key
    return key


MAGIC: Final = b"KLUISEAL\x01"
POLICIES: Final = ("measurement", "signer")
NONCE_SIZE: Final = 12
MAX_KEYS: Final = 256
_lock = threading.Lock()
_own: dict[str, _Fresh] = {}
_keys: dict[_Header, bytes] = {}
