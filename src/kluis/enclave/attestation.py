"""Attestation from inside: reports for local enclaves, quotes for remote verifiers, and attested keys.

report_data cannot be chosen freely. All evidence contains the hash of *runtime data*, whose purpose the
runtime sets: ``app`` for an application's requests, and ``cli`` for its host's. The purposes ``release-key``,
``receipt`` and ``ledger-node`` are for a key that was generated here and never leaves, and ``store-key`` is
for a store's key that this enclave has. So nobody can make a genuine enclave attest a foreign key. Spec: RFC
9180 (HPKE); docs/concepts/evidence.md.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

from kluis.enclave.inside import Inside, inside
from kluis.errors import AuthenticityError, FreshnessError
from kluis.formats.kluis import channel
from kluis.formats.kluis.bundle import EvidenceBundle
from kluis.formats.kluis.runtime_data import Jwk, Purpose, RuntimeData, okp_key, report_data
from kluis.formats.sgx.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

K = TypeVar("K")


class Evidence(EvidenceBundle, frozen=True):
    """A quote and the two documents whose hashes it contains; may be an ecall's result."""


class LocalReport(msgspec.Struct, frozen=True):
    """A report for one local enclave on this platform; may be an ecall's argument or result.

    Attributes:
        report: 432 bytes.
        runtime_data: canonical JSON, as for :class:`Evidence`.
    """

    report: bytes
    runtime_data: bytes


class Peer(msgspec.Struct, frozen=True):
    """The enclave that made a verified report.

    Attributes:
        measurement: MRENCLAVE, 32 bytes.
        signer: MRSIGNER, 32 bytes.
        product_id: 0..65535.
        svn: 0..65535.
        debug: whether its host can read its memory.
        payload: its message.
    """

    measurement: bytes
    signer: bytes
    product_id: int
    svn: int
    debug: bool
    payload: bytes


def target_info() -> bytes:
    """This enclave's TARGETINFO (512 bytes), for the local enclave that will make a report."""
    return inside("target_info").attester.request(channel.TargetInfo(), channel.Bytes).value


def report(target: bytes, payload: bytes = b"", *, nonce: bytes = b"") -> LocalReport:
    """Make a report that only the enclave behind ``target`` can check.

    Args:
        target: the other enclave's TARGETINFO, 512 bytes.
        payload: the message, at most 128 KiB.
        nonce: the other enclave's, at most 64 bytes.

    Raises:
        FormatError: an argument is out of bounds.
    """
    here = inside("report")
    document = _document(here, Purpose.APP, nonce, payload)
    made = here.attester.request(channel.Report(target, report_data(document)), channel.Bytes)
    return LocalReport(made.value, document)


def verify_report(made: LocalReport, *, nonce: bytes = b"") -> Peer:
    """Check a report that was made for this enclave.

    1. The platform confirms that its MAC was made here, for this enclave.
    2. The report's data is the hash of the runtime data, purpose ``app``.
    3. The runtime data names the report's measurement, and contains ``nonce``.

    Raises:
        AuthenticityError: made on another platform, for another enclave, or changed; or without
            runtime data, or of another purpose.
        FreshnessError: another nonce.
        FormatError: not a report, or not runtime data.
    """
    here = inside("verify_report")
    body = Report.parse(made.report).body
    if not here.attester.request(channel.VerifyReport(made.report), channel.Truth).value:  # 1
        raise AuthenticityError("report: not made on this platform for this enclave", code="report_mac")
    if body.report_data != report_data(made.runtime_data):  # 2
        raise AuthenticityError("report: is not over this runtime data", code="runtime_data")
    runtime_data = RuntimeData.parse(made.runtime_data)
    if runtime_data.purpose is not Purpose.APP:
        raise AuthenticityError(f"report purpose: want app, got {runtime_data.purpose}", code="purpose")
    if runtime_data.image_id != body.mrenclave:  # 3
        raise AuthenticityError(
            f"runtime data image_id: want {body.mrenclave.hex()}, got {runtime_data.image_id.hex()}",
            code="runtime_data",
        )
    if runtime_data.nonce != nonce:
        raise FreshnessError(
            f"report nonce: want {nonce.hex()}, got {runtime_data.nonce.hex()}", code="nonce"
        )
    return Peer(body.mrenclave, body.mrsigner, body.isvprodid, body.isvsvn, body.debug, runtime_data.payload)


def quote(payload: bytes = b"", *, nonce: bytes = b"") -> Evidence:
    """Make evidence of purpose ``app``, which anyone with the platform's root can verify.

    Args:
        payload: the message, at most 128 KiB.
        nonce: the verifier's, at most 64 bytes.

    Raises:
        FormatError: an argument is out of bounds.
    """
    return _quote(inside("quote"), Purpose.APP, nonce, payload)


def release_offer(nonce: bytes, payload: bytes = b"") -> Evidence:
    """Offer this run's X25519 key, to which secrets are sealed for :func:`open_sealed`.

    Args:
        nonce: the owner's, at most 64 bytes; each release needs a new one.
        payload: at most 128 KiB.
    """
    here = inside("release_offer")
    key = okp_key("X25519", _release_key.get().public_key().public_bytes_raw())
    return _quote(here, Purpose.RELEASE_KEY, nonce, payload, key)


def open_sealed(sealed: bytes, *, info: bytes = b"") -> bytes:
    """Open data sealed to this run's key.

    Args:
        sealed: HPKE base mode: 32 bytes of encapsulated key, ciphertext, tag. DHKEM(X25519,
            HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
        info: agreed between sender and opener, such as an agreement's hash.

    Raises:
        AuthenticityError: not sealed to this run's key with this ``info``, or changed.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    inside("open_sealed")
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    try:
        return suite.decrypt(sealed, _release_key.get(), info)
    except (InvalidTag, ValueError):
        raise AuthenticityError("sealed message: cannot be opened by this enclave", code="sealed") from None


def receipt_offer(nonce: bytes = b"", payload: bytes = b"") -> Evidence:
    """Offer this run's Ed25519 key, which signs receipts."""
    here = inside("receipt_offer")
    key = okp_key("Ed25519", _receipt_key.get().public_key().public_bytes_raw())
    return _quote(here, Purpose.RECEIPT, nonce, payload, key)


def release_key_evidence(nonce: bytes, payload: bytes, key: Jwk) -> Evidence:
    """Evidence of an RSA key generated here; called only by :mod:`kluis.enclave.key_release`."""
    return _quote(inside("release_key_offer"), Purpose.RELEASE_KEY, nonce, payload, key)


def ledger_node_evidence(payload: bytes, key: Jwk) -> Evidence:
    """Evidence of a ledger's node and its key; only :mod:`kluis.services.ledger.inside` calls this."""
    return _quote(inside("ledger_node"), Purpose.LEDGER_NODE, b"", payload, key)


def store_key_evidence(nonce: bytes, payload: bytes) -> Evidence:
    """Evidence of a store's sealed key; called only by :mod:`kluis.enclave.store.keys.handover`."""
    return _quote(inside("store_key"), Purpose.STORE_KEY, nonce, payload)


def channel_evidence(nonce: bytes, binding: bytes) -> Evidence:
    """Evidence bound to a connection that ends here; called only by ``attested_tls.judge``."""
    return _quote(inside("channel"), Purpose.CHANNEL, nonce, binding)


def sign_receipt(receipt: bytes) -> bytes:
    """Sign a receipt with this run's Ed25519 key: 64 bytes (RFC 8032)."""
    inside("sign_receipt")
    return _receipt_key.get().sign(receipt)


def host_evidence(nonce: bytes, app_data: bytes) -> Evidence:
    """Answer the host's own request for evidence, of purpose ``cli``; called only by the runtime."""
    return _quote(inside("attest"), Purpose.CLI, nonce, app_data)


def _quote(here: Inside, purpose: Purpose, nonce: bytes, payload: bytes, *keys: Jwk) -> Evidence:
    document = _document(here, purpose, nonce, payload, *keys)
    made = here.attester.request(channel.Quote(report_data(document)), channel.Bytes)
    return Evidence(made.value, document, here.launch.launch_configuration)


def _document(here: Inside, purpose: Purpose, nonce: bytes, payload: bytes, *keys: Jwk) -> bytes:
    return RuntimeData(
        purpose=purpose, image_id=here.launch.image_id, nonce=nonce, keys=keys, payload=payload
    ).encode()


class RunKey(Generic[K]):
    """A key of this run, generated on first use, and lost at its end.

    Args:
        make: generates the key.
    """

    def __init__(self, make: Callable[[], K]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._key: K | None = None

    def get(self) -> K:
        """The key."""
        with self._lock:
            if self._key is None:
                self._key = self._make()
            return self._key


def _x25519() -> X25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.generate()


def _ed25519() -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate()


_release_key: Final = RunKey(_x25519)
_receipt_key: Final = RunKey(_ed25519)
