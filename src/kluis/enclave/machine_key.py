"""Receive keys from a key service through the vTPM of the machine that this enclave runs in.

An attestation service for confidential VMs of Azure issues a token about a whole machine: its processor, its
firmware and its registers. A key service then wraps to a key that only the machine's vTPM has. The agent in
the machine uses that key for one image only, which PCR 15 names. So a release policy that names PCR 15 and
the registers of the guest releases to this image in this guest.

The image needs the grant ``connect:kluis.machine``. Outside of a machine the host may pass any socket under
this name. A release that does not come from the expected vault is refused all the same, and so is one that
nobody but another machine can open.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from kluis.enclave import key_release
from kluis.enclave.grants import granted_socket
from kluis.enclave.inside import inside
from kluis.enclave.key_release import OpenedKey
from kluis.enclave.vaults import Vault, VaultEvidence
from kluis.errors import AuthenticityError, FormatError, PolicyError, UnavailableError, UsageError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.formats.kluis import machine_key
from kluis.formats.kluis.machine_key import GRANT, MachineOffer, Offer, Open, Opened, Refused

if TYPE_CHECKING:
    import socket

T = TypeVar("T", MachineOffer, Opened)

KEY_ID: Final = "TpmEphemeralEncryptionKey"
"""The name of the vTPM's key in a token."""
ALGORITHM: Final = "RSA_AES_KEY_WRAP_256"
"""The only mechanism by which the vTPM opens a released key."""
MODULUS_BYTES: Final = 256
MAX_ENVELOPE: Final = 256 * 1024
_ASSOCIATED: Final = b"Transport Key"
_WHAT: Final = "token envelope"


def machine_key_offer(nonce: bytes = b"") -> MachineOffer:
    """Offer a key of the machine's vTPM, with the machine's evidence, for a token of an attestation service.

    Args:
        nonce: the verifier's, at most 64 bytes.

    Raises:
        UnavailableError: this enclave does not run in a machine with a vTPM.
        PolicyError: the image does not have the grant, or another image has claimed the machine.
    """
    inside("machine_key_offer")
    return _session.ask(Offer(nonce), MachineOffer)


def open_machine_token(envelope: str) -> str:
    """Open a token that an attestation service encrypted to the offered key.

    Args:
        envelope: base64url, as the service answers.

    Raises:
        FormatError: not an envelope.
        AuthenticityError: it was encrypted to another key, or changed.
    """
    inside("open_machine_token")
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    envelope_members = Members(
        jcs.loads(b64.decode_url(envelope, _WHAT), _WHAT, max_size=MAX_ENVELOPE), _WHAT
    )
    inner, iv = (
        b64.decode(members.text(name, limit=1024), f"{_WHAT}.{name}")
        for members, name in (
            (envelope_members, "EncryptedInnerKey"),
            (envelope_members.object("EncryptionParams"), "Iv"),
        )
    )
    sealed = b"".join(
        b64.decode(envelope_members.text(name, limit=MAX_ENVELOPE), f"{_WHAT}.{name}")
        for name in ("Jwt", "AuthenticationData")
    )
    try:
        return AESGCM(_decrypt(inner, "rsaes", _WHAT)).decrypt(iv, sealed, _ASSOCIATED).decode()
    except (InvalidTag, ValueError):
        raise AuthenticityError(f"{_WHAT}: cannot be opened by this enclave", code="sealed") from None


def open_released_to_machine(
    release: str,
    *,
    vault: Vault,
    brought: VaultEvidence,
    key: str,
    now: datetime,
    version: str | None = None,
    nonce: str | None = None,
) -> OpenedKey:
    """Open a key released to the offered key of the machine's vTPM; wrapped by ``RSA_AES_KEY_WRAP_256``.

    Args and errors are those of :func:`kluis.enclave.open_released`.
    """
    inside("open_released_to_machine")
    read = key_release.check(release, vault, brought, key, now, version=version, nonce=nonce)
    if (read.recipient, read.algorithm) != (KEY_ID, ALGORITHM):
        raise AuthenticityError(
            f"released key recipient: want {KEY_ID} by {ALGORITHM}, got {read.recipient!a} by"
            f" {read.algorithm}",
            hint=f"release it on a token about this machine, with enc {ALGORITHM}",
            code="release_recipient",
        )
    wrapped = read.ciphertext[:MODULUS_BYTES]
    kek = _decrypt(wrapped, "oaep-sha256", "released key")
    return key_release.unwrap(read, kek, read.ciphertext[MODULUS_BYTES:])


def _decrypt(ciphertext: bytes, scheme: str, what: str) -> bytes:
    try:
        return _session.ask(Open(ciphertext, scheme), Opened).value
    except UnavailableError as error:
        if error.code == "machine_gone":
            raise
        raise AuthenticityError(f"{what}: cannot be opened by this enclave", code="sealed") from None


class _Session:
    """The connection to the agent of this machine, opened on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end: socket.socket | None = None

    def ask(self, request: machine_key.Request, want: type[T]) -> T:
        """Send a request, and return its reply.

        Raises:
            KluisError: the agent refuses, with the class of its error.
        """
        with self._lock:
            if self._end is None:
                self._end = _connect()
            self._end.sendall(machine_key.encode(request))
            reply = machine_key.read_reply(_receive(self._end))
        if isinstance(reply, Refused):
            raise _REFUSALS.get(reply.code, UnavailableError)(reply.message, code=reply.code)
        if not isinstance(reply, want):
            raise FormatError(f"machine key: want {want.__name__}, got {type(reply).__name__}")
        return reply


def _connect() -> socket.socket:
    try:
        return granted_socket(GRANT)
    except UsageError:
        raise UnavailableError(
            "machine key: want an enclave in a machine with a vTPM, got one outside",
            hint="kluis run --tee vm --boot uefi",
            code="driver_absent",
        ) from None


def _receive(end: socket.socket) -> bytes:
    size = machine_key.read_size(_exactly(end, machine_key.SIZE_BYTES))
    return _exactly(end, size)


def _exactly(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        if not (more := end.recv(size - len(data))):
            raise UnavailableError("machine key: the machine's agent has ended", code="machine_gone")
        data += more
    return bytes(data)


_REFUSALS: Final = {
    "machine_claimed": PolicyError,
    "usage": UsageError,
    "malformed": FormatError,
    "too_large": FormatError,
}
_session: Final = _Session()
