"""Handover: send a store's key from one instance to another of the same code, on any platform.

The host carries three messages; each instance attests itself to the other, over the other's nonce:

1. giver: ``challenge()`` returns nonce ``g``.
2. joiner: ``ask(g)`` returns evidence of purpose ``release-key`` over ``g``: a key generated here, and nonce
   ``j``.
3. giver: ``give`` judges it, and answers with the key and the store's last commit, sealed by HPKE to the
   joiner's (``info`` = a label, ``g`` and ``j``), and evidence of purpose ``store-key`` over ``j`` that names
   the hash of the sealed data.
4. joiner: ``take`` judges that evidence, and only then opens the key. Otherwise its host could send it a key
   of the host's choice, and read everything that it writes. Nothing else makes evidence of this purpose: an
   application may quote what its host chooses.

Two enclaves are equivalent if they have one image (or one signer and product, if the image's measured
arguments select this), and equal protection and debug mode. Spec: RFC 9180 (HPKE).
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
"""Returns the trusted roots, the available collateral and the time; called at each handover."""

Document = Annotated[bytes, msgspec.Meta(max_length=256 << 10)]

NONCE_BYTES: Final = 32
MAX_OPEN: Final = 16
LABEL: Final = b"kluis store handover 1\x00"


class KeyRequest(EvidenceBundle, frozen=True):
    """A joiner's request: evidence of purpose ``release-key``.

    The payload of its runtime data is the label and the joiner's nonce.
    """

    quote: Document
    runtime_data: Document
    launch_configuration: Document


class KeyGift(EvidenceBundle, frozen=True):
    """A giver's answer: the key, and evidence of purpose ``store-key`` that names its hash.

    Attributes:
        sealed: HPKE, for :func:`kluis.enclave.open_sealed`.
    """

    quote: Document
    runtime_data: Document
    launch_configuration: Document
    sealed: Annotated[bytes, msgspec.Meta(max_length=256)]


class Giver:
    """The side that has the key. Thread-safe.

    Args:
        standing: returns the inputs for judging the other's evidence.
        policy: which enclaves are equivalent.
    """

    def __init__(self, standing: Standing, policy: SealPolicy) -> None:
        self._standing = standing
        self._policy = policy
        self._open: deque[bytes] = deque(maxlen=MAX_OPEN)
        self._lock = threading.Lock()

    def challenge(self) -> bytes:
        """A nonce for one request, 32 bytes; if there are more than 16, the oldest is void."""
        nonce = os.urandom(NONCE_BYTES)
        with self._lock:
            self._open.append(nonce)
        return nonce

    def give(self, request: KeyRequest, secret: bytes) -> KeyGift:
        """Seal ``secret`` (at most 128 bytes) to an equivalent joiner.

        Raises:
            AuthenticityError, FreshnessError, FormatError: the evidence is not authentic, or not over an open
                nonce of this giver.
            PolicyError: the joiner is not equivalent; lists each rule.
        """
        message = RuntimeData.parse(request.runtime_data)
        with self._lock:
            if message.nonce not in self._open:
                raise FreshnessError("handover: want a request over an open challenge", code="nonce")
            self._open.remove(message.nonce)
        result = _judge(request, message.nonce, Purpose.RELEASE_KEY, self._policy, self._standing)
        proven = _proven_data(result)
        theirs = proven.payload.removeprefix(LABEL)
        if len(proven.keys) != 1 or len(theirs) != NONCE_BYTES or proven.payload != LABEL + theirs:
            raise AuthenticityError("handover: want a request for a store's key", code="handover")
        sealed = _seal(okp_public(proven.keys[0], "X25519"), message.nonce + theirs, secret)
        mine = attestation.store_key_evidence(theirs, _payload(message.nonce, theirs, sealed))
        return KeyGift.of(mine, sealed=sealed)


class Joiner:
    """The side that needs the key. Thread-safe.

    Args:
        standing: returns the inputs for judging the other's evidence.
        policy: which enclaves are equivalent.
    """

    def __init__(self, standing: Standing, policy: SealPolicy) -> None:
        self._standing = standing
        self._policy = policy
        self._asked: tuple[bytes, bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, challenge: bytes) -> KeyRequest:
        """Request the key; the previous request is void.

        Args:
            challenge: the giver's, 32 bytes.
        """
        nonce = os.urandom(NONCE_BYTES)
        made = attestation.release_offer(challenge, LABEL + nonce)
        with self._lock:
            self._asked = challenge, nonce
        return KeyRequest.of(made)

    def take(self, gift: KeyGift) -> bytes:
        """Open the secret that an equivalent giver has sealed to it.

        Raises:
            AuthenticityError, FreshnessError, FormatError: the evidence is not authentic, or not over the
                nonce of the last request; or it does not name the sealed key.
            PolicyError: the giver is not equivalent; lists each rule.
        """
        with self._lock:
            request, self._asked = self._asked, None
        if request is None:
            raise FreshnessError("handover: want a request before its answer", code="nonce")
        challenge, nonce = request
        result = _judge(gift, nonce, Purpose.STORE_KEY, self._policy, self._standing)
        if _proven_data(result).payload != _payload(challenge, nonce, gift.sealed):
            raise AuthenticityError("handover: want evidence of this sealed key", code="handover")
        return attestation.open_sealed(gift.sealed, info=LABEL + challenge + nonce)


def alike(policy: SealPolicy, purpose: Purpose) -> Policy:
    """A policy that accepts equivalent enclaves, with at least equal protection.

    Args:
        policy: ``measurement``: of this exact image; ``signer``: any of its signer and product. No key is
            sent to one with a lower svn; but a key from such a one is accepted, like one that it sealed.
        purpose: of the evidence: ``release-key`` for the joiner, ``store-key`` for the giver.
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


def _proven_data(result: AttestationResult) -> RuntimeData:
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
