"""Handover: a store's key goes from one instance to another of the same code, on any platform.

The host carries three messages; each instance proves itself to the other, over a nonce of the other's:

1. giver: ``challenge()`` gives nonce ``g``.
2. joiner: ``ask(g)`` gives evidence of purpose ``release-key`` over ``g``: a key made here, and nonce ``j``.
3. giver: ``give`` judges it, and answers with the key, and how far the store has come, sealed by HPKE to the
   joiner's (``info`` = a label, ``g`` and ``j``), and evidence of purpose ``app`` over ``j`` that names the
   hash of what is sealed.
4. joiner: ``take`` judges that evidence, and only then opens the key: or its host could give it a key of its
   own choice, and read all that it writes.

Like each other are two enclaves of one image (or of one signer and product, where the image's measured
arguments say so), neither protected less than the other, both open to their hosts or neither.
Spec: RFC 9180 (HPKE).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Final, TypeAlias

import msgspec

from kluis import appraisal, evidence
from kluis.appraisal import ANY, AttestationResult, ByImage, BySigner, Policy, RuntimeBinding
from kluis.enclave import attestation
from kluis.enclave.inside import inside
from kluis.enclave.sealing import Policy as SealPolicy
from kluis.errors import AuthenticityError, FreshnessError
from kluis.evidence import Collateral, ProtectionLevel, TcbStatus, TrustAnchors
from kluis.formats.kluis.bundle import EvidenceBundle
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData, okp_public
from kluis.formats.sgx.report import Report
from kluis.hashes import sha256

Standing: TypeAlias = Callable[[], tuple[TrustAnchors, Collateral, datetime]]
"""The roots trusted, the collateral in hand and the time, asked for at each handover."""

Document = Annotated[bytes, msgspec.Meta(max_length=256 << 10)]

NONCE_BYTES: Final = 32
MAX_OPEN: Final = 16
LABEL: Final = b"kluis store handover 1\x00"


class KeyRequest(EvidenceBundle, frozen=True):
    """What a joiner asks with: evidence of purpose ``release-key``.

    The payload of its runtime data is the label and the joiner's nonce.
    """

    quote: Document
    runtime_data: Document
    launch_configuration: Document


class KeyGift(EvidenceBundle, frozen=True):
    """What a giver answers: the key, and evidence of purpose ``app`` that names its hash.

    Attributes:
        sealed: HPKE, as :func:`kluis.enclave.open_sealed` opens it.
    """

    quote: Document
    runtime_data: Document
    launch_configuration: Document
    sealed: Annotated[bytes, msgspec.Meta(max_length=256)]


class Giver:
    """The side that has the key. Thread-safe.

    Args:
        standing: what the other's evidence is held against.
        policy: who is like this enclave.
    """

    def __init__(self, standing: Standing, policy: SealPolicy) -> None:
        self._standing = standing
        self._policy = policy
        self._open: deque[bytes] = deque(maxlen=MAX_OPEN)
        self._lock = threading.Lock()

    def challenge(self) -> bytes:
        """A nonce for one request, 32 bytes; the oldest of more than 16 is void."""
        nonce = os.urandom(NONCE_BYTES)
        with self._lock:
            self._open.append(nonce)
        return nonce

    def give(self, request: KeyRequest, secret: bytes) -> KeyGift:
        """Seal ``secret`` (at most 128 bytes) to a joiner that is like this enclave.

        Raises:
            AuthenticityError, FreshnessError, FormatError: the evidence is not authentic, or over no nonce
                of this giver's that is still open.
            PolicyError: the joiner is not like this enclave; names each rule.
        """
        message = RuntimeData.parse(request.runtime_data)
        with self._lock:
            if message.nonce not in self._open:
                raise FreshnessError("handover: want a request over an open challenge", code="nonce")
            self._open.remove(message.nonce)
        result = _judge(request, message.nonce, Purpose.RELEASE_KEY, self._policy, self._standing)
        proven = _proven(result)
        theirs = proven.payload.removeprefix(LABEL)
        if len(proven.keys) != 1 or len(theirs) != NONCE_BYTES or proven.payload != LABEL + theirs:
            raise AuthenticityError("handover: want a request for a store's key", code="handover")
        sealed = _seal(okp_public(proven.keys[0], "X25519"), message.nonce + theirs, secret)
        mine = attestation.quote(_payload(message.nonce, theirs, sealed), nonce=theirs)
        return KeyGift.of(mine, sealed=sealed)


class Joiner:
    """The side that wants the key. Thread-safe.

    Args:
        standing: what the other's evidence is held against.
        policy: who is like this enclave.
    """

    def __init__(self, standing: Standing, policy: SealPolicy) -> None:
        self._standing = standing
        self._policy = policy
        self._asked: tuple[bytes, bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, challenge: bytes) -> KeyRequest:
        """Ask for the key; the request before is void.

        Args:
            challenge: the giver's, 32 bytes.
        """
        nonce = os.urandom(NONCE_BYTES)
        made = attestation.release_offer(challenge, LABEL + nonce)
        with self._lock:
            self._asked = challenge, nonce
        return KeyRequest.of(made)

    def take(self, gift: KeyGift) -> bytes:
        """What a giver that is like this enclave has sealed to it.

        Raises:
            AuthenticityError, FreshnessError, FormatError: the evidence is not authentic, or not over the
                nonce of the last request; or the sealed key is another than it names.
            PolicyError: the giver is not like this enclave; names each rule.
        """
        with self._lock:
            asked, self._asked = self._asked, None
        if asked is None:
            raise FreshnessError("handover: want a request before its answer", code="nonce")
        challenge, nonce = asked
        result = _judge(gift, nonce, Purpose.APP, self._policy, self._standing)
        if _proven(result).payload != _payload(challenge, nonce, gift.sealed):
            raise AuthenticityError("handover: want evidence of this sealed key", code="handover")
        return attestation.open_sealed(gift.sealed, info=LABEL + challenge + nonce)


def alike(policy: SealPolicy, purpose: Purpose) -> Policy:
    """A policy that accepts enclaves like this one, no lower protected.

    Args:
        policy: ``measurement``: of this very image; ``signer``: any of its signer and product. To one of a
            lower svn no key is given; from one it is taken, as it is unsealed when such a one sealed it.
        purpose: of the evidence: ``release-key`` of who wants the key, ``app`` of who gives it.
    """
    here = inside("handover")
    launch = LaunchConfiguration.parse(here.launch.launch_configuration)
    levels = list(ProtectionLevel)
    mine = levels.index(ProtectionLevel(here.launch.level))
    body = Report.parse(attestation.report(attestation.target_info()).report).body
    identity: ByImage | BySigner = ByImage(image_ids=frozenset({body.mrenclave}))
    if policy == "signer":
        least = body.isvsvn if purpose is Purpose.RELEASE_KEY else 0
        identity = BySigner(signers=frozenset({body.mrsigner}), product_id=body.isvprodid, min_svn=least)
    return Policy(
        protection=frozenset(levels[mine:]) - {ProtectionLevel.HARDWARE_GPU},
        debug=levels[mine] is ProtectionLevel.NONE,
        denylists=True,
        identity=identity,
        tcb_statuses=frozenset({TcbStatus.UP_TO_DATE}),
        advisories=frozenset(),
        min_evaluation=0,
        min_tcb_date=ANY,
        max_collateral_age=timedelta(days=30),
        max_evidence_age=timedelta(minutes=5),
        binding=RuntimeBinding(
            purpose=purpose,
            nonce=True,
            missing=frozenset(launch.missing),
            counters=frozenset({launch.counter}),
            insecure=frozenset(grant for grant in launch.grants if grant.startswith("insecure_")),
        ),
        emulated_roots=(),
    )


def _judge(
    message: KeyRequest | KeyGift, nonce: bytes, purpose: Purpose, policy: SealPolicy, standing: Standing
) -> AttestationResult:
    anchors, collateral, now = standing()
    verified = evidence.verify(message.quote, anchors=anchors, collateral=collateral, now=now)
    result = appraisal.appraise(
        verified,
        alike(policy, purpose),
        nonce=nonce,
        runtime_data=message.runtime_data,
        launch_configuration=message.launch_configuration,
        now=now,
    )
    result.require()
    return result


def _proven(result: AttestationResult) -> RuntimeData:
    if result.runtime_data is None:
        raise AuthenticityError("handover: want runtime data", code="runtime_data")
    return result.runtime_data


def _payload(challenge: bytes, nonce: bytes, sealed: bytes) -> bytes:
    return LABEL + sha256(challenge + nonce + sealed)


def _seal(public: bytes, nonces: bytes, key: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    return suite.encrypt(key, X25519PublicKey.from_public_bytes(public), LABEL + nonces)
