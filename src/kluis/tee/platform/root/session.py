"""One enclave's session with its platform: one handshake, then an encrypted answer for each request.

The kernel proves which process sent the hello: the hello comes with a listening socket that is bound to a
name derived from it. Root can duplicate a descriptor and send first, and can send with any process's
credentials (SCM_CREDENTIALS), but it cannot listen as another process. The name includes a challenge that is
sent only after the process was confirmed to execute the launcher, so an earlier program of that process
cannot have prepared it. The process is confirmed again after the hello: root could have ended it meanwhile,
and given its pid to another.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from kluis.errors import AuthenticityError, FormatError, KluisError, UsageError
from kluis.formats.kluis import channel
from kluis.formats.sgx.report import Flag
from kluis.formats.sgx.targetinfo import TargetInfo, target_of
from kluis.tee.platform.root import quoting, reports
from kluis.tee.platform.root.authority import Authority
from kluis.tee.platform.root.counters import Counters
from kluis.tee.platform.root.enrolled import Enrolled
from kluis.tee.platform.root.identity import Identity
from kluis.tee.platform.root.keys import Secret
from kluis.tee.platform.root.quoting import PlatformKeys

CREDENTIALS_SIZE = 12


@dataclasses.dataclass(slots=True)
class Root:
    """The platform's keys and state, from which answers are made.

    Attributes:
        version: SHA-256 over launcher and guardian, 32 bytes.
        enrolled: certification by a provisioning service; None under its own authority.
        endorsement: of the root by the machine's TEE, JSON; None outside of a machine.
        reseal: seals the secret for an announced boot, too, given its PCR values; None without a TPM.
    """

    level: str
    secret: Secret
    authority: Authority
    keys: PlatformKeys
    counters: Counters
    version: bytes
    enrolled: Enrolled | None = None
    endorsement: bytes | None = None
    reseal: Callable[[Mapping[int, bytes]], None] | None = None

    def root_pem(self) -> bytes:
        """The root certificate of the platform's certifier."""
        return self.enrolled.root if self.enrolled else self.authority.root_pem()

    def collateral(self) -> bytes:
        """Signed collateral, JSON in the format of ``dcap-qvl``: fresh, or from the service.

        In a machine, it has the endorsement of the root, unless the service's root certifies the platform.
        """
        if self.enrolled is not None:
            return self.enrolled.collateral
        bundle = self.authority.collateral(datetime.now(UTC))
        if self.endorsement is not None:
            bundle["endorsement"] = self.endorsement.decode()
        return json.dumps(bundle, indent=1).encode()


def accept(end: socket.socket, answer: channel.Answer, enclave: Callable[[], int]) -> channel.Channel:
    """Answer the only hello of a launch.

    Args:
        end: the platform's end.
        answer: of the launch, whose public key the enclave received.
        enclave: returns the enclave's pid on this machine, once it was confirmed to execute the launcher;
            called before the challenge and after the hello.

    Raises:
        AuthenticityError: another process sent it.
        FormatError: not a hello.
    """
    if not (first := end.recv(channel.MAX_FRAME)):
        raise AuthenticityError("channel handshake: the enclave ended before it", code="enclave_died")
    if first != channel.READY:
        raise FormatError(f"channel handshake: want READY, got {len(first)} other bytes")
    wanted = enclave()
    challenge = secrets.token_bytes(channel.CHALLENGE_SIZE)
    end.send(challenge)
    data, descriptors, _, _ = socket.recv_fds(end, channel.MAX_FRAME, 1)
    sender = 0
    for descriptor in descriptors:
        sender = _sender(descriptor, data, challenge)
    if not data:
        raise AuthenticityError("channel handshake: the enclave ended before it", code="enclave_died")
    if not wanted or sender != wanted:
        raise AuthenticityError(
            f"channel handshake: sender: want pid {wanted}, got {sender}", code="channel_sender"
        )
    enclave()  # the pid may be another process's by now
    sealed = answer.to(data)
    end.send(answer.hello)
    return sealed


def _sender(descriptor: int, hello: bytes, challenge: bytes) -> int:
    """The sender's pid, from the listening socket that came with the hello; 0 if the socket does not prove
    it.

    The kernel records who called listen(2) on a socket, and a name can be bound once. For a socketpair it
    records the creator, and anyone may name its ends: so only a listening socket counts.
    """
    try:
        proof = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        return 0
    try:
        with proof:
            if (
                proof.family != socket.AF_UNIX
                or not proof.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                or proof.getsockname() != channel.proof_name(hello, challenge)
            ):
                return 0
            raw = proof.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS_SIZE)
            return int.from_bytes(raw[:4], "little")
    except OSError:  # closed by now: its number may be another's
        return 0


def serve(end: socket.socket, sealed: channel.Channel, who: Identity, root: Root, user: int = 0) -> None:
    """Answer requests until the enclave closes the session.

    Args:
        end: the platform's end.
        sealed: the session's channel.
        who: identity of the enclave.
        root: the platform's keys and state.
        user: that launched it, and is charged for its counters.

    Raises:
        AuthenticityError: a frame that is not the session's next: the enclave must end.
    """
    while frame := end.recv(channel.MAX_FRAME + 1):
        request = sealed.open_request(frame)
        try:
            reply = _answer(request, who, root, user)
        except KluisError as error:
            reply = channel.Refused(error.code, error.message)
        end.send(sealed.seal_reply(reply))


def _answer(request: channel.Request, who: Identity, root: Root, user: int) -> channel.Reply:
    match request:
        case channel.Counter():  # first: a ledger waits for it in each commit
            return _count(request, who, root, user)
        case channel.TargetInfo():
            return channel.Bytes(target_of(who.body(bytes(64))).encode())
        case channel.Report():
            body = who.body(_check_size(request.report_data))
            target = TargetInfo.parse(request.target_info)
            return channel.Bytes(reports.make_report(body, target, root.secret.report_root))
        case channel.VerifyReport():
            try:
                reports.verify_report(request.report, who.body(bytes(64)), root.secret.report_root)
            except AuthenticityError:
                return channel.Truth(False)
            return channel.Truth(True)
        case channel.Quote():
            return channel.Bytes(quoting.make_quote(who.body(_check_size(request.report_data)), root.keys))
        case channel.SealKey():
            key = root.secret.seal_key(
                who, policy=request.policy, svn=request.svn, key_id=request.key_id, cpusvn=request.cpusvn
            )
            return channel.Bytes(key)
        case channel.Info():
            return channel.Platform(root.level, root.root_pem(), root.collateral(), root.version, who.cpusvn)


def _check_size(report_data: bytes) -> bytes:
    if len(report_data) != 64:
        raise UsageError(f"report_data: want 64 bytes, got {len(report_data)}")
    return report_data


def _count(request: channel.Counter, who: Identity, root: Root, user: int) -> channel.Count:
    if len(request.id) != 32:
        raise UsageError(f"counter.id: want 32 bytes, got {len(request.id)}")
    owner = _owner(who, request.policy)
    if request.op == "read":
        return channel.Count(*root.counters.read(owner, request.id))
    if request.op == "increment":
        return channel.Count(*root.counters.increment(owner, request.id, user))
    if request.op == "advance":
        return channel.Count(*root.counters.advance(owner, request.id, request.to, request.mark, user))
    raise UsageError(f"counter.op: want read, increment or advance, got {request.op[:40]!r}")


def _owner(who: Identity, policy: str) -> str:
    """The owner of a counter: all enclaves that can derive the sealing key of the same policy share it.

    Anyone can sign an image again. A counter of its signer would then be another one, at 0, although the key
    of its measurement is the same.
    """
    debug = "debug" if who.flags & Flag.DEBUG else "release"
    if policy == "signer":
        return f"{who.mrsigner.hex()}/{who.product_id}/{debug}"
    if policy == "measurement":
        return f"measurement/{who.mrenclave.hex()}/{debug}"
    raise UsageError(f"counter.policy: want measurement or signer, got {policy[:40]!r}")
